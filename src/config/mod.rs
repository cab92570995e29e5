//! Settings, read once.

mod database_url;

use std::{collections::HashMap, fmt, str::FromStr, time::Duration};

pub use database_url::DatabaseUrl;

use crate::Error;

/// The settings of the pool and of the commands.
///
/// | variable | unit | default |
/// | --- | --- | --- |
/// | `DATABASE_URL` | `postgres://user:password@host:port/database`, or libpq's `key=value` form | none |
/// | `TENANTRY_POOL_SIZE` | connections | 10 |
/// | `TENANTRY_POOL_TIMEOUT` | seconds to wait for a connection from the pool | 5 |
/// | `TENANTRY_POOL_MAX_LIFETIME` | seconds after which a connection is replaced | 1800 |
/// | `TENANTRY_CONNECT_TIMEOUT` | seconds to wait for a server that does not answer | 4 |
/// | `TENANTRY_LOCK_TIMEOUT` | seconds to wait for a lock | 5 |
/// | `TENANTRY_POOLER` | `session` or `transaction`: how a pooler such as PgBouncer, if there is one, lends the server's connections | `session` |
/// | `TENANTRY_OUTSIDE_SCOPES` | `closed` or `public`: what a bare table name finds outside of scopes | `closed` |
/// | `MIGRATION_DATABASE_URL` | as `DATABASE_URL`, for the commands, which need sessions | `DATABASE_URL` |
///
/// A server, or the way to it, that is gone without a word while a statement runs is noticed within 20 seconds, however
/// long the statement may take: `keepalives_idle`, `keepalives_interval` and `keepalives_count` in the URL say otherwise.
/// While something is sent it is noticed within 15 seconds by a connection of [`pg::connect`](crate::pg::connect()), by
/// which the commands connect, and by one of the pool when TCP gives up: `tcp_user_timeout` in the URL is for both.
///
/// A connection's catalog cache grows with every tenant it serves and never shrinks, so keep the pool
/// small and the lifetime finite.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where the database is.
    pub database_url: DatabaseUrl,
    /// How many connections the pool holds at most.
    pub pool_size: u32,
    /// How long to wait for a connection from the pool.
    pub pool_timeout: Duration,
    /// How long a pooled connection lives.
    pub pool_max_lifetime: Duration,
    /// How long to wait for a server that does not answer, in whole seconds. libpq knows no less than 2.
    pub connect_timeout: Duration,
    /// How long to wait for a lock, of a row, a table or a tenant.
    pub lock_timeout: Duration,
    /// How a pooler between the application and the server lends connections.
    pub pooler: Pooler,
    /// What a bare table name finds outside of scopes.
    pub outside_scopes: OutsideScopes,
    /// Where the database is for what needs sessions: migrations and the other commands.
    ///
    /// Defaults to `database_url`.
    pub migration_database_url: Option<DatabaseUrl>,
}

/// How a pooler such as PgBouncer lends the server's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooler {
    /// For as long as the client is connected. So does a connection without a pooler.
    #[default]
    Session,
    /// For one transaction at a time.
    ///
    /// Diesel's cache of prepared statements is then off: the statements belong to a server's connection, and the
    /// next transaction may meet another one. Nothing is set for a session, either, so bare table names outside of
    /// scopes find what the role's own `search_path` has: close it with `ALTER ROLE app SET search_path = ''`.
    Transaction,
}

/// What a bare table name finds outside of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutsideScopes {
    /// Nothing: the query fails. Shared tables are written `public.x`.
    #[default]
    Closed,
    /// The tables of `public`, for applications whose shared tables are bare.
    ///
    /// Code that should have been in a scope, and is not, then writes to `public` where that has a table of the same
    /// name.
    Public,
}

impl Config {
    /// Settings for this database, everything else as by default.
    pub fn new(database_url: DatabaseUrl) -> Self {
        Self {
            database_url,
            pool_size: 10,
            pool_timeout: Duration::from_secs(5),
            pool_max_lifetime: Duration::from_secs(1800),
            connect_timeout: Duration::from_secs(4),
            lock_timeout: Duration::from_secs(5),
            pooler: Pooler::Session,
            outside_scopes: OutsideScopes::Closed,
            migration_database_url: None,
        }
    }

    /// The settings for what needs sessions: migrations and the other commands.
    ///
    /// They lead to `migration_database_url` where that is set, and their connections have a closed path.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] when a pooler lends connections for a transaction at a time, and no other way is set.
    pub fn for_sessions(&self) -> Result<Self, Error> {
        let database_url = match (&self.migration_database_url, self.pooler) {
            (Some(url), _) => url.clone(),
            (None, Pooler::Session) => self.database_url.clone(),
            (None, Pooler::Transaction) => {
                return Err(Error::Setting {
                    name: "MIGRATION_DATABASE_URL".into(),
                    reason: "is not set: with TENANTRY_POOLER=transaction the commands need it, as the URL of the \
                             server itself, or of a pooler in session mode"
                        .into(),
                });
            }
        };
        let (pooler, outside_scopes) = (Pooler::Session, OutsideScopes::Closed);
        Ok(Self { database_url, pooler, outside_scopes, migration_database_url: None, ..self.clone() })
    }

    /// Settings from the environment and, where that is silent, from the nearest `.env` file.
    ///
    /// The environment itself is left as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] when `DATABASE_URL` is nowhere, when a value is not what its setting needs,
    /// or when `.env` cannot be read.
    pub fn from_env() -> Result<Self, Error> {
        let file = read_dotenv()?;
        Self::from_lookup(|name| std::env::var(name).ok().or_else(|| file.get(name).cloned()))
    }

    /// Settings from a function that knows the variables.
    ///
    /// # Errors
    ///
    /// As [`Config::from_env`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let lookup = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let url = lookup("DATABASE_URL").ok_or_else(|| Error::Setting {
            name: "DATABASE_URL".into(),
            reason: "is not set: export it, or write it into .env, as postgres://user:password@host:port/database"
                .into(),
        })?;
        let default = Self::new(url.parse()?);
        let number = |name: &str, default: u64| positive(lookup, name, default);
        let seconds = |name, default: Duration| number(name, default.as_secs()).map(Duration::from_secs);
        Ok(Self {
            pool_size: number("TENANTRY_POOL_SIZE", default.pool_size.into())? as u32,
            pool_timeout: seconds("TENANTRY_POOL_TIMEOUT", default.pool_timeout)?,
            pool_max_lifetime: seconds("TENANTRY_POOL_MAX_LIFETIME", default.pool_max_lifetime)?,
            connect_timeout: seconds("TENANTRY_CONNECT_TIMEOUT", default.connect_timeout)?,
            lock_timeout: seconds("TENANTRY_LOCK_TIMEOUT", default.lock_timeout)?,
            pooler: choice(
                lookup,
                "TENANTRY_POOLER",
                &[("session", Pooler::Session), ("transaction", Pooler::Transaction)],
            )?,
            outside_scopes: choice(
                lookup,
                "TENANTRY_OUTSIDE_SCOPES",
                &[("closed", OutsideScopes::Closed), ("public", OutsideScopes::Public)],
            )?,
            migration_database_url: lookup("MIGRATION_DATABASE_URL")
                .map(|url| DatabaseUrl::from_setting("MIGRATION_DATABASE_URL", &url))
                .transpose()?,
            ..default
        })
    }
}

/// A whole number from 1 to 1,000,000, which also keeps every `as` above from losing anything.
fn positive(lookup: impl Fn(&str) -> Option<String>, name: &str, default: u64) -> Result<u64, Error> {
    match lookup(name) {
        None => Ok(default),
        Some(text) => match u64::from_str(text.trim()) {
            Ok(number @ 1..=1_000_000) => Ok(number),
            _ => Err(Error::Setting {
                name: name.into(),
                reason: format!("is {text:?}: it takes a whole number from 1 to 1000000"),
            }),
        },
    }
}

/// One of these words, or the default.
fn choice<T: Copy + Default>(
    lookup: impl Fn(&str) -> Option<String>,
    name: &str,
    choices: &[(&str, T)],
) -> Result<T, Error> {
    let Some(text) = lookup(name) else { return Ok(T::default()) };
    let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        Error::Setting { name: name.into(), reason: format!("is {text:?}: it takes {}", words.join(" or ")) }
    })
}

fn read_dotenv() -> Result<HashMap<String, String>, Error> {
    let unreadable =
        |error: &dyn fmt::Display| Error::Setting { name: ".env".into(), reason: format!("cannot be read: {error}") };
    match dotenvy::dotenv_iter() {
        // A parse error of dotenvy's quotes the line, and the line may hold a password.
        Ok(lines) => lines.collect::<Result<_, _>>().map_err(|error| match error {
            dotenvy::Error::LineParse(_, at) => unreadable(&format!("a line cannot be understood at character {at}")),
            other => unreadable(&other),
        }),
        Err(error) if error.not_found() => Ok(HashMap::new()),
        Err(error) => Err(unreadable(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
    }

    #[test]
    fn the_url_is_all_that_must_be_given() {
        let config = Config::from_lookup(lookup(&[("DATABASE_URL", "postgres://localhost/app")])).unwrap();
        assert_eq!(config.pool_size, 10);
        assert_eq!(config.connect_timeout, Duration::from_secs(4));
    }

    #[test]
    fn without_a_url_the_error_says_how_to_give_one() {
        let error = Config::from_lookup(lookup(&[("DATABASE_URL", " ")])).unwrap_err();
        insta::assert_snapshot!(error, @"DATABASE_URL is not set: export it, or write it into .env, as postgres://user:password@host:port/database");
    }

    #[test]
    fn a_number_that_is_none_is_refused_by_name() {
        for bad in ["0", "-1", "ten", "1e9", "99999999999"] {
            let pairs = [("DATABASE_URL", "postgres://localhost/app"), ("TENANTRY_POOL_SIZE", bad)];
            let error = Config::from_lookup(lookup(&pairs)).unwrap_err().to_string();
            assert!(error.starts_with("TENANTRY_POOL_SIZE is "), "{error}");
        }
    }

    #[test]
    fn a_word_that_is_no_choice_is_refused_by_name() {
        let pairs = [("DATABASE_URL", "postgres://localhost/app"), ("TENANTRY_POOLER", "statement")];
        let error = Config::from_lookup(lookup(&pairs)).unwrap_err();
        insta::assert_snapshot!(error, @r#"TENANTRY_POOLER is "statement": it takes session or transaction"#);
    }

    #[test]
    fn what_needs_sessions_goes_round_a_pooler_that_has_none() {
        let mut pairs = vec![("DATABASE_URL", "postgres://pooler/app"), ("TENANTRY_POOLER", "Transaction")];
        let error = Config::from_lookup(lookup(&pairs)).unwrap().for_sessions().unwrap_err();
        insta::assert_snapshot!(error, @"MIGRATION_DATABASE_URL is not set: with TENANTRY_POOLER=transaction the commands need it, as the URL of the server itself, or of a pooler in session mode");
        pairs.push(("MIGRATION_DATABASE_URL", "postgres://server/app"));
        let config = Config::from_lookup(lookup(&pairs)).unwrap().for_sessions().unwrap();
        assert_eq!((config.database_url.to_string(), config.pooler), ("postgres://server/app".into(), Pooler::Session));
        pairs[2].1 = "mysql://server/app";
        let error = Config::from_lookup(lookup(&pairs)).unwrap_err().to_string();
        assert!(error.starts_with("MIGRATION_DATABASE_URL names another kind of database"), "{error}");
    }

    #[test]
    fn the_password_is_not_in_the_debug_output() {
        let config = Config::from_lookup(lookup(&[("DATABASE_URL", "postgres://app:hunter2@db/app")])).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
