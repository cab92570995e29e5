SELECT r.schema, 'table' AS kind, '' AS "table", r.relname::text AS name, ARRAY[
    CASE r.relkind WHEN 'f' THEN 'foreign table' ELSE 'table' END,
    CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE '' END,
    coalesce(CASE WHEN r.relkind = 'p' AND set_config('search_path', r.path, true) IS NOT NULL
                  THEN 'PARTITION BY ' || pg_get_partkeydef(r.oid) END, ''),
    coalesce(CASE WHEN set_config('search_path', r.path, true) IS NOT NULL THEN (
        SELECT CASE WHEN r.relispartition THEN 'PARTITION OF ' ELSE 'INHERITS ' END
               || string_agg(h.inhparent::regclass::text, ', ' ORDER BY h.inhseqno)
        FROM pg_catalog.pg_inherits h WHERE h.inhrelid = r.oid) END
        || coalesce(' ' || pg_get_expr(r.relpartbound, r.oid), ''), ''),
    coalesce(array_to_string(r.reloptions, ', '), ''),
    CASE WHEN r.relrowsecurity THEN 'ROW LEVEL SECURITY' ELSE '' END,
    CASE WHEN r.relforcerowsecurity THEN 'FORCE ROW LEVEL SECURITY' ELSE '' END,
    CASE r.relreplident WHEN 'n' THEN 'REPLICA IDENTITY NOTHING' WHEN 'f' THEN 'REPLICA IDENTITY FULL'
                        WHEN 'i' THEN 'REPLICA IDENTITY USING INDEX' ELSE '' END] AS facts
FROM relations r WHERE r.relkind IN ('r', 'p', 'f')
