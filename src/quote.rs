//! The one place where names and texts become part of an SQL statement.

/// Quotes an identifier, so that it names exactly this table, column or schema.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a table's name together with its schema's.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// Quotes a text for a message that cannot carry bound values: a batch of several statements.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        // A plain literal's backslashes depend on `standard_conforming_strings`; an E'' one's do not.
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_cannot_end_early() {
        assert_eq!(identifier("Order"), "\"Order\"");
        assert_eq!(identifier("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
    }

    #[test]
    fn a_literal_cannot_end_early() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\' OR 1=1"), " E'\\\\'' OR 1=1'");
    }
}
