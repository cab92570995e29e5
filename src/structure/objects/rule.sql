SELECT r.schema, 'rule', r.relname::text, w.rulename::text, ARRAY[
    CASE WHEN set_config('search_path', r.path, true) IS NOT NULL THEN coalesce(pg_get_ruledef(w.oid, true), '') END,
    w.ev_enabled::text]
FROM relations r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid
WHERE w.rulename <> '_RETURN'
