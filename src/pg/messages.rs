//! The language of the server's messages.
//!
//! Diesel passes on a few kinds of errors and no SQLSTATE, so some of them are known by their English words alone. A
//! server may speak another language (`lc_messages`), and only a superuser, or from version 15 on a role with SET on
//! that parameter, may choose another.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    select, sql_query,
    sql_types::{Bool, Integer, Text},
};

/// Whether the messages on this connection are in English.
pub(crate) fn are_english(conn: &mut PgConnection) -> QueryResult<bool> {
    let language: String =
        select(sql::<Text>("pg_catalog.current_setting('lc_messages')")).get_result::<String>(conn)?;
    Ok(is_english(&language))
}

/// Asks for messages in English for the rest of the session, where the role may choose, and returns whether they were in
/// English before. For connections of our own, outside of any transaction.
pub(crate) fn ask_for_english(conn: &mut PgConnection) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = Text)]
        language: String,
        #[diesel(sql_type = Bool)]
        superuser: bool,
        #[diesel(sql_type = Integer)]
        version: i32,
    }
    let found: Found = sql_query(
        "SELECT pg_catalog.current_setting('lc_messages') AS language, \
                pg_catalog.current_setting('is_superuser')::pg_catalog.bool AS superuser, \
                pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS version",
    )
    .get_result(conn)?;
    if is_english(&found.language) {
        return Ok(true);
    }
    // To try it without the privilege would leave an error in the server's log for every connection.
    let granted = sql::<Bool>("pg_catalog.has_parameter_privilege('lc_messages', 'SET')");
    if found.superuser || found.version >= 150_000 && select(granted).get_result(conn)? {
        conn.batch_execute("SET lc_messages = 'C'")?;
    }
    Ok(false)
}

/// Whether a locale's messages are in English. There is no translation into it, and none for an empty name.
fn is_english(locale: &str) -> bool {
    let language = locale.split(['_', '.', '@', '-']).next().unwrap_or_default();
    ["", "C", "POSIX"].contains(&language)
        || ["en", "english"].iter().any(|english| language.eq_ignore_ascii_case(english))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_is_known_by_the_locales_name() {
        for english in ["", "C", "C.UTF-8", "POSIX", "en_US.UTF-8", "en_GB", "en", "English_United States.1252"] {
            assert!(is_english(english), "{english}");
        }
        for other in ["de_DE.UTF-8", "German_Germany.1252", "enm", "fr", "ru_RU@x"] {
            assert!(!is_english(other), "{other}");
        }
    }
}
