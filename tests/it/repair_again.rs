//! A second repair, after one that had to leave something.

use tenantry::{
    directory::{FixedList, TenantDirectory},
    doctor::Rules,
    repair::{Reason, Repair, Report, Undo},
    testing::TestDatabase,
};

/// `acme` refers to a firm of `public`, and `globex` to a branch of that firm.
fn contested() -> TestDatabase {
    let db = TestDatabase::with_empty_schemas(["acme", "globex"]);
    for schema in ["public", "acme", "globex"] {
        db.execute(
            schema,
            "CREATE TABLE firms (id uuid PRIMARY KEY, country uuid); \
             CREATE TABLE branches (id uuid PRIMARY KEY, firm uuid REFERENCES firms); \
             CREATE TABLE links (firm uuid REFERENCES firms, branch uuid REFERENCES branches)",
        );
    }
    db.execute(
        "public",
        "INSERT INTO firms VALUES (md5('f')::uuid, NULL); INSERT INTO branches VALUES (md5('b')::uuid, md5('f')::uuid)",
    );
    plant(&db, "acme", "INSERT INTO links VALUES (md5('f')::uuid, NULL)");
    plant(&db, "globex", "INSERT INTO links VALUES (NULL, md5('b')::uuid)");
    db
}

fn plant(db: &TestDatabase, schema: &str, sql: &str) {
    db.execute(schema, &format!("SET session_replication_role = replica; {sql}"));
}

fn repair(db: &TestDatabase) -> Report {
    let conn = &mut db.connect();
    let listing = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]).list(conn).unwrap();
    Repair::new(&Rules::default()).apply(conn, &listing).unwrap()
}

/// What was copied to whom, and who may have what was left.
fn told(report: &Report) -> (Vec<String>, Vec<String>) {
    let (mut copied, mut left) = (Vec::new(), Vec::new());
    for tenant in &report.tenants {
        let outcome = tenant.result.as_ref().unwrap();
        copied.extend(outcome.copied.iter().map(|one| format!("{} {}", tenant.schema, one.table)));
        for one in &outcome.left {
            let Reason::Contested { tenants } = &one.reason else { panic!("{one:?}") };
            let tenants: Vec<&str> = tenants.iter().map(|name| name.as_str()).collect();
            left.push(format!("{} {} of {}", tenant.schema, one.table, tenants.join(" or ")));
        }
    }
    (copied, left)
}

#[test]
fn what_belongs_to_a_row_that_was_given_to_a_tenant_is_not_given_to_another_later() {
    let db = contested();
    let contested = ["acme branches of acme or globex", "globex branches of acme or globex"].map(String::from);
    assert_eq!(told(&repair(&db)), (vec!["acme firms".into()], contested.to_vec()));
    assert_eq!(told(&repair(&db)), (vec![], contested[1..].to_vec()));
    assert_eq!(db.text("SELECT count(*) FROM globex.firms"), "0");
}

#[test]
fn it_is_given_to_the_other_once_the_first_one_has_lost_what_it_was_given() {
    let db = contested();
    repair(&db);
    plant(&db, "acme", "DELETE FROM firms; DELETE FROM links");
    assert_eq!(told(&repair(&db)), (vec!["globex branches".into(), "globex firms".into()], vec![]));
}

#[test]
fn it_is_given_to_the_other_once_the_first_repair_was_taken_back() {
    let db = contested();
    let number = repair(&db).repair.unwrap();
    Undo::new(number).run(&mut db.connect()).unwrap();
    db.execute("acme", "DELETE FROM links");
    assert_eq!(told(&repair(&db)), (vec!["globex branches".into(), "globex firms".into()], vec![]));
}

#[test]
fn what_was_only_needed_makes_nothing_the_tenants() {
    let db = contested();
    for schema in ["public", "acme", "globex"] {
        db.execute(schema, "CREATE TABLE countries (id uuid PRIMARY KEY); ALTER TABLE firms ADD FOREIGN KEY (country) REFERENCES countries");
    }
    // The firms of both are of one country, and globex comes to refer to its own only later.
    db.execute("globex", "DELETE FROM links");
    db.execute(
        "public",
        "DELETE FROM branches; INSERT INTO countries VALUES (md5('c')::uuid); UPDATE firms SET country = md5('c')::uuid; \
         INSERT INTO firms VALUES (md5('g')::uuid, md5('c')::uuid)",
    );
    assert_eq!(told(&repair(&db)), (vec!["acme countries".into(), "acme firms".into()], vec![]));
    plant(&db, "globex", "INSERT INTO links VALUES (md5('g')::uuid, NULL)");
    assert_eq!(told(&repair(&db)), (vec!["globex countries".into(), "globex firms".into()], vec![]));
}
