//! No control character of any data reaches a terminal, and JSON has it exactly.

use serde_json::Value;
use tenantry::testing::TestDatabase;
use uuid::Uuid;

use crate::{
    cli::{MIGRATE_ALL, TENANTRY, run, run_with},
    support::{migrated, tenant},
};

/// Names that clear the screen and set a window's title, forge a line, turn the text round, or do so in one byte of C1.
const EVIL: [&str; 5] = [
    "evil\u{1b}[2J\u{1b}]0;pwned\u{7}",
    "new\nforged: up to date",
    "turned\u{202e}round",
    "c1\u{9b}31m\u{7f}",
    "back\r\u{8}\u{2066}x",
];

/// A healthy tenant, and registry, tables, rows and messages that hold such names.
fn fleet() -> TestDatabase {
    let db = migrated();
    for schema in ["acme", "globex"] {
        tenant(&mut db.connect(), schema);
    }
    for name in EVIL {
        let name = name.replace('\'', "''");
        db.execute(
            "public",
            &format!(
                "INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), '{name}', 'X')"
            ),
        );
        for schema in ["public", "acme"] {
            db.execute(
                schema,
                &format!(
                    "CREATE TABLE \"{name}\" (id text PRIMARY KEY, \"{name}\" text, \
                     CONSTRAINT \"{name} fk\" FOREIGN KEY (\"{name}\") REFERENCES \"{name}\" (id))"
                ),
            );
        }
        // A row without what it refers to; one of `public` that is missing here, and one that cannot be copied.
        db.execute("public", &format!("INSERT INTO \"{name}\" VALUES ('{name}'), ('{name} 2')"));
        db.execute(
            "acme",
            &format!(
                "SET session_replication_role = replica; INSERT INTO \"{name}\" VALUES ('1', 'no {name}'), ('2', '{name}'), ('3', '{name} 2'); \
                 ALTER TABLE \"{name}\" ADD CONSTRAINT \"{name} check\" CHECK (id NOT LIKE '% 2') NOT VALID"
            ),
        );
    }
    db
}

#[track_caller]
fn check(text: &str, from: &[&str]) {
    let is_unsafe = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if let Some(at) = text.find(is_unsafe) {
        panic!("{from:?}: {:?}", text[..at + 8.min(text.len() - at)].lines().last());
    }
    // Statements to copy keep the line ends of quoted names, far to the right.
    let is_forged = |line: &&str| line.trim_start().starts_with("forged") && !line.starts_with(&" ".repeat(13));
    let forged = text.lines().find(is_forged);
    assert_eq!(forged, None, "{from:?}");
}

#[test]
fn no_command_prints_control_characters_that_data_holds() {
    let db = fleet();
    let commands: &[&[&str]] = &[
        &["plan"],
        &["status"],
        &["migrate"],
        &["migrate", "--quiet"],
        &["migrate", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["repair", "--dry-run"],
        &["repair", "--dry-run", "--json"],
        &["repair"],
        &["repair", "list"],
        &["repair", "show", "1"],
        &["repair", "undo", "1", "--dry-run"],
        &["runs", "list"],
        &["runs", "show", "1"],
        &["runs", "show", "1", "--json"],
        &["revert", "--steps", "1", "--dry-run"],
        &["revert", "--steps", "1", "--yes"],
        &["baseline", "--at", "0001", "--dry-run"],
        &["status", "--tenant", EVIL[0]],
        &["status", "--tenant", EVIL[1]],
        &["status", "--gate", EVIL[2]],
        &["status", "--schemas", EVIL[3]],
    ];
    let mut printed = String::new();
    for args in commands {
        let answer = run(TENANTRY, args, &db);
        check(&answer.out, args);
        check(&answer.err, args);
        printed += &answer.out;
        printed += &answer.err;
    }
    for part in ["\\u{1b}[2J", "new\\nforged", "turned\\u{202e}round", "c1\\u{9b}31m", "back\\r\\u{8}"] {
        assert!(printed.contains(part), "{part} is printed, as an escape: {printed}");
    }
    let logged = run_with(MIGRATE_ALL, &[], &[("DATABASE_URL", db.url()), ("TENANTRY_LOG", "trace")]);
    assert!(logged.err.contains("tenantry"), "{logged:?}");
    check(&logged.err, &["with a log"]);
}

#[test]
fn a_message_of_the_server_is_one_line() {
    let db = migrated();
    let name = format!("acme_{}", Uuid::new_v4().simple());
    db.execute(
        "public",
        &format!(
            "CREATE SCHEMA {name}; INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), '{name}', 'X'); \
             CREATE FUNCTION protest() RETURNS event_trigger LANGUAGE plpgsql AS \
               $$ BEGIN RAISE E'{}'; END $$; \
             CREATE EVENT TRIGGER protest ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION protest()",
            "\\033]0;pwned\\007 %% \\nforged: \\u202e"
        ),
    );
    let answer = run(TENANTRY, &["migrate", "--no-record"], &db);
    db.execute("public", "DROP EVENT TRIGGER protest");
    assert!(answer.out.contains("\\u{1b}]0;pwned\\u{7}"), "{answer:?}");
    check(&answer.out, &["migrate"]);
    check(&answer.err, &["migrate"]);
}

#[test]
fn json_has_names_exactly() {
    let db = fleet();
    let found: Value = serde_json::from_str(&run(TENANTRY, &["status", "--json"], &db).out).unwrap();
    let refused: Vec<&str> = found["refused"].as_array().unwrap().iter().map(|one| one[0].as_str().unwrap()).collect();
    for name in EVIL {
        assert!(refused.contains(&name), "{name:?} of {refused:?}");
    }
}
