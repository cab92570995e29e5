SELECT r.schema, 'policy', r.relname::text, p.polname::text, ARRAY[
    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    CASE p.polcmd WHEN 'r' THEN 'FOR SELECT' WHEN 'a' THEN 'FOR INSERT' WHEN 'w' THEN 'FOR UPDATE' WHEN 'd' THEN 'FOR DELETE' ELSE 'FOR ALL' END,
    'TO ' || (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ' ORDER BY pg_get_userbyid(role))
              FROM unnest(p.polroles) role),
    coalesce(CASE WHEN set_config('search_path', r.path, true) IS NOT NULL THEN 'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')' END, ''),
    coalesce(CASE WHEN set_config('search_path', r.path, true) IS NOT NULL THEN 'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')' END, '')]
FROM relations r JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid
