//! The folders tell the architecture: each row imports only from the rows above it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the bottom to the top. Modules of one row do not import each other.
const ROWS: &[&[&str]] = &[
    &["quote", "glob"],
    &["schema_name"],
    &["error"],
    &["config"],
    &["pg", "lint"],
    &["runs"],
    &["directory", "migrate"],
    &["structure"],
    &["provision", "doctor"],
    &["repair", "fleet", "baseline"],
    &["domain", "testing"],
    &["cli"],
];

/// What the engine keeps to itself, so that the domain proves its public API sufficient.
const PRIVATE: &[&str] = &[
    "quote",
    "catalog",
    "ddl",
    "engine",
    "lock",
    "lexer",
    "statements",
    "tables",
    "depth",
    "is_lost",
    "roll_back_to",
    "transient",
    "xact",
];

#[test]
fn no_module_imports_from_its_own_row_or_above() {
    let mut wrong = Vec::new();
    for (module, file, text) in sources() {
        let Some(row) = row_of(&module) else { panic!("{file} is in no row: add it to the table") };
        for imported in imports(&text) {
            let allowed = imported == module || row_of(&imported).is_none_or(|other| other < row);
            if !allowed {
                wrong.push(format!("{file} ({module}) imports {imported}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_domain_uses_only_the_public_api() {
    for (_, file, text) in sources().into_iter().filter(|(module, ..)| module == "domain") {
        // Every name of every `use crate::…;`, and of every path written out.
        let named: Vec<String> = text
            .split("crate::")
            .skip(1)
            .flat_map(|after| {
                let end = if after.starts_with('{') { after.find(';') } else { after.find([';', '(', ' ']) };
                after[..end.unwrap_or(after.len())].split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned)
            })
            .collect();
        for private in PRIVATE {
            assert!(!named.iter().any(|name| name == private), "{file} uses {private}, which no monolith could");
        }
    }
}

#[test]
fn only_the_cli_prints() {
    for (module, file, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
        let prints = ["println!", "eprintln!", "print!(", "io::stdout"].iter().any(|word| code.contains(word));
        assert!(module == "cli" || !prints, "{file} prints");
    }
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Module, path and text of every file of the library.
fn sources() -> Vec<(String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut waiting = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside: PathBuf = path.strip_prefix(&src).unwrap().into();
            let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
            if !["lib", "bin"].contains(&&*module) {
                found.push((module, inside.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The modules named after `crate::`, one by one or in braces, outside of comments.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut modules = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => modules.push(word(after)),
            Some(braced) => {
                let (mut depth, mut start) = (0, true);
                for (at, c) in braced.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            modules.push(word(&braced[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    let types =
        [("SchemaName", "schema_name"), ("SchemaNameError", "schema_name"), ("Error", "error"), ("Config", "config")];
    let more = [("DatabaseUrl", "config"), ("Fleet", "fleet"), ("Status", "fleet")];
    let home = |name: &String| {
        types.iter().chain(&more).find(|(known, _)| known == name).map(|(_, module)| module.to_string())
    };
    modules.into_iter().map(|name| home(&name).unwrap_or(name)).collect()
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
