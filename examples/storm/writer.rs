//! Writes rows with keys of their own, and notes what becomes of each.

use diesel::{PgConnection, prelude::*};

use super::{
    Storm,
    fault::Fault,
    ledger::{Key, Place, Reported},
};

diesel::table! {
    notes (key) {
        key -> BigInt,
        author -> Integer,
    }
}

mod shared {
    diesel::table! {
        public.notes (key) {
            key -> BigInt,
            author -> Integer,
        }
    }
}

/// Who every schema knows.
pub const KNOWN: i32 = 1;

/// Who none does: the server finds that out at COMMIT.
pub const UNKNOWN: i32 = 2;

/// The rows of one visit.
pub struct Writer<'s> {
    storm: &'s Storm<'s>,
    thread: u16,
    visit: u32,
    rows: u16,
}

impl<'s> Writer<'s> {
    pub fn new(storm: &'s Storm<'s>, thread: u16, visit: u32) -> Self {
        Self { storm, thread, visit, rows: 0 }
    }

    /// Writes a row in a transaction of its own.
    pub fn alone(&mut self, conn: &mut PgConnection, place: Place) -> Result<(), Fault> {
        let what = match place {
            Place::Tenant(_) => "row in a session",
            Place::Public => "row in public, outside of a scope",
            Place::Nowhere => "bare row, outside of a scope",
        };
        let key = self.enter(place);
        let result = insert(conn, key, place, KNOWN);
        self.storm.tally.result(what, &result);
        match &result {
            Ok(()) => self.storm.ledger.settle(&[key], Reported::Acknowledged, None),
            Err(fault) => self.storm.ledger.settle(&[key], fault.reported(true, false), Some(&fault.kind())),
        }
        result
    }

    /// Writes a row in a transaction that is under way, which settles it. A row that fails is settled at once.
    pub fn within(
        &mut self,
        conn: &mut PgConnection,
        place: Place,
        author: i32,
        ended_by_hand: bool,
    ) -> Result<Key, Fault> {
        let key = self.enter(place);
        let result = insert(conn, key, place, author);
        self.storm.tally.result("row in a transaction", &result);
        result.map(|()| key).inspect_err(|fault| {
            self.storm.ledger.settle(&[key], fault.reported(false, ended_by_hand), Some(&fault.kind()));
        })
    }

    /// Enters a row that is not going to be committed.
    pub fn abandon(&mut self, place: Place) -> Key {
        let key = self.enter(place);
        self.storm.ledger.settle(&[key], Reported::Failed, Some("left behind in an open transaction"));
        key
    }

    fn enter(&mut self, place: Place) -> Key {
        self.rows += 1;
        let key = Key::new(self.thread, self.visit, self.rows);
        self.storm.ledger.enter(key, place);
        key
    }
}

/// With statements that Diesel keeps prepared, as an application's are.
fn insert(conn: &mut PgConnection, key: Key, place: Place, author: i32) -> Result<(), Fault> {
    match place {
        Place::Public => {
            use shared::notes::dsl;
            diesel::insert_into(dsl::notes).values((dsl::key.eq(key.0), dsl::author.eq(author))).execute(conn)?;
        }
        Place::Tenant(_) | Place::Nowhere => {
            use notes::dsl;
            diesel::insert_into(dsl::notes).values((dsl::key.eq(key.0), dsl::author.eq(author))).execute(conn)?;
        }
    }
    Ok(())
}
