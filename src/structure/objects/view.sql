SELECT r.schema, CASE r.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END, '', r.relname::text, ARRAY[
    CASE WHEN set_config('search_path', r.path, true) IS NOT NULL THEN coalesce(pg_get_viewdef(r.oid), '') END,
    coalesce(array_to_string(r.reloptions, ', '), '')]
FROM relations r WHERE r.relkind IN ('v', 'm')
