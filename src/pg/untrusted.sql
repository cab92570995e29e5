-- The tables of these schemas ($1) whose reading runs a function of a role that is not trusted. Not Diesel, whose DSL has
-- no catalog.
--
-- The planner evaluates what is constant in the expressions of a table's indexes, statistics and partition key, and a
-- cast belongs to a type and not to a path. Most often no such function is there, and the rest costs nothing.
WITH RECURSIVE functions AS MATERIALIZED (
    SELECT f.oid FROM pg_catalog.pg_proc f
    WHERE f.oid >= 16384 AND NOT {is_trusted}
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
), reached AS (
    -- To read a table is to read its children.
    SELECT relation, what FROM bound
    UNION
    SELECT h.inhparent, r.what FROM reached r JOIN pg_catalog.pg_inherits h ON h.inhrelid = r.relation
)
SELECT DISTINCT ON (n.nspname, c.relname) n.nspname::text AS schema, c.relname::text AS table, b.what
FROM reached b JOIN pg_catalog.pg_class c ON c.oid = b.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p')
ORDER BY n.nspname, c.relname, b.what
