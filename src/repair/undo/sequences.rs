//! Sets sequences back that a repair has moved on, where nobody has drawn a number since.

use diesel::{PgConnection, QueryResult};
use serde_json::Value;

use super::tenant::{Extent, Work};
use crate::repair::{
    memory::What,
    sequences::{Standing, largest, set, standing},
};

pub(super) fn set_back(conn: &mut PgConnection, work: &mut Work<'_>) -> QueryResult<()> {
    for (table, changes) in work.of(What::Sequence) {
        for change in changes.into_iter().rev() {
            let Some(name) = change.key["sequence"].as_str() else { continue };
            let (before, after) = (read(change.before.as_ref()), read(change.after.as_ref()));
            if work.undone.kept.iter().any(|kept| kept.table == table) {
                work.keep(&table, &change.key, "numbers rows that were kept");
                continue;
            }
            let now = standing(conn, name)?;
            let Some(before) = before.filter(|_| now.is_some() && now == after) else {
                work.keep(&table, &change.key, "was drawn from since");
                continue;
            };
            // While it was moved, others may have drawn from it too. Before, it may have been behind.
            let known = change.before.as_ref().and_then(|image| image["largest"].as_i64());
            let known = known.map_or(before.last_value, |largest| largest.max(before.last_value));
            if work.writes()
                && let Some(column) = change.key["column"].as_str()
                && largest(conn, work.schema, &table, column, name)?.is_some_and(|largest| largest > known)
            {
                work.keep(&table, &change.key, "numbers rows that were written since");
                continue;
            }
            // No rollback would set it again.
            if work.extent == Extent::Whole {
                set(conn, name, before)?;
            }
            work.done.push(change.id);
            work.undone.sequences.push(name.into());
        }
    }
    Ok(())
}

fn read(image: Option<&Value>) -> Option<Standing> {
    let image = image?;
    Some(Standing { last_value: image["last_value"].as_i64()?, is_called: image["is_called"].as_bool()? })
}
