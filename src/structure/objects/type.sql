SELECT s.oid, 'type', '', t.typname::text, ARRAY[
    CASE t.typtype
    WHEN 'e' THEN 'ENUM (' || (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder)
                               FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid) || ')'
    WHEN 'd' THEN CASE WHEN set_config('search_path', s.path, true) IS NOT NULL THEN concat_ws(' ', 'DOMAIN',
        format_type(t.typbasetype, t.typtypmod),
        CASE WHEN t.typcollation <> 0 THEN 'COLLATE ' || t.typcollation::regcollation::text END,
        CASE WHEN t.typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(t.typdefaultbin, 0),
        (SELECT string_agg('CONSTRAINT ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid), ' ' ORDER BY k.conname)
         FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')) END
    WHEN 'r' THEN CASE WHEN set_config('search_path', s.path, true) IS NOT NULL THEN (
        SELECT 'RANGE (SUBTYPE = ' || format_type(g.rngsubtype, NULL) || ', SUBTYPE_OPCLASS = ' || o.opcname || ')'
        FROM pg_catalog.pg_range g JOIN pg_catalog.pg_opclass o ON o.oid = g.rngsubopc WHERE g.rngtypid = t.oid) END
    WHEN 'c' THEN CASE WHEN set_config('search_path', s.path, true) IS NOT NULL THEN '(' || (
        SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) || ')' END
    ELSE 'of its own kind' END]
FROM schemas s
JOIN pg_catalog.pg_depend y ON y.refclassid = 'pg_catalog.pg_namespace'::regclass AND y.refobjid = s.oid
                           AND y.classid = 'pg_catalog.pg_type'::regclass
JOIN pg_catalog.pg_type t ON t.oid = y.objid
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
WHERE t.typtype IN ('b', 'e', 'd', 'r', 'c') AND (t.typrelid = 0 OR c.relkind = 'c')
  -- Not the array that comes with every type.
  AND NOT (t.typelem <> 0 AND t.typcategory = 'A')
  AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_type'::regclass AND e.objid = t.oid)
