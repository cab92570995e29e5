SELECT r.schema, 'index', r.relname::text, x.relname::text, ARRAY[
    CASE WHEN i.indisunique THEN 'UNIQUE' ELSE '' END,
    CASE WHEN set_config('search_path', r.path, true) IS NOT NULL
         -- CREATE INDEX name ON table …: the name stands apart.
         THEN coalesce(substr(pg_get_indexdef(i.indexrelid, 0, true),
                     length('CREATE INDEX  ON ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || quote_ident(x.relname)) + 1), '') END,
    CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE 'INVALID' END]
FROM relations r
JOIN pg_catalog.pg_index i ON i.indrelid = r.oid
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE NOT x.relispartition
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                  WHERE k.conrelid = r.oid AND k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
