//! Where the crate ends statements, against where PostgreSQL's own grammar does, over random scripts.
//!
//! `SPLIT_SEED` is the first seed, `SPLIT_CASES` how many scripts there are from it.
//!
//! A transaction that has failed parses what it is sent, and runs none of it. So the server can be asked whether a
//! text is one statement, several, none or no SQL, and of any statement at all.

use std::env;

use diesel::{PgConnection, RunQueryDsl, connection::SimpleConnection, sql_query};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus as Chance, seq::IndexedRandom};
use tenantry::testing::TestDatabase;

// No part of the public API, so that the files themselves are compiled in.
#[allow(dead_code)]
#[path = "../../src/pg/lexer.rs"]
mod lexer;
#[allow(dead_code)]
#[path = "../../src/pg/statements.rs"]
mod statements;

use statements::Unfit;

#[test]
fn statements_end_where_postgresql_says() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let (first, cases) = (number("SPLIT_SEED").unwrap_or(1), number("SPLIT_CASES").unwrap_or(2000));
    let db = TestDatabase::new();
    let mut server = Server::new(&db);
    let (mut valid, mut refused) = (0, 0);
    for seed in first..first + cases {
        let script = script(&mut Chance::seed_from_u64(seed));
        if server.is_valid(&script) {
            valid += 1;
            refused += u64::from(check(&mut server, &script, seed));
        }
    }
    eprintln!("{cases} scripts, {valid} of them valid, {refused} refused");
    assert!(valid >= cases / 5 && refused >= cases / 20, "too few say anything: {valid} valid, {refused} refused");
}

/// Compares one script's statements with the server's, and returns whether a migration cannot have it.
fn check(server: &mut Server, script: &str, seed: u64) -> bool {
    let statements = statements::split(script);
    let context = || format!("SPLIT_SEED={seed} SPLIT_CASES=1\n{script:?}\n{statements:#?}");
    let (mut between, mut at) = (String::new(), 0);
    for statement in &statements {
        assert_eq!(server.objection(statement), None, "{statement:?} of {}", context());
        let begin = statement.as_ptr().addr() - script.as_ptr().addr();
        // A comment may end with the text.
        between = format!("{between}{}\n", &script[at..begin]);
        at = begin + statement.len();
    }
    between += &script[at..];
    assert!(server.is_nothing(&between), "between the statements: {between:?} of {}", context());
    let expected = statements.iter().find_map(|statement| server.unfit(statement));
    let found = statements::unfit(script).map(|unfit| match unfit {
        Unfit::Control(_) => "control",
        Unfit::CopyFrom | Unfit::CopyTo => "copy",
        Unfit::Psql(_) => "psql",
    });
    assert_eq!(found, expected, "{}", context());
    found.is_some()
}

struct Server {
    /// In a transaction that has failed.
    failed: PgConnection,
    plain: PgConnection,
}

const FAIL: &str = "ROLLBACK; BEGIN; SELECT 1/0";
const FAILED: &str = "current transaction is aborted";

impl Server {
    fn new(db: &TestDatabase) -> Self {
        let (mut failed, plain) = (db.connect(), db.connect());
        failed.batch_execute(FAIL).unwrap_err();
        Self { failed, plain }
    }

    /// Whether the server can parse the whole script. Its first statement is refused, so that none is run.
    fn is_valid(&mut self, script: &str) -> bool {
        let error = self.failed.batch_execute(&format!("SELECT 1;{script}")).unwrap_err().to_string();
        error.starts_with(FAILED)
    }

    /// What is not one statement, if the text is not. None but one can be prepared.
    fn objection(&mut self, text: &str) -> Option<String> {
        match sql_query(text).execute(&mut self.failed) {
            // What ends a transaction is run, even so.
            Ok(_) => {
                self.failed.batch_execute(FAIL).unwrap_err();
                None
            }
            Err(error) => {
                Some(error.to_string()).filter(|error| !error.starts_with(FAILED) && !error.starts_with("savepoint "))
            }
        }
    }

    /// Whether there is no statement in the text.
    fn is_nothing(&mut self, text: &str) -> bool {
        self.failed.batch_execute(text).is_err_and(|error| error.to_string() == "Received an empty query")
    }

    /// Whether a migration cannot have this statement, by what PL/pgSQL says of it. All else it does is undone.
    fn unfit(&mut self, statement: &str) -> Option<&'static str> {
        let literal = statement.replace('\\', "\\\\").replace('\'', "''");
        let block = format!("BEGIN EXECUTE E'{literal}'; RAISE 'ran'; END").replace('\\', "\\\\").replace('\'', "''");
        let error = self.plain.batch_execute(&format!("DO E'{block}'")).unwrap_err().to_string();
        [("EXECUTE of transaction commands", "control"), ("cannot COPY to/from client", "copy")]
            .into_iter()
            .find_map(|(words, kind)| error.starts_with(words).then_some(kind))
    }
}

type Text = fn(&mut Chance) -> String;

fn one(chance: &mut Chance, of: &[&str]) -> String {
    (*of.choose(chance).unwrap()).into()
}

fn any(chance: &mut Chance, of: &[Text]) -> String {
    of.choose(chance).unwrap()(chance)
}

fn some(chance: &mut Chance, least: usize, most: usize, separator: &str, of: Text) -> String {
    let many = chance.random_range(least..=most);
    (0..many).map(|_| of(chance)).collect::<Vec<_>>().join(separator)
}

fn script(chance: &mut Chance) -> String {
    let mut script = gap(chance);
    for _ in 0..chance.random_range(1..=5) {
        let statement = statement(chance);
        // The blanks between words are of all kinds.
        for word in statement.split_inclusive('\u{1}') {
            script += word.trim_end_matches('\u{1}');
            if word.ends_with('\u{1}') {
                script += &blank(chance);
            }
        }
        script += &gap(chance);
        script += &one(chance, &[";", ";", ";", ";;", "; ;"]);
        script += &gap(chance);
    }
    script
}

/// At least one blank, or a comment.
fn blank(chance: &mut Chance) -> String {
    one(
        chance,
        &[
            " ",
            " ",
            " ",
            " ",
            "\n",
            "\r",
            "\t",
            "\u{c}",
            "\r\n",
            " \n ",
            "/**/",
            "/* ; ' \" $$ */",
            "/*/* ; */ ' */",
            "-- '\n",
            "--\r",
            " -- ; $a$ /*\r",
            "/* -- */",
            "/*\n*/ -- é\n",
            "/***/",
        ],
    )
}

fn gap(chance: &mut Chance) -> String {
    if chance.random_bool(0.6) { String::new() } else { some(chance, 1, 2, "", blank) }
}

fn statement(chance: &mut Chance) -> String {
    any(chance, &[select, select, select, insert, other, other, routine, routine, rule, body, control, copy])
}

fn select(chance: &mut Chance) -> String {
    let from = one(chance, &["", "", "\u{1}FROM\u{1}t", "\u{1}FROM\u{1}t\u{1}begin", "\u{1}FROM stdin"]);
    format!("SELECT\u{1}{}{from}", some(chance, 1, 3, ",", labelled))
}

fn labelled(chance: &mut Chance) -> String {
    let label = one(
        chance,
        &[
            "",
            "",
            "",
            "",
            "\u{1}AS\u{1}end",
            "\u{1}AS\u{1}case",
            "\u{1}end",
            "\u{1}case",
            "\u{1}atomic",
            "\u{1}AS begin",
            "\u{1}AS \"end\"",
            "\u{1}commit",
            "\u{1}é",
            "\u{1}AS \u{a0}",
        ],
    );
    expression(chance) + &label
}

fn expression(chance: &mut Chance) -> String {
    any(chance, &[literal, literal, literal, literal, name, plain, case, sum, nested])
}

fn plain(chance: &mut Chance) -> String {
    one(
        chance,
        &[
            "1",
            "1.5",
            ".5",
            "1.",
            "1e5",
            "$1",
            "t.end",
            "t.case",
            "t.*",
            "a[1:2]",
            "a-/*;*/-1",
            "1 -- ;\n+ 2",
            "begin",
            "atomic",
            "x'1f'",
            "b'01'",
            "1*/*'*/2",
            "f(a => 1)",
            "(E'\\'')::text",
            "a#>>'{a}'",
            "a @> '{\"b\": \";\"}'",
        ],
    )
}

fn sum(chance: &mut Chance) -> String {
    format!("{}{}{}{}", literal(chance), gap(chance), one(chance, &["||", "+", "-", "=", "/"]), plain(chance))
}

fn case(chance: &mut Chance) -> String {
    format!("CASE\u{1}WHEN true\u{1}THEN\u{1}{}\u{1}ELSE {}\u{1}END", literal(chance), plain(chance))
}

fn nested(chance: &mut Chance) -> String {
    format!("({})", select(chance))
}

fn name(chance: &mut Chance) -> String {
    one(
        chance,
        &[
            "a",
            "é",
            "日本",
            "a$b$c",
            "\"a;b\"",
            "\"a\"\"'\"",
            "\"--\"",
            "U&\"d\\0061t;\"",
            "\"$$\"",
            "\"\\\"",
            "u",
            "e",
            "E1",
            "x",
            "_a",
            "\u{2028}",
            "😀$",
            "\u{85}",
            "n",
            "\"E'\"",
            "\"\n\"\"\"",
        ],
    )
}

fn literal(chance: &mut Chance) -> String {
    any(chance, &[quoted, quoted, escaped, escaped, prefixed, dollars])
}

fn quoted(chance: &mut Chance) -> String {
    let inside: Text = |chance| some(chance, 0, 4, "", character);
    let mut literal = format!("'{}'", inside(chance));
    while chance.random_bool(0.25) {
        literal += &format!("{}'{}'", continuation(chance), inside(chance));
    }
    literal
}

fn escaped(chance: &mut Chance) -> String {
    let inside: Text = |chance| some(chance, 0, 4, "", |chance| any(chance, &[harmless, escape, escape]));
    let mut literal = format!("{}'{}'", one(chance, &["E", "e"]), inside(chance));
    while chance.random_bool(0.35) {
        literal += &format!("{}'{}'", continuation(chance), inside(chance));
    }
    literal
}

fn prefixed(chance: &mut Chance) -> String {
    match chance.random_range(0..3) {
        0 => one(chance, &["N", "n"]) + &quoted(chance),
        1 => one(chance, &["B'01'", "b'1'\n'0'", "X'1F'", "x'a' -- '\n'b'"]),
        _ => one(chance, &["U&'\\0061;'", "u&'a''\\\\'", "U&'!0061' UESCAPE '!'", "U&'a'\n';'"]),
    }
}

fn dollars(chance: &mut Chance) -> String {
    let tag = one(chance, &["", "", "a", "_", "é", "😀", "A1", "a_b", "COMMIT", "\u{a0}"]);
    let inside = some(chance, 0, 4, " ", |chance| any(chance, &[character, harmless, |_| "$b$ ' $b$".into()]));
    format!("${tag}${inside}${tag}$")
}

/// Inside of a string without escapes.
fn character(chance: &mut Chance) -> String {
    if chance.random_bool(0.2) { one(chance, &["\\", "\\", "''\\"]) } else { harmless(chance) }
}

fn harmless(chance: &mut Chance) -> String {
    one(
        chance,
        &[
            "a", ";", ";COMMIT;", "''", "--", "/*", "*/", "$$", "\n", "\r", "é", "\"", "$a$", " ", "😀", "(", ")",
            "\u{a0}", "; END;",
        ],
    )
}

fn escape(chance: &mut Chance) -> String {
    one(chance, &["\\'", "\\\\", "\\n", "\\'';", "\\'; ROLLBACK; --", "\\x41", "\\;", "\\é"])
}

/// Between two parts of a literal; some of these are none.
fn continuation(chance: &mut Chance) -> String {
    one(
        chance,
        &[
            "\n",
            "\n",
            "\r",
            "\r\n",
            " \n\t",
            " -- '\n",
            "\n-- ;\n",
            "\n--\r",
            "\u{c}\n",
            "\n\n  -- a\n  ",
            " ",
            "/* */\n",
        ],
    )
}

fn insert(chance: &mut Chance) -> String {
    format!("INSERT\u{1}INTO\u{1}{} VALUES\u{1}({})", name(chance), some(chance, 1, 3, ",", expression))
}

fn other(chance: &mut Chance) -> String {
    let (name, literal) = (name(chance), literal(chance));
    match chance.random_range(0..11) {
        0 => format!("CREATE\u{1}TABLE\u{1}{name}\u{1}(a text\u{1}DEFAULT {literal}, CHECK (a <> {literal}))"),
        1 => format!("COMMENT ON TABLE t IS {literal}"),
        2 => format!("CREATE TABLE {name} AS SELECT\u{1}begin\u{1}atomic"),
        3 => format!("SET\u{1}a.b\u{1}= {literal}"),
        4 => format!("PREPARE\u{1}{name} AS SELECT {literal}"),
        5 => format!("CREATE TABLE {name} (a int) WITH (end = 1, case = {literal})"),
        6 => format!("CREATE\u{1}VIEW {name} AS SELECT 1\u{1}AS begin, 2 atomic, 3 end"),
        7 => format!("CREATE INDEX CONCURRENTLY ON {name} ((a || {literal}))"),
        8 => format!("ALTER TABLE {name} ADD a text DEFAULT\u{1}{literal}, ADD b int"),
        9 => format!("EXPLAIN SELECT {literal}"),
        _ => format!("SELECT xmlelement(NAME end, {literal}), xmlelement(NAME case)"),
    }
}

fn routine(chance: &mut Chance) -> String {
    let what = one(chance, &["FUNCTION", "OR\u{1}REPLACE\u{1}FUNCTION", "PROCEDURE", "or replace\u{1}procedure"]);
    let result = if what.to_lowercase().contains("function") { "\u{1}RETURNS\u{1}int" } else { "" };
    let arguments = one(chance, &["", "a int", "a text DEFAULT 'end;'", "begin int", "a int DEFAULT (1)"]);
    let options = one(chance, &["", "\u{1}LANGUAGE\u{1}SQL", "\u{1}SET a.b TO begin", "\u{1}VOLATILE"]);
    let inner: Text = |chance| {
        let statement = any(chance, &[select, select, insert, other, rule, |_| "RETURN 1".into(), |_| String::new()]);
        format!("{}{statement}{};", gap(chance), gap(chance))
    };
    let body = some(chance, 0, 3, "", inner);
    let (begin, name) = (one(chance, &["BEGIN", "begin"]), name(chance));
    format!(
        "CREATE\u{1}{what}\u{1}{name}({arguments}){result}{options}\u{1}{begin}\u{1}ATOMIC\u{1}{body}{}{}",
        gap(chance),
        one(chance, &["END", "end"])
    )
}

fn rule(chance: &mut Chance) -> String {
    let (first, second) = (select(chance), insert(chance));
    format!("CREATE\u{1}RULE r AS ON INSERT TO t DO\u{1}ALSO ({first};{}{second};)", gap(chance))
}

/// Text that is a string to the server.
fn body(chance: &mut Chance) -> String {
    let literal = literal(chance);
    match chance.random_range(0..3) {
        0 => format!("DO\u{1}{literal}"),
        1 => format!("DO LANGUAGE plpgsql {literal}"),
        _ => format!("CREATE\u{1}FUNCTION f() RETURNS\u{1}int LANGUAGE sql AS\u{1}{literal}"),
    }
}

fn control(chance: &mut Chance) -> String {
    one(
        chance,
        &[
            "COMMIT",
            "commit\u{1}work",
            "ROLLBACK",
            "BEGIN",
            "begin\u{1}ISOLATION LEVEL SERIALIZABLE",
            "START\u{1}TRANSACTION",
            "END",
            "ABORT",
            "PREPARE\u{1}TRANSACTION\u{1}'x'",
            "COMMIT\u{1}AND CHAIN",
            "ROLLBACK\u{1}PREPARED 'x'",
            "ROLLBACK\u{1}TO a",
        ],
    )
}

fn copy(chance: &mut Chance) -> String {
    one(
        chance,
        &[
            "COPY\u{1}t\u{1}FROM\u{1}STDIN",
            "copy t\u{1}(a,\u{1}b) from\u{1}stdin",
            "COPY\u{1}(SELECT 1 FROM stdin)\u{1}TO\u{1}STDOUT",
            "COPY BINARY t TO stdout",
            "COPY stdin FROM '/nowhere/at all'",
            "COPY stdout\u{1}FROM\u{1}'/nowhere/STDIN' WITH\u{1}CSV",
            "COPY t FROM\u{1}stdout (FORMAT csv)",
        ],
    )
}
