-- Which of these schemas ($1) have something of these names ($2); where the name is empty, anything at all. Not
-- Diesel, whose DSL has no catalog. Types of public are everybody's: that is where they belong.
SELECT DISTINCT x.schema, x.name
FROM unnest($1::text[], $2::text[]) x(schema, name)
JOIN pg_catalog.pg_namespace n ON n.nspname = x.schema
WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenantry')
  AND CASE WHEN x.name = '' THEN EXISTS (
      SELECT FROM pg_catalog.pg_depend y
      WHERE y.refclassid = 'pg_catalog.pg_namespace'::regclass AND y.refobjid = n.oid
        AND y.classid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                        WHERE e.classid = y.classid AND e.objid = y.objid AND e.deptype = 'e'))
  ELSE EXISTS (
      SELECT FROM (
          SELECT 'pg_catalog.pg_class'::regclass::oid AS class, c.oid FROM pg_catalog.pg_class c
          WHERE c.relname = x.name AND c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
          UNION ALL
          SELECT 'pg_catalog.pg_proc'::regclass, f.oid FROM pg_catalog.pg_proc f
          WHERE f.proname = x.name AND f.pronamespace = n.oid
          UNION ALL
          SELECT 'pg_catalog.pg_type'::regclass, t.oid FROM pg_catalog.pg_type t
          LEFT JOIN pg_catalog.pg_class r ON r.oid = t.typrelid
          WHERE t.typname = x.name AND t.typnamespace = n.oid AND n.nspname <> 'public'
            AND (t.typrelid = 0 OR r.relkind = 'c')) o
      WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                        WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e')) END
