-- An identity's sequence is the column's.
SELECT r.schema, 'sequence', '', r.relname::text, ARRAY[q.type, q.options, CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE '' END,
    coalesce(CASE WHEN set_config('search_path', r.path, true) IS NOT NULL
             THEN 'OWNED BY ' || o.refobjid::regclass::text || '.' || quote_ident(a.attname) END, '')]
FROM relations r
JOIN sequences q ON q.seqrelid = r.oid
LEFT JOIN LATERAL (
    SELECT d.refobjid, d.refobjsubid, d.deptype FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = r.oid AND d.objsubid = 0
      AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1) o ON true
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = o.refobjid AND a.attnum = o.refobjsubid
WHERE r.relkind = 'S' AND o.deptype IS DISTINCT FROM 'i'
