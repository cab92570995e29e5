-- What the queries beside this one have in common, each of which tells objects of many schemas as one row each:
-- schema, kind, table, name, facts. Not Diesel, whose DSL has no catalog. $1 names the schemas, $2 ends the path that
-- definitions are printed with, $3 is the history table.
--
-- A definition is printed with its own schema on the path, so that what is of the schema comes bare and all else
-- qualified. Each row sets the path for itself, in a CASE, whose order of evaluation is certain. pg_catalog stays
-- first and pg_temp comes last, so that no tenant's function and no temporary table stands in for another.
WITH schemas AS MATERIALIZED (
    SELECT n.oid, n.nspname, quote_ident(n.nspname) || $2 || ', pg_temp' AS path
    FROM pg_catalog.pg_namespace n
    WHERE n.nspname = ANY ($1) AND has_schema_privilege(n.oid, 'USAGE')
), extended AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
), relations AS MATERIALIZED (
    -- What is in a schema depends on it, and is found by an index; pg_class has none for that, and is long where there
    -- are many tenants. Joining it is also what keeps Citus' shards out.
    SELECT c.oid, c.relname, c.relkind, c.relnamespace AS schema, c.relispartition, c.relpersistence, c.reloptions,
           c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relpartbound, s.path
    FROM schemas s
    JOIN pg_catalog.pg_depend y ON y.refclassid = 'pg_catalog.pg_namespace'::regclass AND y.refobjid = s.oid
                               AND y.classid = 'pg_catalog.pg_class'::regclass
    JOIN pg_catalog.pg_class c ON c.oid = y.objid
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relname <> $3
      AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid)
), sequences AS NOT MATERIALIZED (
    SELECT q.seqrelid, format_type(q.seqtypid, NULL) AS type, concat_ws(' ',
               CASE WHEN q.seqincrement <> 1 THEN 'INCREMENT BY ' || q.seqincrement END,
               CASE WHEN q.seqmin <> 1 THEN 'MINVALUE ' || q.seqmin END,
               CASE WHEN q.seqmax <> CASE q.seqtypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647
                                     ELSE 9223372036854775807 END THEN 'MAXVALUE ' || q.seqmax END,
               CASE WHEN q.seqstart <> 1 THEN 'START WITH ' || q.seqstart END,
               CASE WHEN q.seqcache <> 1 THEN 'CACHE ' || q.seqcache END,
               CASE WHEN q.seqcycle THEN 'CYCLE' END) AS options
    FROM pg_catalog.pg_sequence q
)
