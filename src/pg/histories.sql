-- Which schemas ($1) exist, and whether their history ($2) can be read. Not Diesel, whose DSL has no catalog. Written for
-- any path, a tenant's own too: every function and operator is named with its schema.
SELECT schema, usable, history IS NOT NULL AS present,
       coalesce(pg_catalog.has_table_privilege(history, 'SELECT'), false) AS readable,
       coalesce((SELECT {is_plain} FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) history), false) AS plain
FROM (SELECT nspname::text AS schema, usable,
             CASE WHEN usable THEN pg_catalog.to_regclass(pg_catalog.concat(
                 pg_catalog.quote_ident(nspname), '.', pg_catalog.quote_ident($2))) END AS history
      FROM (SELECT nspname, pg_catalog.has_schema_privilege(oid, 'USAGE') AS usable
            FROM pg_catalog.pg_namespace
            -- As names, for which there is an index.
            WHERE nspname OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.name[])) known OFFSET 0) found
