//! For each row of the storm: where it was meant to go, what was reported to its writer, and where it is at the end.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::BigInt};
use tenantry::testing::TestDatabase;

use super::{
    fleet::{self, Tenants},
    plan::Tenant,
};

/// Where a row is meant to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Tenant(Tenant),
    Public,
    /// It names no tenant, so there is no right schema.
    Nowhere,
}

/// What is reported to the writer of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// The row is there.
    Acknowledged,
    /// The row is not there.
    Failed,
    /// An error that leaves it open, and says so.
    Unknown,
}

/// A row, as the storm knows it.
#[derive(Debug)]
pub struct Entry {
    pub place: Place,
    pub reported: Option<Reported>,
    /// The kind of the error.
    pub error: Option<Box<str>>,
}

/// The row's key: the thread, its visit, and the row's number in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub i64);

impl Key {
    pub fn new(thread: u16, visit: u32, row: u16) -> Self {
        Self(i64::from(thread) << 48 | i64::from(visit) << 16 | i64::from(row))
    }

    pub fn thread(self) -> u16 {
        (self.0 >> 48) as u16
    }

    pub fn visit(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// All rows that were tried.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<HashMap<Key, Entry>>);

impl Ledger {
    /// Enters a row that is about to be written.
    pub fn enter(&self, key: Key, place: Place) {
        self.0.lock().expect("the ledger").insert(key, Entry { place, reported: None, error: None });
    }

    /// Notes what was reported to the writer of these rows.
    pub fn settle(&self, keys: &[Key], reported: Reported, error: Option<&str>) {
        let mut entries = self.0.lock().expect("the ledger");
        for key in keys {
            let entry = entries.get_mut(key).expect("a row that was entered");
            assert_eq!(entry.reported, None, "a row is settled once");
            (entry.reported, entry.error) = (Some(reported), error.map(Into::into));
        }
    }

    /// Looks at every row.
    pub fn each(&self, mut look: impl FnMut(Key, &Entry)) {
        self.0.lock().expect("the ledger").iter().for_each(|(key, entry)| look(*key, entry));
    }
}

/// Where each row is, in every schema that has such a table.
pub fn read(db: &TestDatabase, tenants: &Tenants) -> HashMap<Key, Vec<String>> {
    await_the_others(db);
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        key: i64,
    }
    let mut found = HashMap::<Key, Vec<String>>::new();
    let conn = &mut db.connect();
    for schema in db.texts("SELECT relnamespace::regnamespace FROM pg_catalog.pg_class WHERE relname = 'notes'") {
        assert!(schema == "public" || tenants.has(&schema), "rows are in schema {schema}, which is no tenant's");
        let rows: Vec<Row> = sql_query(format!("SELECT key FROM {schema}.notes")).load(conn).expect("the rows");
        rows.into_iter().for_each(|row| found.entry(Key(row.key)).or_default().push(schema.clone()));
    }
    found
}

/// Waits until the storm's connections have ended at the server, too: until then they may still commit.
fn await_the_others(db: &TestDatabase) {
    let started = Instant::now();
    let others = format!("SELECT count(*) FROM {} WHERE pid <> pg_backend_pid()", fleet::CONNECTIONS);
    while db.text(&others) != "0" {
        assert!(started.elapsed() < Duration::from_secs(30), "connections of the storm do not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}
