//! [`DatabaseUrl`]: where the database is, with a password that stays out of logs.

use std::{cmp::Reverse, fmt, str::FromStr, time::Duration};

use crate::Error;

/// A PostgreSQL connection URL (`postgres://…`) or libpq's `key=value` form.
///
/// `Display` and `Debug` write `***` for all that is not known to be no secret: they show the user, the hosts, the
/// database and such parameters of libpq as `sslmode`, where they are names as most are. What libpq itself would quote in
/// an error about a malformed URL is checked here first, so that it never has a password to quote.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// What libpq is given: the URL, with bounds on waiting for a server that does not answer or is not there any more.
    /// Those that the URL has itself stay.
    ///
    /// `unread` is how long what is sent may wait to be read. Without it, that takes as long as TCP tries.
    pub(crate) fn for_libpq(&self, connect_timeout: Duration, unread: Option<Duration>) -> String {
        let mut bounds = vec![("connect_timeout", connect_timeout.as_secs().max(2).to_string())];
        bounds.extend(KEEPALIVES.map(|(name, value)| (name, value.to_owned())));
        bounds.extend(unread.map(|unread| ("tcp_user_timeout", unread.as_millis().to_string())));
        let own = self.parameters();
        bounds.into_iter().filter(|(name, _)| !own.contains(name)).fold(self.0.clone(), |url, (name, value)| {
            if !is_uri(&url) {
                // At the end, a backslash of the last value would take it for a part of that.
                return format!("{name}={value} {url}");
            }
            let mark = if uri_query(&url).is_empty() { '?' } else { '&' };
            format!("{url}{mark}{name}={value}")
        })
    }

    /// The names of the parameters that the URL has.
    fn parameters(&self) -> Vec<&str> {
        match is_uri(&self.0) {
            true => uri_query(&self.0).split(['?', '&']).map(|pair| split_before(pair, '=').0).collect(),
            false => pairs(&self.0).iter().map(|(name, _)| *name).collect(),
        }
    }

    /// What libpq or the server wrote about this URL, without what is hidden of it.
    pub(crate) fn hide_in(&self, words: &str) -> String {
        let words = words.replace(&self.0, &self.to_string());
        let mut secrets = Vec::new();
        for part in self.parts().iter().filter(|part| !part.is_open) {
            // They may quote it as it was written or as they read it, and only one side of a mark.
            let read = unquoted(part.text);
            let forms = [part.text.to_owned(), decoded(&read), read];
            let sides = forms.iter().flat_map(|form| form.split(['=', ':', '@', '/', '?', '&', ' ']));
            secrets.extend(sides.chain(forms.iter().map(String::as_str)).map(str::to_owned));
        }
        secrets.retain(|secret| !secret.is_empty());
        // The longest first, since another may be a part of it.
        secrets.sort_by_key(|secret| Reverse(secret.len()));
        secrets.iter().fold(words, |words, secret| without(&words, secret))
    }

    /// The URL in parts, of which those are open that are known to be no secrets.
    fn parts(&self) -> Vec<Part<'_>> {
        if is_uri(&self.0) { uri_parts(&self.0) } else { pair_parts(&self.0) }
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
        self.parts().iter().try_for_each(|part| f.write_str(if part.is_open { part.text } else { HIDDEN }))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How the client notices that the server, or the way to it, is gone without a word: a connection that is silent while a
/// statement runs is asked, and the server's system answers, so a statement may take as long as it likes. It is not asked
/// while something that was sent has not arrived, for which there is `tcp_user_timeout`. A connection through a Unix
/// socket ignores all of them.
const KEEPALIVES: [(&str, &str); 3] =
    [("keepalives_idle", "5"), ("keepalives_interval", "5"), ("keepalives_count", "3")];

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

/// What is shown in place of a part that may be a secret.
const HIDDEN: &str = "***";

/// A piece of a URL.
#[derive(Debug, Clone, Copy)]
struct Part<'u> {
    text: &'u str,
    is_open: bool,
}

/// The parameters of libpq whose values are no secrets.
const OPEN: [&str; 29] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "port",
    "replication",
    "require_auth",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Those whose values may be secrets, or, as `options` may, hold some.
const CLOSED: [&str; 5] = ["options", "passfile", "password", "service", "sslpassword"];

/// The parameters of a URI, from the `?` on.
fn uri_query(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    split_before(&rest[userinfo(rest).len()..], '?').1
}

fn uri_parts(url: &str) -> Vec<Part<'_>> {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    let userinfo = userinfo(rest);
    let (user, password) = userinfo.split_at(userinfo.find(':').map_or(userinfo.len(), |at| at + 1));
    let (place, query) = split_before(&rest[userinfo.len()..], '?');
    let (hosts, database) = place.split_at(place.find('/').map_or(place.len(), |at| at + 1));
    let part = |text, is_open| Part { text, is_open };
    let mut parts = vec![
        part(scheme, true),
        part(user, is_plain(user, ":")),
        part(password, password.is_empty()),
        part(hosts, is_plain(hosts, "@:,[]/")),
        part(database, is_plain(database, "")),
    ];
    for (at, pair) in query.split('&').enumerate().filter(|_| !query.is_empty()) {
        let (mark, pair) = if at == 0 { pair.split_at(1) } else { ("&", pair) };
        let (name, value) = split_before(pair, '=');
        parts.push(part(mark, true));
        parts.extend(parameter(name, value.strip_prefix('=').unwrap_or(value), value));
    }
    parts
}

fn pair_parts(text: &str) -> Vec<Part<'_>> {
    let part = |text| Part { text, is_open: true };
    let mut parts = Vec::new();
    for (name, value) in pairs(text) {
        if !parts.is_empty() {
            parts.push(part(" "));
        }
        parts.extend(parameter(name, value, "="));
    }
    parts
}

/// The names and values of libpq's `key=value` form, values as they are written.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    let (mut pairs, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (name, after) = split_before(rest, '=');
        let value = after.strip_prefix('=').unwrap_or(after).trim_start();
        let (value, others) = value.split_at(pair_value_len(value));
        pairs.push((name.trim(), value));
        rest = others.trim_start();
    }
    pairs
}

/// A parameter in parts. A name that libpq does not know may be a secret too.
fn parameter<'u>(name: &'u str, value: &'u str, mark: &'u str) -> [Part<'u>; 3] {
    let is_open = OPEN.contains(&name);
    let marks = if ["user", "dbname"].contains(&name) { "" } else { "/," };
    [
        Part { text: name, is_open: is_open || CLOSED.contains(&name) },
        Part { text: &mark[..mark.len().min(1)], is_open: true },
        Part { text: value, is_open: is_open && is_plain(value, marks) },
    ]
}

fn split_before(text: &str, mark: char) -> (&str, &str) {
    text.split_at(text.find(mark).unwrap_or(text.len()))
}

/// Whether a name or an address is written as most are, and so is certain to hold no other URL. Other marks than these
/// are not plain, nor are they when they are percent-encoded.
fn is_plain(text: &str, marks: &str) -> bool {
    let bare: String = text.chars().filter(|c| !marks.contains(*c)).collect();
    let is_in_names = |c: char| c.is_alphanumeric() || "._-~".contains(c) || c == '/' && marks.contains('/');
    !text.contains("://") && decoded(&bare).chars().all(is_in_names)
}

/// Without percent-encoding.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => (bytes.push(code), rest = &after[2..]),
            _ => (bytes.push(*byte), rest = after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of a pair as libpq reads it: without its quotes and backslashes.
fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').map_or(value, |inner| inner.strip_suffix('\'').unwrap_or(inner));
    let (mut text, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            text.push(c);
        }
    }
    text
}

/// The words without a secret. A short one is hidden where it stands alone; elsewhere it is a part of some other word.
fn without(words: &str, secret: &str) -> String {
    let (mut out, mut rest) = (String::new(), words);
    while let Some(at) = rest.find(secret) {
        let (before, after) = (&rest[..at], &rest[at + secret.len()..]);
        let is_alone = !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
        out += before;
        out += if secret.chars().count() > 3 || is_alone { HIDDEN } else { secret };
        rest = after;
    }
    out + rest
}

/// Whether a value in quotes ends where they do.
fn ends_its_quotes(value: &str) -> bool {
    let mut escaped = false;
    let end = value[1..].find(|c| {
        let ends = c == '\'' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.is_some_and(|at| at + 2 == value.len())
}

/// How long the value of a pair is: to the end of its quotes, and to the next space.
fn pair_value_len(value: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if at == 0 => quoted = true,
            '\'' if quoted => quoted = false,
            c if c.is_whitespace() && !quoted => return at,
            _ => {}
        }
    }
    value.len()
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
        let (value, others) = value.split_at(pair_value_len(value));
        if value.starts_with('\'') && !ends_its_quotes(value) {
            return Err("has a quote that does not end, or text behind one");
        }
        rest = others.trim_start();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use diesel::{Connection, PgConnection};

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
    fn only_what_is_known_to_be_no_secret_is_shown() {
        let secret = ["s3cret", "S3CRET%21", "s3=cret", "s3%2Fcret", "s3cret%40x"];
        let in_uris = [
            "postgres://u:{}@h/d",
            "postgresql://u:{}@h:1,h2:2/d?sslmode=require",
            "postgres://:{}@/d",
            "postgres://u%3A{}@h/d",
            "postgres://h/d%3Fpassword%3D{}",
            "postgres://h/d?password={}",
            "postgres://h/d?Password={}",
            "postgres://h/d?PASSWORD={}&user=u",
            "postgres://h/d?sslpassword={}",
            "postgres://h/d?passfile=/home/{}",
            "postgres://h/d?service={}",
            "postgres://h/d?pass={}",
            "postgres://h/d?{}=1",
            "postgres://h?{}=",
            "postgres://h/d?options=-c%20app.token%3D{}",
            "postgres://h/d?dbname=postgres%3A%2F%2Fv:{}@h%2Fx",
            "postgres://h/d?dbname=postgres%3A%2F%2Fv%3A{}%40h%2Fx",
            "postgres://h/d?host=v:{}@h",
            "postgres://h/d?user=v%3A{}",
            "postgres://h/d?application_name=password%3D{}",
            "postgres://h/d?connect_timeout=1&password={}&connect_timeout=2",
        ];
        let in_pairs = [
            "host=h password={}",
            "host=h password = {}",
            "host = h   password= '{}'",
            "password='a {} b' host=h",
            "password='\\' {}' host=h",
            "password=a\\ {} host=h",
            "password\t=\n{}",
            "sslpassword={} user=u",
            "options='-c app.token={}' host=h",
            "host=h dbname='user=u password={}'",
            "dbname='host=h password = {}'",
            "host=h pass={}",
            "user=v:{}",
            "user='v password={}'",
        ];
        let mut accepted = 0;
        for secret in secret {
            for url in in_uris.iter().chain(&in_pairs).map(|url| url.replace("{}", secret)) {
                let part = secret.replace('%', " ").split(' ').next().unwrap().to_lowercase();
                let (said, libpq) = match url.parse::<DatabaseUrl>() {
                    // What libpq or the server may say of it.
                    Ok(parsed) => {
                        accepted += 1;
                        let read = decoded(&unquoted(url.split_once('=').map_or(&url, |(_, value)| value.trim())));
                        let words = format!("cannot use \"{url}\", \"{}\" nor \"{read}\"", decoded(&url));
                        (format!("{parsed} {parsed:?}"), parsed.hide_in(&words))
                    }
                    Err(error) => (error.to_string(), String::new()),
                };
                for text in [said, libpq].map(|text| text.to_lowercase()) {
                    assert!(!text.contains(&part), "{url:?} as {text:?}");
                    assert!(!text.contains("s3cret") && !text.contains("cret"), "{url:?} as {text:?}");
                }
            }
        }
        assert!(accepted > 100, "most of them are URLs that libpq takes: {accepted}");
    }

    #[test]
    fn what_libpq_says_is_kept_but_for_the_secrets() {
        let url: DatabaseUrl = "postgres://app:on@db/app?dbname=postgres%3A%2F%2Fv:s3cret@h%2Fx".parse().unwrap();
        let words = "connection to \"db\" failed: database \"postgres://v:s3cret@h/x\" does not exist, on \"on\"";
        assert_eq!(url.hide_in(words), "connection to \"db\" failed: database \"***\" does not exist, *** \"***\"");
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
            "host=db password='x's3cret",
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
        let (four, unread) = (Duration::from_secs(4), Some(Duration::from_secs(15)));
        let given = |url: &str| url.parse::<DatabaseUrl>().unwrap().for_libpq(four, unread);
        let silence = "keepalives_idle=5&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=15000";
        assert_eq!(given("postgres://db/app"), format!("postgres://db/app?connect_timeout=4&{silence}"));
        let pooled = "postgres://db/app".parse::<DatabaseUrl>().unwrap().for_libpq(four, None);
        assert!(pooled.contains("keepalives_idle=5") && !pooled.contains("tcp_user_timeout"), "{pooled}");
        assert_eq!(
            given("postgres://app:connect_timeout?x=1@db/app?sslmode=require"),
            format!("postgres://app:connect_timeout?x=1@db/app?sslmode=require&connect_timeout=4&{silence}")
        );
        assert_eq!(
            given("postgres://app:1?x=1@db/app"),
            format!("postgres://app:1?x=1@db/app?connect_timeout=4&{silence}")
        );
        assert_eq!(
            given("postgres://db/app?connect_timeout=9&keepalives_idle=60&tcp_user_timeout=0"),
            "postgres://db/app?connect_timeout=9&keepalives_idle=60&tcp_user_timeout=0&keepalives_interval=5&keepalives_count=3"
        );
        assert_eq!(
            given("host=db tcp_user_timeout = 0 password='connect_timeout=9' user=a\\"),
            "keepalives_count=3 keepalives_interval=5 keepalives_idle=5 connect_timeout=4 \
             host=db tcp_user_timeout = 0 password='connect_timeout=9' user=a\\"
        );
    }

    #[test]
    fn libpq_takes_what_is_added_to_a_url() {
        // Nothing answers there, so what libpq complains of is not the text.
        for url in ["postgres://u@127.0.0.1:1/d", "host=127.0.0.1 port=1", "postgres://u@%2Fnowhere/d", "host=/nowhere"]
        {
            let url =
                url.parse::<DatabaseUrl>().unwrap().for_libpq(Duration::from_secs(4), Some(Duration::from_secs(15)));
            let Err(error) = PgConnection::establish(&url) else { panic!("{url}") };
            assert!(error.to_string().contains("failed: "), "{url}: {error}");
        }
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
