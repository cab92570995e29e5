-- The schema tenantry, if it is there: whether the role may read its table $1, what of it belongs to a role that is not
-- trusted, and what is no plain table. Not Diesel, whose DSL has no catalog. Written for any path.
SELECT coalesce((SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                        AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
                 FROM pg_catalog.pg_class c
                 WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relname OPERATOR(pg_catalog.=) $1), false) AS readable,
       (SELECT c.relname::text FROM pg_catalog.pg_class c
        WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relkind OPERATOR(pg_catalog.<>) ALL ('{i,I,S,t,c}'::"char"[])
          AND NOT {is_plain}
        ORDER BY c.relname LIMIT 1) AS odd,
       foreign_part.what, pg_catalog.pg_get_userbyid(foreign_part.owner)::text AS owner
FROM pg_catalog.pg_namespace n LEFT JOIN LATERAL (
    SELECT part.what, part.owner
    FROM (SELECT 0 AS place, 'SCHEMA tenantry' AS what, n.nspowner AS owner
          UNION ALL
          SELECT 1, pg_catalog.concat('TABLE tenantry.', pg_catalog.quote_ident(c.relname)), c.relowner
          FROM pg_catalog.pg_class c
          WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid
            AND c.relkind OPERATOR(pg_catalog.<>) ALL ('{i,I,S,t,c}'::"char"[])) part
    WHERE NOT {is_trusted}
    ORDER BY part.place, part.what LIMIT 1) foreign_part ON true
WHERE n.nspname OPERATOR(pg_catalog.=) 'tenantry'
