//! The statements that would put a difference right. Names are bare, as definitions are.

use super::{Kind, Object, harm::must_be_given};
use crate::quote::identifier;

/// Makes what is missing, and a table with its parts.
pub(super) fn create(object: &Object, parts: &[&Object]) -> Option<String> {
    let (name, table) = (identifier(&object.name), identifier(object.table()));
    let fact = |at| object.fact(at);
    Some(match object.kind {
        Kind::Table => return create_table(object, parts),
        // What to put into the rows that there are, nobody knows.
        Kind::Column if must_be_given(object) => return None,
        Kind::Column => format!("ALTER TABLE {table} ADD COLUMN {}", column(object)),
        Kind::Constraint => {
            // Rows are checked afterwards, by VALIDATE CONSTRAINT, without locking anybody out.
            let checks_rows = matches!(fact(0), "check" | "foreign key") && !fact(1).contains(" NOT VALID");
            let not_valid = if checks_rows { " NOT VALID" } else { "" };
            format!("ALTER TABLE {table} ADD CONSTRAINT {name} {}{not_valid}", fact(1))
        }
        Kind::Index => {
            // A partitioned index is printed as it is dumped: without the partitions'.
            let on = fact(1).strip_prefix("ONLY ").unwrap_or(fact(1));
            format!("CREATE {}INDEX {name} ON {on}", spaced(fact(0)))
        }
        // Its table may not be there yet. The next comparison tells what owns it.
        Kind::Sequence => words(&["CREATE", fact(2), "SEQUENCE", &name, "AS", fact(0), fact(1)]),
        Kind::View if fact(1).is_empty() => format!("CREATE VIEW {name} AS {}", statement(fact(0))),
        Kind::View => format!("CREATE VIEW {name} WITH ({}) AS {}", fact(1), statement(fact(0))),
        Kind::MaterializedView => format!("CREATE MATERIALIZED VIEW {name} AS {}", statement(fact(0))),
        Kind::Function | Kind::Procedure | Kind::Rule => statement(fact(0)).into(),
        Kind::Trigger if fact(1).is_empty() => fact(0).into(),
        Kind::Policy => {
            words(&["CREATE POLICY", &name, "ON", &table, "AS", fact(0), fact(1), fact(2), fact(3), fact(4)])
        }
        Kind::Type if fact(0).starts_with("DOMAIN ") => {
            format!("CREATE DOMAIN {name} AS {}", &fact(0)["DOMAIN ".len()..])
        }
        Kind::Type if fact(0) != "of its own kind" => format!("CREATE TYPE {name} AS {}", fact(0)),
        _ => return None,
    })
}

/// Makes of what was found what was expected.
pub(super) fn alter(expected: &Object, found: &Object) -> Option<String> {
    let (name, table) = (identifier(&found.name), identifier(found.table()));
    let same = |facts: &[usize]| facts.iter().all(|at| expected.fact(*at) == found.fact(*at));
    match expected.kind {
        // Another type may be another meaning.
        Kind::Column if same(&[0, 1, 4, 5]) => {
            let alter = format!("ALTER TABLE {table} ALTER COLUMN {name}");
            let default = match expected.fact(3) {
                "" => format!("{alter} DROP DEFAULT"),
                default => format!("{alter} SET {default}"),
            };
            let null = match expected.fact(2) {
                "" => format!("{alter} DROP NOT NULL"),
                not_null => format!("{alter} SET {not_null}"),
            };
            let changes =
                [(3, default), (2, null)].into_iter().filter(|(at, _)| !same(&[*at])).map(|(_, change)| change);
            Some(changes.collect::<Vec<_>>().join("; "))
        }
        Kind::Constraint if found.fact(1).strip_suffix(" NOT VALID") == Some(expected.fact(1)) => {
            Some(format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"))
        }
        Kind::Index if same(&[0, 1]) && expected.fact(2).is_empty() => Some(format!("REINDEX INDEX {name}")),
        Kind::Sequence if same(&[0, 1, 2]) => match expected.fact(3) {
            "" => Some(format!("ALTER SEQUENCE {name} OWNED BY NONE")),
            owner => Some(format!("ALTER SEQUENCE {name} {owner}")),
        },
        Kind::Function | Kind::Procedure => Some(expected.fact(0).trim_end().into()),
        Kind::View if same(&[1]) && found.fact(1).is_empty() => {
            Some(format!("CREATE OR REPLACE VIEW {name} AS {}", statement(expected.fact(0))))
        }
        _ => None,
    }
}

/// Gives it the name that was expected.
pub(super) fn rename(expected: &Object, found: &Object) -> Option<String> {
    let (from, to) = (identifier(&found.name), identifier(&expected.name));
    match expected.kind {
        Kind::Constraint => Some(format!("ALTER TABLE {} RENAME CONSTRAINT {from} TO {to}", identifier(found.table()))),
        Kind::Index => Some(format!("ALTER INDEX {from} RENAME TO {to}")),
        _ => None,
    }
}

fn create_table(table: &Object, parts: &[&Object]) -> Option<String> {
    let is_partition = table.fact(3).starts_with("PARTITION OF ");
    // A foreign table's server and an heir's columns are not evident.
    if table.fact(0) != "table" || !(is_partition || table.fact(3).is_empty()) {
        return None;
    }
    let columns: Vec<String> = parts.iter().filter(|part| part.kind == Kind::Column).map(|part| column(part)).collect();
    let options = match table.fact(4) {
        "" => String::new(),
        options => format!("WITH ({options})"),
    };
    let name = identifier(&table.name);
    let columns = if is_partition { table.fact(3).into() } else { format!("({})", columns.join(", ")) };
    let mut statements = vec![words(&["CREATE", table.fact(1), "TABLE", &name, &columns, table.fact(2), &options])];
    let mut others: Vec<&&Object> = parts.iter().filter(|part| part.kind != Kind::Column).collect();
    // The table may refer to its own key.
    others.sort_by_key(|part| part.fact(0) == "foreign key");
    for part in others {
        // The table is empty: there is nothing to check later.
        statements.push(create(part, &[])?.trim_end_matches(" NOT VALID").into());
    }
    for at in [5, 6].into_iter().filter(|at| !table.fact(*at).is_empty()) {
        let enable = if at == 5 { "ENABLE " } else { "" };
        statements.push(format!("ALTER TABLE {name} {enable}{}", table.fact(at)));
    }
    Some(statements.join(";\n"))
}

fn column(object: &Object) -> String {
    let name = identifier(&object.name);
    let fact = |at| object.fact(at);
    words(&[&name, fact(0), fact(1), fact(2), fact(3), fact(4), fact(5)])
}

fn words(words: &[&str]) -> String {
    words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

fn spaced(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!("{word} ") }
}

/// A definition without its end.
fn statement(definition: &str) -> &str {
    definition.trim().trim_end_matches(';')
}
