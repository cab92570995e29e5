SELECT r.schema, 'trigger', r.relname::text, t.tgname::text, ARRAY[
    CASE WHEN set_config('search_path', r.path, true) IS NOT NULL THEN coalesce(pg_get_triggerdef(t.oid, true), '') END,
    CASE t.tgenabled WHEN 'O' THEN '' WHEN 'D' THEN 'DISABLED' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END]
FROM relations r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid
WHERE NOT t.tgisinternal AND t.tgparentid = 0
