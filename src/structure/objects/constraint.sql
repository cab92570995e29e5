-- PostgreSQL 18 lists NOT NULL here too, of which the columns tell all but that it may not be validated.
SELECT r.schema, 'constraint', r.relname::text, k.conname::text, ARRAY[
    CASE k.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique constraint' WHEN 'c' THEN 'check'
                   WHEN 'f' THEN 'foreign key' WHEN 'n' THEN 'not null' ELSE 'exclusion constraint' END,
    CASE WHEN set_config('search_path', r.path, true) IS NOT NULL THEN coalesce(pg_get_constraintdef(k.oid), '') END]
FROM relations r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid
WHERE (k.contype IN ('p', 'u', 'c', 'f', 'x') OR k.contype = 'n' AND NOT k.convalidated) AND k.conparentid = 0 AND (k.conislocal OR k.coninhcount = 0)
