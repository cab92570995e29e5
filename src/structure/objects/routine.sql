SELECT s.oid, CASE f.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END, '',
    CASE WHEN set_config('search_path', s.path, true) IS NOT NULL
         THEN f.proname || '(' || pg_get_function_identity_arguments(f.oid) || ')' END,
    ARRAY[CASE
        WHEN set_config('search_path', s.path, true) IS NULL THEN ''
        WHEN f.prokind = 'a' THEN (
            SELECT concat_ws(' ', pg_get_function_result(f.oid), 'SFUNC', g.aggtransfn, 'STYPE', format_type(g.aggtranstype, NULL),
                             'FINALFUNC', g.aggfinalfn, 'COMBINEFUNC', g.aggcombinefn, 'INITCOND', g.agginitval)
            FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = f.oid)
        -- CREATE OR REPLACE FUNCTION schema.name(…) is always qualified.
        ELSE 'CREATE OR REPLACE ' || CASE f.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END
             || substr(pg_get_functiondef(f.oid),
                       length('CREATE OR REPLACE .' || CASE f.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || quote_ident(s.nspname)) + 1)
    END]
FROM schemas s JOIN pg_catalog.pg_proc f ON f.pronamespace = s.oid
-- Nor the constructors that come with every range.
WHERE f.prosrc !~ '^(multi)?range_constructor[0-9]$'
  AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = f.oid)
