-- Owners and grants of many schemas, in the shape of those in objects/. Not Diesel, whose DSL has no catalog.
-- $1 names the schemas, $3 is the history table. A role that bears the schema's name is told by a star in its
-- place, so that tenant_a's role of its own equals tenant_b's.
WITH schemas AS MATERIALIZED (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n
    WHERE n.nspname = ANY ($1) AND has_schema_privilege(n.oid, 'USAGE')
), extended AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
), owned AS (
    SELECT s.oid AS schema, s.nspname, 'the schema' AS name, s.nspowner AS owner,
           coalesce(s.nspacl, acldefault('n', s.nspowner)) AS acl
    FROM schemas s
    UNION ALL
    SELECT s.oid, s.nspname, c.relname, c.relowner,
           coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))
    FROM schemas s JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relname <> $3
      AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid)
    UNION ALL
    SELECT s.oid, s.nspname, f.proname || '()', f.proowner, coalesce(f.proacl, acldefault('f', f.proowner))
    FROM schemas s JOIN pg_catalog.pg_proc f ON f.pronamespace = s.oid
    WHERE NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = f.oid)
)
SELECT o.schema, 'owner' AS kind, '' AS "table", o.name::text AS name,
       ARRAY[replace(pg_get_userbyid(o.owner), o.nspname, '*')] AS facts
FROM owned o
UNION ALL
-- What the owner was granted, or took from itself, it can give itself again.
SELECT o.schema, 'grant', '', o.name::text, ARRAY[coalesce(string_agg(
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE replace(pg_get_userbyid(a.grantee), o.nspname, '*') END
    || ' ' || a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END,
    ', ' ORDER BY a.grantee = 0 DESC, pg_get_userbyid(a.grantee), a.privilege_type), '')]
FROM owned o LEFT JOIN LATERAL aclexplode(o.acl) a ON a.grantee <> o.owner
GROUP BY o.schema, o.name
