-- Not Diesel: of the millions of steps that years of runs leave, almost none has to be read. Whether a version was
-- ever applied with another text is asked of the index, which knows less and greater and not unequal. Only for such a
-- version does it matter what each schema that is still there had last.
WITH now AS (
    SELECT version, checksum
    FROM unnest($1, $2) AS given (version, checksum)
    WHERE EXISTS (SELECT FROM tenantry.run_step s WHERE s.version = given.version AND s.checksum < given.checksum)
       OR EXISTS (SELECT FROM tenantry.run_step s WHERE s.version = given.version AND s.checksum > given.checksum)
), last AS (
    SELECT DISTINCT ON (s.schema, s.version) s.schema, s.version, s.up, s.checksum <> now.checksum AS edited
    FROM tenantry.run_step s JOIN now USING (version)
    ORDER BY s.schema, s.version, s.id DESC
)
SELECT DISTINCT version
FROM last JOIN pg_catalog.pg_namespace ON nspname = schema
WHERE up AND edited
ORDER BY 1
