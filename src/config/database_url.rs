//! [`DatabaseUrl`]: where the database is, with a password that stays out of logs.

use std::{fmt, str::FromStr, time::Duration};

use crate::Error;

/// A PostgreSQL connection URL (`postgres://…`) or libpq's `key=value` form.
///
/// `Display` and `Debug` write `***` for the password. What libpq itself would quote in an error about a
/// malformed URL is checked here first, so that it never has a password to quote.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// What libpq is given: the URL, with a bound on waiting for a server that does not answer.
    pub(crate) fn for_libpq(&self, connect_timeout: Duration) -> String {
        let url = &self.0;
        let seconds = connect_timeout.as_secs().max(2);
        if url.contains("connect_timeout") {
            url.clone()
        } else if !is_uri(url) {
            format!("{url} connect_timeout={seconds}")
        } else {
            format!("{url}{}connect_timeout={seconds}", if url.contains('?') { '&' } else { '?' })
        }
    }

    /// All of it, password included, for a program that is started with it.
    #[cfg(feature = "testing")]
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// The same server, another database.
    #[cfg(feature = "testing")]
    pub(crate) fn with_database(&self, name: &str) -> Self {
        let (server, query) = self.0.split_once('?').unwrap_or((&self.0, ""));
        let authority = server.find("://").map_or(0, |at| at + 3);
        let end = server[authority..].find('/').map_or(server.len(), |at| authority + at);
        let question = if query.is_empty() { "" } else { "?" };
        Self(format!("{}/{name}{question}{query}", &server[..end]))
    }
}

impl FromStr for DatabaseUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        Self::from_setting("DATABASE_URL", url)
    }
}

impl DatabaseUrl {
    /// The URL that this environment variable holds.
    pub(super) fn from_setting(name: &str, url: &str) -> Result<Self, Error> {
        let url = url.trim();
        let checked = match url {
            _ if url.contains('\0') => Err("has a NUL byte"),
            _ if is_uri(url) => check_uri(url),
            _ if url.contains("://") => Err("names another kind of database"),
            _ => check_pairs(url),
        };
        checked.map(|()| Self(url.into())).map_err(|reason| Error::Setting {
            name: name.into(),
            reason: format!("{reason}: expected postgres://user:password@host:port/database"),
        })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        if let (true, Some(scheme)) = (is_uri(&shown), shown.find("://")) {
            let userinfo = scheme + 3..scheme + 3 + userinfo(&shown[scheme + 3..]).len();
            if let Some(colon) = shown[userinfo.clone()].find(':') {
                shown.replace_range(userinfo.start + colon + 1..userinfo.end, "***");
            }
        }
        let mut rest = shown.as_str();
        while let Some(at) = rest.find("password") {
            let (before, after) = rest.split_at(at + "password".len());
            f.write_str(before)?;
            rest = after;
            if let Some(value) = after.trim_start().strip_prefix('=') {
                f.write_str("=***")?;
                let value = value.trim_start();
                rest = &value[value_len(value, is_uri(&self.0))..];
            }
        }
        f.write_str(rest)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_uri(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// `user:password` of what follows the scheme, as libpq reads it: up to an `@` before any `/`.
fn userinfo(rest: &str) -> &str {
    match rest.find(['@', '/']) {
        Some(at) if rest[at..].starts_with('@') => &rest[..at],
        _ => "",
    }
}

/// How long a `password=` value is: to the end of its quotes, or to the next separator.
fn value_len(value: &str, uri: bool) -> usize {
    if let Some(quoted) = value.strip_prefix('\'') {
        let mut escaped = false;
        let end = quoted.find(|c| {
            let ends = c == '\'' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        end.map_or(value.len(), |at| at + 2)
    } else {
        let mut escaped = false;
        let end = value.find(|c: char| {
            let ends = if uri { c == '&' } else { c.is_whitespace() && !escaped };
            escaped = c == '\\' && !escaped;
            ends
        });
        end.unwrap_or(value.len())
    }
}

fn check_uri(url: &str) -> Result<(), &'static str> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let userinfo = userinfo(rest);
    let after = if userinfo.is_empty() { rest } else { &rest[userinfo.len() + 1..] };
    let hosts = &after[..after.find(['/', '?']).unwrap_or(after.len())];
    let is_host = |host: &str| match host.strip_prefix('[') {
        Some(address) => address
            .split_once(']')
            .is_some_and(|(address, port)| !address.is_empty() && (port.is_empty() || port.starts_with(':'))),
        None => !host.contains(['[', ']']),
    };
    let is_port = |host: &str| {
        let port = host.rsplit_once(']').map_or(host, |(_, port)| port).rsplit_once(':');
        port.is_none_or(|(_, port)| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    if hosts.contains('@') || !hosts.split(',').all(|host| is_host(host) && is_port(host)) {
        Err(
            "has a port that is not a number from 1 to 65535, or a `@`, `/` or `:` in its password that is not written as %40, %2F or %3A",
        )
    } else if !percent_encoding_is_whole(url) {
        Err("has a `%` that is not followed by two hexadecimal digits (write %25 for a plain one)")
    } else if after.split_once('?').is_some_and(|(_, query)| {
        !query.split('&').all(|pair| pair.split_once('=').is_some_and(|(name, _)| !name.contains('%')))
    }) {
        Err("has a parameter without a value, or with a % in its name")
    } else {
        Ok(())
    }
}

fn percent_encoding_is_whole(url: &str) -> bool {
    url.split('%').skip(1).all(|after| {
        let code = after.get(..2).unwrap_or("");
        code.len() == 2 && code != "00" && code.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn check_pairs(text: &str) -> Result<(), &'static str> {
    let mut rest = text;
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').ok_or("is no URL")?;
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Err("is no URL");
        }
        let value = value.trim_start();
        let (mut end, mut quoted, mut escaped) = (value.len(), false, false);
        for (at, c) in value.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\'' if at == 0 => quoted = true,
                '\'' if quoted => quoted = false,
                c if c.is_whitespace() && !quoted => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        if quoted {
            return Err("has a quote that does not end");
        }
        rest = value[end..].trim_start();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shown(url: &str) -> String {
        url.parse::<DatabaseUrl>().unwrap().to_string()
    }

    #[test]
    fn passwords_are_shown_as_stars() {
        assert_eq!(shown("postgres://app:s3cret@db:5432/app"), "postgres://app:***@db:5432/app");
        assert_eq!(shown("postgresql://app@%2Ftmp/app"), "postgresql://app@%2Ftmp/app");
        assert_eq!(
            shown("postgres://db/app?password=s3cret&sslmode=require"),
            "postgres://db/app?password=***&sslmode=require"
        );
        assert_eq!(shown("host=db password='s3 \\' cret' user=app"), "host=db password=*** user=app");
        assert_eq!(shown("host=db password=a&s3\\ cret user=app"), "host=db password=*** user=app");
        assert_eq!(shown("postgres://app:1?a=s3cret@host/db"), "postgres://app:***@host/db");
        assert_eq!(shown("host=db password = s3cret"), "host=db password=***");
    }

    #[test]
    fn a_malformed_url_is_refused_without_quoting_it() {
        for url in [
            "s3cret",
            "postgres//app:s3cret@db/app",
            "mysql://app:s3cret@db/app",
            "postgres://app:s3cret/x@db/app",
            "postgres://app:s3cret@x@db/app",
            "postgres://app:s3cret%@db/app",
            "postgres://app:s3cret@db:port/app",
            "postgres://app:s3cret@db/app?sslmode",
            "host=db password='s3cret",
            "postgres://app:s3cret@[::1/app",
            "postgres://app:s3cret@[::1]x/app",
            "postgres://app:s3cret@[]/app",
            "postgres://db/app?%70assword=s3cret",
            "postgres://app:s3cret\0@db/app",
        ] {
            let error = url.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.starts_with("DATABASE_URL ") && !error.contains("s3cret"), "{url:?}: {error}");
        }
    }

    #[test]
    fn every_form_that_libpq_takes_passes() {
        for url in [
            "postgres://",
            "postgres:///app",
            "postgres://[::1]:5432/app",
            "postgres://a:1,b:2/app",
            "host=/tmp dbname=app",
        ] {
            assert!(url.parse::<DatabaseUrl>().is_ok(), "{url}");
        }
    }

    #[test]
    fn waiting_for_a_silent_server_is_bounded_unless_the_url_says_otherwise() {
        let four = Duration::from_secs(4);
        let given = |url: &str| url.parse::<DatabaseUrl>().unwrap().for_libpq(four);
        assert_eq!(given("postgres://db/app"), "postgres://db/app?connect_timeout=4");
        assert_eq!(given("postgres://db/app?sslmode=require"), "postgres://db/app?sslmode=require&connect_timeout=4");
        assert_eq!(given("host=db"), "host=db connect_timeout=4");
        assert_eq!(given("postgres://db/app?connect_timeout=9"), "postgres://db/app?connect_timeout=9");
    }

    #[test]
    #[cfg(feature = "testing")]
    fn another_database_of_the_same_server() {
        let url: DatabaseUrl = "postgres://app:x@db:5432/app?sslmode=require".parse().unwrap();
        assert_eq!(url.with_database("t1").0, "postgres://app:x@db:5432/t1?sslmode=require");
        let url: DatabaseUrl = "postgres://db".parse().unwrap();
        assert_eq!(url.with_database("t1").0, "postgres://db/t1");
    }
}
