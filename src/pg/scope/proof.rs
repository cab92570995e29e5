use diesel::result::Error as DieselError;

use super::mark::{MARK, Mark};
use crate::{Error, SchemaName, quote};

/// An expression that fails unless the transaction is the one with this mark, and the schema alone on its path: for a
/// message whose results are not read.
///
/// What is found becomes a number where it is what it should be. Otherwise that fails, and the server repeats the text
/// in its error, in whatever language that is.
pub(crate) fn proof(schema: &SchemaName, mark: &Mark) -> String {
    format!(
        "CAST(pg_catalog.replace(\
             pg_catalog.concat({FOUND}, pg_catalog.current_setting('{MARK}', true), '|', pg_catalog.current_schemas(false)), \
             pg_catalog.concat({FOUND}, {mark}, '|', {alone}::pg_catalog.name[]), '0') AS pg_catalog.int4)",
        mark = mark.parts(schema),
        alone = quote::literal(&format!("{{{}}}", schema.quoted())),
    )
}

/// What the text begins with.
const FOUND: &str = "'tenantry|'";

/// What is wrong, if it was a proof that failed.
pub(crate) fn broken(error: &DieselError, schema: &SchemaName, mark: &Mark) -> Option<Error> {
    let DieselError::DatabaseError(_, about) = error else { return None };
    let (_, found) = about.message().split_once(FOUND.trim_matches('\''))?;
    let (found_mark, rest) = found.split_once("|{")?;
    let (visible, _) = rest.rsplit_once('}')?;
    let schema = schema.clone();
    Some(match found_mark.starts_with(&mark.words()) {
        false => Error::TransactionEnded { schema, committed: false },
        true if elements(visible) == [schema.as_str()] => Error::SchemaReplaced { schema },
        true => Error::LeftScope { schema, path: elements(visible).join(", ") },
    })
}

/// The elements of an array, as the server prints them.
fn elements(array: &str) -> Vec<String> {
    let (mut elements, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in array.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => {
                escaped = true;
                continue;
            }
            '"' => {
                quoted = !quoted;
                continue;
            }
            ',' if !quoted => {
                elements.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = elements.last_mut() {
            last.push(c);
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elements_of_an_array_are_read_as_they_were() {
        assert_eq!(elements("acme"), ["acme"]);
        assert_eq!(elements(r#"acme,"odd, \"name\\","Globex 2""#), ["acme", r#"odd, "name\"#, "Globex 2"]);
    }
}
