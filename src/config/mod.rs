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
        }
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
    fn the_password_is_not_in_the_debug_output() {
        let config = Config::from_lookup(lookup(&[("DATABASE_URL", "postgres://app:hunter2@db/app")])).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
