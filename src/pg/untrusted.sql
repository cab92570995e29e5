-- The tables of these schemas ($1) whose reading runs a function of a role that is not trusted. Not Diesel, whose DSL has
-- no catalog. Trusted are superusers, who need no trick, the owner of the database and that of the schema tenantry, which
-- is the role that migrates, and the role itself.
--
-- The planner evaluates what is constant in the expressions of a table's indexes, statistics and partition key, and a
-- cast belongs to a type and not to a path. Most often no such function is there, and the rest costs nothing.
WITH RECURSIVE functions AS MATERIALIZED (
    SELECT f.oid FROM pg_catalog.pg_proc f
    WHERE f.oid >= 16384 AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_roles r
        WHERE r.oid = f.proowner AND (
            r.rolsuper OR r.rolname = current_user
            OR r.oid = (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database())
            OR r.oid = (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'tenantry')))
), objects AS MATERIALIZED (
    SELECT 'pg_catalog.pg_proc'::regclass::oid AS class, oid FROM functions
    UNION ALL
    SELECT 'pg_catalog.pg_operator'::regclass, o.oid
    FROM pg_catalog.pg_operator o JOIN functions f ON f.oid = o.oprcode
), types AS (
    SELECT t.oid FROM pg_catalog.pg_cast k JOIN functions f ON f.oid = k.castfunc
    JOIN pg_catalog.pg_type t ON t.oid IN (k.castsource, k.casttarget)
    WHERE t.oid >= 16384
    UNION
    SELECT t.oid FROM pg_catalog.pg_type t JOIN types b ON b.oid = t.typbasetype
), bound AS (
    SELECT i.indrelid AS relation, 'an index' AS what
    FROM objects o JOIN pg_catalog.pg_depend d ON d.refclassid = o.class AND d.refobjid = o.oid
    JOIN pg_catalog.pg_index i ON d.classid = 'pg_catalog.pg_class'::regclass AND i.indexrelid = d.objid
    UNION ALL
    SELECT p.partrelid, 'a partition key'
    FROM objects o JOIN pg_catalog.pg_depend d ON d.refclassid = o.class AND d.refobjid = o.oid
    JOIN pg_catalog.pg_partitioned_table p ON d.classid = 'pg_catalog.pg_class'::regclass AND p.partrelid = d.objid
    UNION ALL
    SELECT s.stxrelid, 'statistics'
    FROM objects o JOIN pg_catalog.pg_depend d ON d.refclassid = o.class AND d.refobjid = o.oid
    JOIN pg_catalog.pg_statistic_ext s ON d.classid = 'pg_catalog.pg_statistic_ext'::regclass AND s.oid = d.objid
    UNION ALL
    SELECT d.objid, 'a column''s type with a cast'
    FROM types t JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid = t.oid
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objsubid > 0
)
SELECT DISTINCT ON (n.nspname, c.relname) n.nspname::text AS schema, c.relname::text AS table, b.what
FROM bound b JOIN pg_catalog.pg_class c ON c.oid = b.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p')
ORDER BY n.nspname, c.relname, b.what
