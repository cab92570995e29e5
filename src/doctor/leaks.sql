-- What in these schemas ($1) is bound to something in another one. Not Diesel, whose DSL has no catalog.
-- PostgreSQL's own and the extensions' objects are everybody's.
WITH schemas AS MATERIALIZED (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY ($1)
), extended AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
), relations AS MATERIALIZED (
    SELECT c.oid, c.relname, c.relkind, c.relnamespace, s.nspname
    FROM pg_catalog.pg_class c JOIN schemas s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
      AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid)
), bound AS (
    SELECT r.nspname, 'foreign key' AS kind, r.relname AS "table", k.conname AS name,
           'pg_catalog.pg_class'::regclass::oid AS class, k.confrelid AS object
    FROM relations r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid
    WHERE k.contype = 'f' AND k.conparentid = 0
    UNION ALL
    SELECT r.nspname, 'trigger', r.relname, t.tgname, 'pg_catalog.pg_proc'::regclass, t.tgfoid
    FROM relations r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid
    WHERE NOT t.tgisinternal AND t.tgparentid = 0
    UNION ALL
    SELECT r.nspname, 'inheritance', r.relname, r.relname, 'pg_catalog.pg_class'::regclass, h.inhparent
    FROM relations r JOIN pg_catalog.pg_inherits h ON h.inhrelid = r.oid
    UNION ALL
    SELECT r.nspname, CASE WHEN a.attgenerated = '' THEN 'default' ELSE 'generated column' END, r.relname, a.attname,
           d.refclassid, d.refobjid
    FROM relations r
    JOIN pg_catalog.pg_attrdef f ON f.adrelid = r.oid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = f.adnum
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = f.oid
    WHERE d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
    UNION ALL
    -- Up to PostgreSQL 14 it is the computed column itself that depends on what it uses.
    SELECT r.nspname, 'generated column', r.relname, a.attname, d.refclassid, d.refobjid
    FROM relations r
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attgenerated <> ''
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = r.oid AND d.objsubid = a.attnum
    WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass
    UNION ALL
    SELECT r.nspname, 'type', r.relname, a.attname, 'pg_catalog.pg_type'::regclass, coalesce(e.oid, t.oid)
    FROM relations r
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    WHERE r.relkind IN ('r', 'p', 'f') AND (a.attislocal OR a.attinhcount = 0)
      -- Types of public are everybody's: that is where they belong.
      AND t.typnamespace NOT IN ('pg_catalog'::regnamespace, r.relnamespace)
      AND t.typnamespace IS DISTINCT FROM to_regnamespace('public')
    UNION ALL
    SELECT r.nspname, 'constraint', r.relname, k.conname, d.refclassid, d.refobjid
    FROM relations r
    JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::regclass AND d.objid = k.oid
    WHERE k.contype IN ('c', 'x') AND k.conparentid = 0 AND k.coninhcount = 0
      AND d.refclassid = 'pg_catalog.pg_proc'::regclass
    UNION ALL
    SELECT r.nspname, 'index', r.relname, x.relname, d.refclassid, d.refobjid
    FROM relations r
    JOIN pg_catalog.pg_index i ON i.indrelid = r.oid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid AND NOT x.relispartition
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.indexrelid
    WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass
    UNION ALL
    SELECT r.nspname, 'policy', r.relname, o.polname, d.refclassid, d.refobjid
    FROM relations r
    JOIN pg_catalog.pg_policy o ON o.polrelid = r.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = o.oid
    WHERE d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
    UNION ALL
    -- Only what PostgreSQL has looked up already: BEGIN ATOMIC, defaults of arguments, an aggregate's own functions.
    SELECT s.nspname, 'function', '', f.proname || '()', d.refclassid, d.refobjid
    FROM schemas s
    JOIN pg_catalog.pg_proc f ON f.pronamespace = s.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = f.oid
    WHERE d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
      AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = f.oid)
    UNION ALL
    SELECT r.nspname, CASE WHEN w.rulename <> '_RETURN' THEN 'rule' WHEN r.relkind = 'm' THEN 'materialized view' ELSE 'view' END,
           r.relname, w.rulename, d.refclassid, d.refobjid
    FROM relations r
    JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
    WHERE d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
), placed AS (
    SELECT b.*, c.relnamespace AS target, c.relname AS target_name
    FROM bound b JOIN pg_catalog.pg_class c ON c.oid = b.object WHERE b.class = 'pg_catalog.pg_class'::regclass
    UNION ALL
    SELECT b.*, f.pronamespace, f.proname || '()'
    FROM bound b JOIN pg_catalog.pg_proc f ON f.oid = b.object WHERE b.class = 'pg_catalog.pg_proc'::regclass
    UNION ALL
    SELECT b.*, t.typnamespace, t.typname
    FROM bound b JOIN pg_catalog.pg_type t ON t.oid = b.object WHERE b.class = 'pg_catalog.pg_type'::regclass
)
SELECT DISTINCT p.nspname::text AS schema, p.kind, p."table"::text AS "table", p.name::text AS name,
       n.nspname::text AS target_schema, p.target_name::text AS target_name
FROM placed p JOIN pg_catalog.pg_namespace n ON n.oid = p.target
WHERE n.nspname <> p.nspname AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = p.class AND e.objid = p.object)
ORDER BY 1, 2, 3, 4, 5, 6
