//! `tenantry lint`, as CI runs it: on folders, without a database.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tenantry::lint::{self, Lint, Set};

/// A project's folder, gone afterwards.
struct Project(PathBuf);

impl Project {
    /// With both sets' folders, and nothing in them.
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("tenantry-{}", uuid::Uuid::new_v4()));
        for set in ["public", "tenant"] {
            fs::create_dir_all(folder.join("migrations").join(set)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join("migrations").join(file)
    }

    fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A tenant's migration that can be taken back.
    fn tenant(&self, name: &str, up: &str) {
        self.write(&format!("tenant/{name}/up.sql"), up);
        self.write(&format!("tenant/{name}/down.sql"), "SELECT 1;");
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        run_in(&self.0, args)
    }

    /// The findings, as `file rule`.
    fn found(&self, args: &[&str]) -> Vec<String> {
        let (_, out, err) = self.run(&[&["--json"], args].concat());
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        let text = |value: &Value| value.as_str().unwrap().replace("migrations/", "");
        let findings = report["findings"].as_array().unwrap();
        findings.iter().map(|finding| format!("{} {}", text(&finding["file"]), text(&finding["rule"]))).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `tenantry lint` with nothing in its environment, least of all a DATABASE_URL.
fn run_in(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
    let output = command.arg("lint").args(args).env_clear().current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn this_projects_own_migrations_pass() {
    let answer = run_in(Path::new(env!("CARGO_MANIFEST_DIR")), &["--citus", "--strict"]);
    assert_eq!(answer, (0, "3 migrations: 0 errors, 0 warnings\n".into(), String::new()));
}

#[test]
fn findings_stand_under_their_files_with_the_counts_last() {
    let project = Project::new();
    project.write("public/p1_extension/up.sql", "CREATE EXTENSION pg_trgm;\nSET search_path = acme;\n");
    project.write("public/p1_extension/down.sql", "DROP EXTENSION pg_trgm;");
    project.tenant("0001_make_notes", "CREATE TABLE notes (id uuid, author uuid REFERENCES public.users);");
    project.tenant(
        "0002_index_notes",
        "-- Notes are found by author.\nCREATE INDEX notes_author ON notes (author);\n\
         /* Grüße */ INSERT INTO public.log (what) VALUES ('notes');\n",
    );
    project.write("tenant/0003_forget/up.sql", "DELETE FROM notes;");
    let (code, out, err) = project.run(&[]);
    assert_eq!((code, &*err), (2, ""));
    insta::assert_snapshot!(out, @r"
    migrations/public/p1_extension/up.sql
        2:5 error search-path: the search_path is changed within the migration
            leave the path alone; a function is pinned by a SET clause of its own
    migrations/tenant/0001_make_notes/up.sql
        1:53 error foreign-key-out: the foreign key refers to `public.users`
            drop the constraint, and check the reference in the service
    migrations/tenant/0002_index_notes/up.sql
        2:1 warning require-concurrent-index-creation: an index is built while writes to its table wait
            do it CONCURRENTLY, alone in a migration with run_in_transaction = false, or allow it where tables are small
        3:25 error qualified-name: `public.log` is the same object for every tenant
            write the bare name for the tenant's own; move what is shared to the public set
    migrations/tenant/0003_forget
        error irreversible: there is no down.sql
            write a down.sql that takes up.sql back

    4 migrations: 4 errors, 1 warning
    ");
}

#[test]
fn json_has_the_same_report() {
    let project = Project::new();
    project.tenant("0001_drop", "SELECT 1;\n  DROP TABLE notes;");
    project.write("tenant/0001_drop/down.sql", "");
    let (code, out, _) = project.run(&["--json"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(out, @r#"
    {
      "migrations": 1,
      "errors": 1,
      "warnings": 1,
      "findings": [
        {
          "rule": "irreversible",
          "severity": "error",
          "set": "tenant",
          "migration": "0001_drop",
          "file": "migrations/tenant/0001_drop/down.sql",
          "line": null,
          "column": null,
          "message": "the file has no statement",
          "cure": "write a down.sql that takes up.sql back"
        },
        {
          "rule": "ban-drop-table",
          "severity": "warning",
          "set": "tenant",
          "migration": "0001_drop",
          "file": "migrations/tenant/0001_drop/up.sql",
          "line": 2,
          "column": 3,
          "message": "a table is dropped, with its data, in every tenant",
          "cure": "make sure that no running release reads it, and allow it saying so"
        }
      ]
    }
    "#);
}

#[test]
fn warnings_alone_pass_unless_they_are_to_count() {
    let project = Project::new();
    project.tenant("0001_index", "CREATE INDEX i ON notes (author);");
    assert_eq!(project.run(&[]).0, 0);
    assert_eq!(project.run(&["--strict"]).0, 2);
    project.tenant("0001_index", "CREATE TABLE notes (author uuid); CREATE INDEX i ON notes (author);");
    assert_eq!(project.run(&["--strict"]).0, 0);
}

#[test]
fn rules_can_be_picked_and_left_out() {
    let project = Project::new();
    project.tenant("1_all", "DROP TABLE notes; SET search_path = a; SELECT 1 FROM public.t; CREATE TABLE u (a serial)");
    let up = |rules: &[&str]| rules.iter().map(|rule| format!("tenant/1_all/up.sql {rule}")).collect::<Vec<_>>();
    assert_eq!(project.found(&[]), up(&["ban-drop-table", "search-path", "qualified-name"]));
    assert_eq!(project.found(&["--only", "search-path"]), up(&["search-path"]));
    assert_eq!(project.found(&["--only", "ban-drop-table,search-path"]), up(&["ban-drop-table", "search-path"]));
    assert_eq!(project.found(&["--skip", "search-path", "--skip", "ban-drop-table"]), up(&["qualified-name"]));
    assert_eq!(project.found(&["--only", "citus-serial"]), up(&["citus-serial"]));
    let with_citus = up(&["ban-drop-table", "search-path", "qualified-name", "citus-serial"]);
    assert_eq!(project.found(&["--citus"]), with_citus);
    assert_eq!(project.run(&["--only", "allow-unused"]).0, 0);
    let (code, _, err) = project.run(&["--skip", "serach-path"]);
    assert_eq!(code, 1);
    assert!(err.contains("'serach-path'") && err.contains("tenantry lint --rules"), "{err}");
}

#[test]
fn one_set_can_be_named_alone() {
    let project = Project::new();
    project.tenant("1_drop", "DROP TABLE notes;");
    fs::rename(project.path("tenant"), project.path("elsewhere")).unwrap();
    assert_eq!(project.found(&["--tenant-set", "migrations/elsewhere"]), ["elsewhere/1_drop/up.sql ban-drop-table"]);
    assert_eq!(project.found(&["--public-set", "migrations/public"]), Vec::<String>::new());
    fs::remove_dir(project.path("public")).unwrap();
    assert_eq!(project.run(&["--tenant-set", "migrations/elsewhere"]).0, 0);
}

#[test]
fn a_folder_that_is_not_there_is_no_finding() {
    let project = Project::new();
    let missing =
        "error: the public migrations cannot be used: there is no folder nowhere: name it with --public-set\n";
    assert_eq!(project.run(&["--public-set", "nowhere"]), (1, String::new(), missing.into()));
    project.write("file", "");
    let (code, _, err) = project.run(&["--tenant-set", "migrations/file"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("error: the tenant migrations cannot be used: migrations/file cannot be read: "), "{err}");
    fs::remove_dir(project.path("tenant")).unwrap();
    let (code, out, err) = project.run(&[]);
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("there is no folder migrations/tenant: name it with --tenant-set"), "{err}");
}

#[test]
fn tenants_are_not_chosen_where_none_is_asked() {
    let project = Project::new();
    for args in [["--tenant", "acme"], ["--schemas", "acme*"], ["--except", "acme"], ["--state", "active"]] {
        let expected =
            "error: lint reads migrations, and no tenants: name folders with --public-set and --tenant-set\n";
        assert_eq!(project.run(&args), (1, String::new(), expected.into()));
    }
}

#[test]
fn files_that_cannot_be_right_are_findings() {
    let project = Project::new();
    project.tenant("01_latin1", "");
    project.write("tenant/01_latin1/up.sql", b"SELECT 'Gr\xfc\xdfe';");
    project.tenant("02_nul", "SELECT 1;\0");
    project.tenant("03_empty", "");
    project.tenant("04_broken", "CREATE TABLE t (a int;");
    project.tenant("05_bom", "\u{feff}SELECT 1;");
    project.tenant("06_metadata", "SELECT 1;");
    project.write("tenant/06_metadata/metadata.toml", "run_in_transaction = maybe");
    fs::create_dir(project.path("tenant/07_nothing")).unwrap();
    project.tenant(&format!("{}_long", "8".repeat(51)), "SELECT 1;");
    let long = format!("tenant/{}_long version-too-long", "8".repeat(51));
    assert_eq!(
        project.found(&[]),
        [
            "tenant/01_latin1/up.sql not-text",
            "tenant/02_nul/up.sql not-text",
            "tenant/03_empty/up.sql no-up",
            "tenant/04_broken/up.sql syntax-error",
            "tenant/05_bom/up.sql not-text",
            "tenant/06_metadata/metadata.toml metadata",
            "tenant/07_nothing irreversible",
            "tenant/07_nothing no-up",
            &long,
        ]
    );
}

#[test]
fn no_version_is_there_twice() {
    let project = Project::new();
    project.tenant("2026-01-01_a", "SELECT 1;");
    project.tenant("20260101_b", "SELECT 1;");
    assert_eq!(project.found(&[]), ["tenant/20260101_b version-twice"]);
    // Both sets record in public.
    project.write("public/20260101_c/up.sql", "SELECT 1;");
    project.write("public/20260101_c/down.sql", "SELECT 1;");
    assert_eq!(project.found(&[]), ["tenant/2026-01-01_a version-twice", "tenant/20260101_b version-twice"]);
}

#[test]
fn a_tenant_has_no_table_that_only_the_public_set_makes() {
    let project = Project::new();
    project.write("public/p1_users/up.sql", "CREATE TABLE users (id uuid); CREATE TABLE public.\"Both\" (id uuid);");
    project.write("public/p1_users/down.sql", "DROP TABLE users, \"Both\";");
    project.tenant("1_own", "CREATE TABLE \"Both\" (id uuid); CREATE TABLE notes (id uuid, users int);");
    project.tenant("2_fine", "INSERT INTO \"Both\" SELECT id FROM notes; WITH users AS (SELECT 1) TABLE users;");
    project.tenant("3_key", "CREATE TABLE tags (author uuid REFERENCES Users (id));");
    project.tenant("4_rows", "DO $$ BEGIN UPDATE users SET id = NULL; END $$;");
    let expected = ["tenant/3_key/up.sql public-table", "tenant/4_rows/up.sql public-table"];
    assert_eq!(project.found(&[]), expected);
    // Without the public set nobody can tell.
    assert_eq!(project.found(&["--tenant-set", "migrations/tenant"]), Vec::<String>::new());
}

#[test]
fn files_and_hidden_folders_beside_migrations_are_left_alone() {
    let project = Project::new();
    project.write("tenant/README.md", "Not SQL.");
    project.write("tenant/.git/config", "");
    assert_eq!(project.run(&["--strict"]), (0, "0 migrations: 0 errors, 0 warnings\n".into(), String::new()));
}

#[test]
fn every_rule_is_listed_on_a_line() {
    let project = Project::new();
    fs::remove_dir_all(project.path("")).unwrap();
    let (code, out, _) = project.run(&["--rules"]);
    assert_eq!((code, out.lines().count()), (0, lint::rules().count()));
    assert!(out.lines().zip(lint::rules()).all(|(line, rule)| line.starts_with(rule.id)), "{out}");
    let (_, json, _) = project.run(&["--rules", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), lint::rules().count());
    assert!(json[0]["cure"].is_string());
}

#[test]
fn a_monolith_can_lint_in_its_own_tests() {
    let project = Project::new();
    project.tenant("1_type", "CREATE TYPE mood AS ENUM ('good');");
    let report = lint::folder(Set::Tenant, project.path("tenant")).unwrap();
    assert_eq!((report.migrations, report.errors, report.is_healthy(false)), (1, 1, false));
    assert_eq!((report.findings[0].line, report.findings[0].column), (Some(1), Some(1)));
    let rule = lint::Rule::find("create-type").unwrap();
    assert!(Lint::new().tenant(project.path("tenant")).skip([rule]).run().unwrap().is_healthy(true));
    assert!(lint::folder(Set::Public, project.path("nowhere")).is_err());
}
