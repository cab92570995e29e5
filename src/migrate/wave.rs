//! Which tenants come first.

use serde::Serialize;

use crate::{Error, SchemaName, glob::Glob};

/// The tenants that a run tries first, before it goes on to the others.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Canary {
    /// So many of the first ones.
    First(usize),
    /// Those whose schemas match.
    Matching(Glob),
}

/// Tenants that are migrated and verified together, before the next ones are begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wave {
    /// `canary`, or the share of the fleet that is done after it: `10%`.
    pub(super) name: String,
    pub(super) schemas: Vec<SchemaName>,
}

/// The fleet in waves: the canary, then up to each of these percentages of the whole.
pub(super) fn split(schemas: &[SchemaName], canary: Option<&Canary>, percentages: &[u8]) -> Result<Vec<Wave>, Error> {
    let refuse = |reason: &str| Err(Error::Request { reason: reason.into() });
    if !percentages.is_sorted_by(|one, next| one < next) || percentages.last().is_some_and(|last| *last != 100) {
        return refuse("waves are percentages that grow and end with 100, such as 1%,10%,100%");
    }
    let is_canary = |at: usize, schema: &SchemaName| match canary {
        None => false,
        Some(Canary::First(count)) => at < *count,
        Some(Canary::Matching(glob)) => glob.matches(schema.as_str()),
    };
    let (first, rest): (Vec<_>, Vec<_>) = schemas.iter().enumerate().partition(|(at, schema)| is_canary(*at, schema));
    let name = |(_, schema): (usize, &SchemaName)| schema.clone();
    let mut waves = Vec::new();
    if canary.is_some() {
        if first.is_empty() && !schemas.is_empty() {
            return refuse("no tenant is the canary: name one that there is");
        }
        waves.push(Wave { name: "canary".into(), schemas: first.into_iter().map(name).collect() });
    }
    let mut rest = rest.into_iter().map(name);
    for percentage in if percentages.is_empty() { &[100] } else { percentages } {
        let done: usize = waves.iter().map(|wave| wave.schemas.len()).sum();
        let goal = (schemas.len() * usize::from(*percentage)).div_ceil(100);
        let wave: Vec<SchemaName> = rest.by_ref().take(goal.saturating_sub(done)).collect();
        waves.push(Wave { name: format!("{percentage}%"), schemas: wave });
    }
    waves.retain(|wave| !wave.schemas.is_empty());
    Ok(waves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: usize, canary: Option<Canary>, percentages: &[u8], expected: &[(&str, usize)]) {
        let schemas: Vec<SchemaName> = (0..count).map(|number| format!("t{number}").parse().unwrap()).collect();
        let waves = split(&schemas, canary.as_ref(), percentages).unwrap();
        let shown: Vec<(&str, usize)> = waves.iter().map(|wave| (wave.name.as_str(), wave.schemas.len())).collect();
        assert_eq!(shown, expected);
        let mut all: Vec<SchemaName> = waves.into_iter().flat_map(|wave| wave.schemas).collect();
        all.sort_by_key(|schema| schema.as_str()[1..].parse::<usize>().unwrap());
        assert_eq!(all, schemas, "everyone is in one wave");
    }

    #[test]
    fn every_tenant_is_in_one_wave() {
        check(200, None, &[], &[("100%", 200)]);
        check(200, Some(Canary::First(3)), &[], &[("canary", 3), ("100%", 197)]);
        check(200, None, &[1, 10, 100], &[("1%", 2), ("10%", 18), ("100%", 180)]);
        check(200, Some(Canary::First(5)), &[1, 10, 100], &[("canary", 5), ("10%", 15), ("100%", 180)]);
        check(200, Some(Canary::Matching(Glob::new("t7?"))), &[], &[("canary", 10), ("100%", 190)]);
        check(2, Some(Canary::First(9)), &[50, 100], &[("canary", 2)]);
        check(0, Some(Canary::First(1)), &[], &[]);
    }

    #[test]
    fn waves_that_make_no_sense_are_refused() {
        let schemas: Vec<SchemaName> = vec!["acme".parse().unwrap()];
        for percentages in [&[10][..], &[50, 10, 100], &[10, 10, 100], &[0, 50]] {
            assert!(split(&schemas, None, percentages).is_err(), "{percentages:?}");
        }
        assert!(split(&schemas, Some(&Canary::Matching(Glob::new("globex"))), &[]).is_err());
    }
}
