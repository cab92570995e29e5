//! Whose code may run in our sessions, as expressions of SQL. They can stand in a query on any path.

/// Whether a role, given as an expression of its oid, is trusted: it can act as a superuser, as the owner of the database
/// or as the role itself, and needs no trick for that.
pub(crate) fn is_trusted(role: &str) -> String {
    format!(
        "(pg_catalog.pg_has_role({role}, current_user, 'MEMBER') OR pg_catalog.pg_has_role({role}, (SELECT d.datdba \
          FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()), 'MEMBER'))"
    )
}

/// Whether a relation, given as the alias of its row in `pg_class`, is a plain table whose reading runs only the code of
/// roles that are trusted.
///
/// Of an index, of statistics and of a child the planner evaluates what is constant, and a cast belongs to the owner of
/// a type. A default, a check or a trigger runs when the table is written, and not here.
pub(crate) fn is_plain(class: &str) -> String {
    let owner = "CASE d.refclassid \
                     WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN \
                         (SELECT f.proowner FROM pg_catalog.pg_proc f WHERE f.oid OPERATOR(pg_catalog.=) d.refobjid) \
                     WHEN 'pg_catalog.pg_operator'::pg_catalog.regclass THEN \
                         (SELECT f.proowner FROM pg_catalog.pg_operator o \
                          JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) o.oprcode \
                          WHERE o.oid OPERATOR(pg_catalog.=) d.refobjid) \
                     ELSE (SELECT t.typowner FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) d.refobjid) END";
    format!(
        "({class}.relkind OPERATOR(pg_catalog.=) 'r'::\"char\" AND NOT pg_catalog.row_security_active({class}.oid) \
          AND (NOT {class}.relhassubclass OR NOT EXISTS ( \
              SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent OPERATOR(pg_catalog.=) {class}.oid)) \
          AND NOT EXISTS ( \
              SELECT FROM ( \
                  SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AS class, {class}.oid \
                  UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid \
                  FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) {class}.oid \
                  UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, t.oid \
                  FROM pg_catalog.pg_statistic_ext t WHERE t.stxrelid OPERATOR(pg_catalog.=) {class}.oid) part, \
              LATERAL (SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d \
                       WHERE d.classid OPERATOR(pg_catalog.=) part.class AND d.objid OPERATOR(pg_catalog.=) part.oid OFFSET 0) d \
              WHERE d.refobjid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
                AND d.refclassid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc', 'pg_catalog.pg_operator', \
                    'pg_catalog.pg_type']::pg_catalog.regclass[]::pg_catalog.oid[]) \
                AND NOT {trusted}))",
        trusted = is_trusted(owner),
    )
}
