//! Removes the copies that a repair has made.

use std::collections::BTreeMap;

use diesel::PgConnection;

use super::{
    copies::{Copies, unchanged},
    delete::delete,
    referrers::keep_referred_to,
    tenant::Work,
};
use crate::{
    Error,
    repair::{Copied, memory::What},
};

pub(super) fn remove(conn: &mut PgConnection, work: &mut Work<'_>) -> Result<(), Error> {
    let mut copies = Copies::new();
    for (table, changes) in work.of(What::Inserted) {
        let found = unchanged(conn, work, &table, changes)?;
        copies.insert(table, found);
    }
    copies.retain(|_, rows| !rows.is_empty());
    keep_referred_to(conn, work, &mut copies)?;
    for (table, rows) in &copies {
        let rows = rows.len() as i64;
        if rows > 0 {
            work.undone.removed.push(Copied { table: table.clone(), rows });
        }
    }
    if work.writes() && copies.values().any(|rows| !rows.is_empty()) {
        delete(conn, work, &copies)?;
    }
    work.done.extend(copies.values().flat_map(BTreeMap::values).map(|change| change.id));
    Ok(())
}
