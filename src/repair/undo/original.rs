use super::tenant::Work;
use crate::{
    pg::tables::{Key, equal},
    repair::{admit::content, rows},
};

/// The condition that `public` has a row of which `t` is the copy: one of the same key. A number may be another row's
/// there, and the copy's may be new, so that it tells only where nothing else does.
pub(super) fn has_original(work: &Work<'_>, name: &str) -> String {
    let (tenant, public) = (&work.tenant, &work.public);
    let Some((table, other)) = tenant.tables.get(name).zip(public.tables.get(name)) else { return "false".into() };
    let is_number = |column: &String| tenant.columns(name).iter().any(|known| known.name == *column && known.numbered);
    let from = public.only("public", name);
    let both = |key: &Key| tenant.has(name, &key.columns) && public.has(name, &key.columns);
    let mut keys: Vec<&Key> = table.keys.iter().chain(&other.keys).filter(|key| both(key)).collect();
    keys.sort_by_key(|key| (!key.primary, &key.columns));
    keys.dedup_by_key(|key| &key.columns);
    let (numbers, mut telling): (Vec<&Key>, Vec<&Key>) =
        keys.into_iter().partition(|key| key.columns.iter().any(is_number));
    // Another row may have what else was the original's.
    if telling.first().is_some_and(|key| key.primary) {
        telling.truncate(1);
    }
    let same = |key: &Key| {
        let same: Vec<String> =
            key.columns.iter().map(|column| equal(("t", tenant, name, column), ("p", public, name, column))).collect();
        format!("({})", same.join(" AND "))
    };
    let given = |key: &Key| {
        let given: Vec<String> =
            key.columns.iter().map(|column| format!("{} IS NOT NULL", rows::column("t", column))).collect();
        format!("({})", given.join(" AND "))
    };
    // Nobody may delete the original while the copy goes.
    let lock = if work.writes() { "FOR KEY SHARE OF p" } else { "" };
    let exists = |keys: &[String]| format!("EXISTS (SELECT FROM {from} p WHERE {} {lock})", keys.join(" AND "));
    let any = |conditions: Vec<String>| {
        format!("({})", conditions.into_iter().chain(["false".into()]).collect::<Vec<_>>().join(" OR "))
    };
    // By one key it is found, and all that are given have to tell the same.
    let alike = |key: &&Key| {
        let others = telling.iter().filter(|other| other.columns != key.columns);
        let others = others.map(|other| format!("(NOT {} OR {})", given(other), same(other)));
        exists(&[same(key)].into_iter().chain(others).collect::<Vec<_>>())
    };
    let told = any(telling.iter().map(alike).collect());
    let is_told = any(telling.iter().map(|key| given(key)).collect());
    let rest = match numbers.is_empty() {
        false => any(numbers.iter().map(|key| exists(&[same(key)])).collect()),
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
