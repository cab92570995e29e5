//! Removes the copies that a repair has made.

use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, Text},
};

use super::tenant::Work;
use crate::{
    Error,
    doctor::{references, same_key},
    pg::tables::{Key, Reference, equal},
    quote,
    repair::{
        Copied,
        admit::content,
        memory::{PastChange, What},
        outside::{Outside, outside},
        rows::{self, Place},
    },
};

/// For each table, the copies to remove by place, each with the change that made it.
type Copies = BTreeMap<String, BTreeMap<Place, PastChange>>;

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
    if !work.dry_run && copies.values().any(|rows| !rows.is_empty()) {
        delete(conn, work, &copies)?;
    }
    work.done.extend(copies.values().flat_map(BTreeMap::values).map(|change| change.id));
    Ok(())
}

/// The copies that are as the repair has made them. The others are kept.
fn unchanged(
    conn: &mut PgConnection,
    work: &mut Work<'_>,
    table: &str,
    changes: Vec<PastChange>,
) -> QueryResult<BTreeMap<Place, PastChange>> {
    #[derive(QueryableByName)]
    struct Match {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        place: Place,
        #[diesel(sql_type = Bool)]
        same: bool,
        /// Whether `public` has what it was copied from, or gets it back.
        #[diesel(sql_type = Bool)]
        original: bool,
    }
    let returned: Vec<String> = work
        .of(What::Deleted)
        .remove(table)
        .into_iter()
        .flatten()
        .filter(|change| work.done.contains(&change.id))
        .map(|change| change.key.to_string())
        .collect();
    let matches: Vec<Match> = match work.tenant.tables.get(table) {
        None => Vec::new(),
        Some(structure) => sql_query(format!(
            "SELECT u.id, {place} AS place, {image} @> u.after::jsonb AND {untouched} AS same, \
                    {original} OR u.key::jsonb = ANY ($4::text[]::jsonb[]) AS original \
             FROM {table} t JOIN unnest($1, $2, $3) u(id, key, after) ON {key} = u.key::jsonb {lock}",
            place = rows::place("t"),
            image = rows::image(structure, "t"),
            untouched = untouched(conn, work, table, &changes)?,
            original = has_original(work, table),
            key = rows::key_image(structure, "t"),
            table = work.tenant.only(&work.schema.quoted(), table),
            lock = if work.dry_run { "" } else { "FOR UPDATE OF t" },
        ))
        .bind::<Array<BigInt>, _>(changes.iter().map(|change| change.id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(changes.iter().map(|change| json(change.after.as_ref())).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(returned)
        .load(conn)?,
    };
    let mut found = BTreeMap::new();
    for change in changes {
        let mut of_change = matches.iter().filter(|one| one.id == change.id).peekable();
        let is_there = of_change.peek().is_some();
        // Rows without a key may be alike: each stands for one of the copies.
        match of_change.find(|one| one.same && !found.contains_key(&one.place)) {
            Some(one) if !one.original => work.keep(table, &change.key, "has no original in public any more"),
            Some(one) => {
                found.insert(one.place.clone(), change);
            }
            None if is_there => work.keep(table, &change.key, "was changed since"),
            None => work.keep(table, &change.key, "is gone"),
        }
    }
    Ok(found)
}

/// The condition that nobody has written into the columns of the row `t` that were added since: a column says nothing
/// of the row as long as it has what all rows got with it.
fn untouched(conn: &mut PgConnection, work: &Work<'_>, table: &str, changes: &[PastChange]) -> QueryResult<String> {
    #[derive(QueryableByName)]
    struct Given {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Nullable<Text>)]
        value: Option<String>,
    }
    let is_known =
        |name: &str| changes.iter().any(|change| change.after.as_ref().is_some_and(|after| after.get(name).is_some()));
    let new = rows::written(&work.tenant.tables[table]).map(|column| &column.name).filter(|name| !is_known(name));
    let given: Vec<Given> = sql_query(
        "SELECT a.attname::text AS name, (a.attmissingval::text::text[])[1] AS value FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = ANY ($3) AND NOT a.attisdropped",
    )
    .bind::<Text, _>(work.schema.as_str())
    .bind::<Text, _>(table)
    .bind::<Array<Text>, _>(new.collect::<Vec<_>>())
    .load(conn)?;
    let conditions = given.into_iter().map(|Given { name, value }| {
        let column = rows::column("t", &name);
        match value {
            Some(value) => format!("coalesce({column}::text = {}, true)", quote::literal(&value)),
            None => format!("{column} IS NULL"),
        }
    });
    Ok(conditions.chain(["true".into()]).collect::<Vec<_>>().join(" AND "))
}

/// The condition that `public` has a row of which `t` is the copy: one of the same key. A number may be another row's
/// there, and the copy's may be new, so that it tells only where nothing else does.
fn has_original(work: &Work<'_>, name: &str) -> String {
    let (tenant, public) = (&work.tenant, &work.public);
    let Some((table, other)) = tenant.tables.get(name).zip(public.tables.get(name)) else { return "false".into() };
    let is_number = |column: &String| tenant.columns(name).iter().any(|known| known.name == *column && known.numbered);
    let from = public.only("public", name);
    let exists = |key: &Key| {
        let same: Vec<String> =
            key.columns.iter().map(|column| equal(("t", tenant, name, column), ("p", public, name, column))).collect();
        format!("EXISTS (SELECT FROM {from} p WHERE {})", same.join(" AND "))
    };
    let given = |key: &Key| {
        let given: Vec<String> =
            key.columns.iter().map(|column| format!("{} IS NOT NULL", rows::column("t", column))).collect();
        format!("({})", given.join(" AND "))
    };
    let keys = table.keys.iter().chain(&other.keys);
    let (numbers, telling): (Vec<&Key>, Vec<&Key>) = keys
        .filter(|key| tenant.has(name, &key.columns) && public.has(name, &key.columns))
        .partition(|key| key.columns.iter().any(is_number));
    let any = |conditions: Vec<String>| {
        format!("({})", conditions.into_iter().chain(["false".into()]).collect::<Vec<_>>().join(" OR "))
    };
    let told = any(telling.iter().map(|key| exists(key)).collect());
    let is_told = any(telling.iter().map(|key| given(key)).collect());
    let rest = match numbers.is_empty() {
        false => any(numbers.iter().map(|key| exists(key)).collect()),
        true => {
            let text = |alias, column: &str| format!("{}::text", rows::column(alias, column));
            let right = content(public, tenant, name, |column| Some(text("t", column)));
            let alike = content(public, tenant, name, |column| Some(text("p", column)));
            let filled = content(public, tenant, name, |column| {
                Some(format!("coalesce({}, {})", text("p", column), text("t", column)))
            });
            // What was null may have been filled on the way; to look for that takes long, and is seldom needed.
            any([alike, filled]
                .iter()
                .map(|left| format!("EXISTS (SELECT FROM {from} p WHERE {left} = {right})"))
                .collect())
        }
    };
    format!("({told} OR NOT {is_told} AND {rest})")
}

/// Keeps the copies to which rows refer that were not there, or did not refer to them in vain, before the repair.
fn keep_referred_to(conn: &mut PgConnection, work: &mut Work<'_>, copies: &mut Copies) -> QueryResult<()> {
    let references = references(&work.tenant, &work.public);
    let outside = outside(conn, work.schema)?;
    loop {
        let mut kept = Vec::new();
        for outside in outside.iter().filter(|outside| copies.contains_key(&outside.parent)) {
            for place in referred_to_outside(conn, work, outside, copies)? {
                kept.push((outside.parent.clone(), place, outside.child()));
            }
        }
        for reference in references.iter().filter(|reference| copies.contains_key(&reference.parent)) {
            for place in referred_to(conn, work, reference, copies, Referrers::New)? {
                kept.push((reference.parent.clone(), place, reference.child.clone()));
            }
        }
        let before = copies.values().map(BTreeMap::len).sum::<usize>();
        for (table, place, child) in kept {
            let change = copies.get_mut(&table).and_then(|rows| rows.remove(&place));
            if let Some(change) = change {
                work.keep(
                    &table,
                    &change.key,
                    &format!("is referred to by rows of {child} that are newer, or were kept"),
                );
            }
        }
        if copies.values().map(BTreeMap::len).sum::<usize>() == before {
            return Ok(());
        }
    }
}

/// Which of a row's referrers count.
#[derive(Clone, Copy, PartialEq)]
enum Referrers {
    /// Those that neither are removed nor referred in vain before the repair.
    New,
    /// All that are not removed.
    Any,
}

#[derive(QueryableByName)]
struct At {
    #[diesel(sql_type = Text)]
    place: Place,
}

/// The places of the copies that are referred to.
fn referred_to(
    conn: &mut PgConnection,
    work: &Work<'_>,
    reference: &Reference,
    copies: &Copies,
    which: Referrers,
) -> QueryResult<Vec<Place>> {
    let places = |table: &str| copies.get(table).map(|rows| rows.keys().collect::<Vec<_>>()).unwrap_or_default();
    let known: Vec<(String, String)> = match which {
        Referrers::Any => Vec::new(),
        Referrers::New => {
            let referred =
                |change: &&PastChange| change.what == What::Referred.word() && change.table == reference.child;
            work.changes
                .iter()
                .filter(referred)
                .map(|change| (change.key.to_string(), json(change.before.as_ref())))
                .collect()
        }
    };
    let (keys, refers): (Vec<String>, Vec<String>) = known.into_iter().unzip();
    let found: Vec<At> = sql_query(format!(
        "SELECT DISTINCT {place} AS place FROM {parent} p JOIN {child} c ON {same} \
         WHERE {at} AND NOT ({removed}) AND ({key}, {refers}) NOT IN (SELECT key::jsonb, refers::jsonb FROM unnest($3::text[], $4::text[]) u(key, refers))",
        place = rows::place("p"),
        parent = work.tenant.only(&work.schema.quoted(), &reference.parent),
        child = work.tenant.only(&work.schema.quoted(), &reference.child),
        same = same_key(reference, ("c", &work.tenant), ("p", &work.tenant)),
        at = rows::is_at("p", 1),
        removed = rows::is_at("c", 2),
        key = rows::key_image(&work.tenant.tables[&reference.child], "c"),
        refers = rows::image_of(reference.child_columns.iter().map(String::as_str), "c"),
    ))
    .bind::<Array<Text>, _>(places(&reference.parent))
    .bind::<Array<Text>, _>(places(&reference.child))
    .bind::<Array<Text>, _>(keys)
    .bind::<Array<Text>, _>(refers)
    .load(conn)?;
    Ok(found.into_iter().map(|row| row.place).collect())
}

/// The places of the copies to which rows of another schema refer.
fn referred_to_outside(
    conn: &mut PgConnection,
    work: &Work<'_>,
    outside: &Outside,
    copies: &Copies,
) -> QueryResult<Vec<Place>> {
    let (child, same) = outside.refers();
    let found: Vec<At> = sql_query(format!(
        "SELECT DISTINCT {} AS place FROM {} p JOIN {child} c ON {same} WHERE {}",
        rows::place("p"),
        work.tenant.only(&work.schema.quoted(), &outside.parent),
        rows::is_at("p", 1),
    ))
    .bind::<Array<Text>, _>(copies[&outside.parent].keys().collect::<Vec<_>>())
    .load(conn)?;
    Ok(found.into_iter().map(|row| row.place).collect())
}

/// Deletes them. Foreign keys whose rows will refer in vain again would delete those rows too, or forbid it: they
/// are taken away meanwhile.
fn delete(conn: &mut PgConnection, work: &mut Work<'_>, copies: &Copies) -> Result<(), Error> {
    let mut loose = Vec::new();
    for reference in work.tenant.references.iter().filter(|reference| copies.contains_key(&reference.parent)) {
        if !referred_to(conn, work, reference, copies, Referrers::Any)?.is_empty() {
            loose.extend(loosen(conn, work, reference)?);
        }
    }
    conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
    let tables: Vec<(&String, &BTreeMap<Place, PastChange>)> =
        copies.iter().filter(|(_, rows)| !rows.is_empty()).collect();
    // In one statement, after which alone foreign keys act: what hangs on a row by cascade is gone by then as well.
    let delete = |(at, (table, _)): (usize, &(&String, _))| {
        let table = work.tenant.only(&work.schema.quoted(), table);
        format!("d{at} AS (DELETE FROM {table} t WHERE {} RETURNING 1)", rows::is_at("t", 1))
    };
    let deletes: Vec<String> = tables.iter().enumerate().map(delete).collect();
    let counts: Vec<String> =
        (0..tables.len()).map(|at| format!("SELECT {at}::bigint AS at, count(*) AS rows FROM d{at}")).collect();
    let deleted: Vec<Deleted> =
        sql_query(format!("WITH {} {} ORDER BY at", deletes.join(", "), counts.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(tables.iter().flat_map(|(_, rows)| rows.keys()).collect::<Vec<_>>())
            .load(conn)?;
    for ((table, rows), Deleted { rows: deleted, .. }) in tables.into_iter().zip(deleted) {
        if deleted != rows.len() as i64 {
            return Err(Error::Repair {
                schema: work.schema.clone(),
                reason: format!("{deleted} of {} rows of {table} could be removed again: try again", rows.len()),
            });
        }
    }
    conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
    for Loose { table, name, definition, valid } in loose {
        let not_valid = if valid { " NOT VALID" } else { "" };
        conn.batch_execute(&format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}{not_valid}"))?;
        if valid {
            work.undone.loosened.push(name);
        }
    }
    Ok(())
}

/// How many rows of which table were deleted.
#[derive(QueryableByName)]
struct Deleted {
    #[diesel(sql_type = BigInt)]
    #[allow(dead_code)]
    at: i64,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// A constraint that was taken away, by quoted names.
#[derive(QueryableByName)]
struct Loose {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    definition: String,
    #[diesel(sql_type = Bool)]
    valid: bool,
}

fn loosen(conn: &mut PgConnection, work: &Work<'_>, reference: &Reference) -> QueryResult<Vec<Loose>> {
    let loose: Vec<Loose> = sql_query(
        "SELECT c.oid::regclass::text AS table, quote_ident(k.conname) AS name, \
                pg_get_constraintdef(k.oid) AS definition, k.convalidated AS valid \
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
         JOIN pg_catalog.pg_class p ON p.oid = k.confrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND k.conname = $3 AND k.contype = 'f' AND k.conparentid = 0 \
           AND p.relnamespace = c.relnamespace",
    )
    .bind::<Text, _>(work.schema.as_str())
    .bind::<Text, _>(&reference.child)
    .bind::<Text, _>(&reference.name)
    .load(conn)?;
    for Loose { table, name, .. } in &loose {
        conn.batch_execute(&format!("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE {table} DROP CONSTRAINT {name}"))?;
    }
    Ok(loose)
}

pub(super) fn json(image: Option<&serde_json::Value>) -> String {
    image.map_or_else(|| "null".into(), ToString::to_string)
}
