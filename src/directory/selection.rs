use std::collections::{BTreeSet, HashMap};

use diesel::PgConnection;

use super::{Glob, Listing, TenantDirectory, TenantEntry};
use crate::{Error, SchemaName};

/// Some of another directory's tenants.
///
/// ```
/// use tenantry::directory::{FixedList, Glob, Only, Selected};
///
/// let all = FixedList(vec!["acme".parse()?, "globex".parse()?, "globex_test".parse()?]);
/// let some = Selected { directory: &all, globs: vec![Glob::new("globex*")], except: vec![], only: Only::All };
/// # Ok::<(), tenantry::SchemaNameError>(())
/// ```
#[allow(missing_debug_implementations)] // the directory has none
pub struct Selected<'d> {
    /// The tenants to choose from.
    pub directory: &'d dyn TenantDirectory,
    /// Those whose schema matches one of these, in the order of these; all of them when there is none.
    pub globs: Vec<Glob>,
    /// But not those whose schema matches one of these.
    pub except: Vec<Glob>,
    /// Active tenants, suspended ones, or both.
    pub only: Only,
}

/// Active tenants, suspended ones, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Only {
    /// Both.
    #[default]
    All,
    /// Tenants that are in use.
    Active,
    /// Tenants that are not.
    Suspended,
}

impl TenantDirectory for Selected<'_> {
    /// # Errors
    ///
    /// Those of the directory, [`Error::Request`] when a pattern matches no tenant, and [`Error::SchemaName`] when it
    /// is a name that none can have.
    fn list(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        let all = self.directory.list(conn)?;
        let names: BTreeSet<&str> = all.names().collect();
        let has_none = |glob: &&Glob| match glob.is_name() {
            true => !names.contains(glob.as_str()),
            false => !names.iter().any(|name| glob.matches(name)),
        };
        if let Some(glob) = self.globs.iter().find(has_none) {
            if let (true, Err(source)) = (glob.is_name(), glob.as_str().parse::<SchemaName>()) {
                return Err(Error::SchemaName { name: glob.as_str().into(), source });
            }
            let what = if glob.is_name() { "has" } else { "matches" };
            let reason =
                format!("no tenant {what} schema `{}`: `tenantry status` lists those that there are", glob.as_str());
            return Err(Error::Request { reason });
        }
        Ok(self.choose(all))
    }

    fn everyone(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        self.directory.everyone(conn)
    }

    fn is_whole(&self) -> bool {
        self.globs.is_empty() && self.except.is_empty() && self.only == Only::All && self.directory.is_whole()
    }
}

impl Selected<'_> {
    fn choose(&self, all: Listing) -> Listing {
        let (globs, except) = (Places::new(&self.globs), Places::new(&self.except));
        let place = |name: &str| if self.globs.is_empty() { Some(0) } else { globs.of(name) };
        let place = |name: &str| place(name).filter(|_| except.of(name).is_none());
        let fits = |tenant: &TenantEntry| match self.only {
            Only::All => true,
            Only::Active => tenant.active,
            Only::Suspended => !tenant.active,
        };
        let mut placed: Vec<(usize, TenantEntry)> = all
            .tenants
            .into_iter()
            .filter(fits)
            .filter_map(|tenant| place(tenant.schema.as_str()).map(|place| (place, tenant)))
            .collect();
        // Stable: within one pattern the directory's order is kept.
        placed.sort_by_key(|(place, _)| *place);
        Listing {
            tenants: placed.into_iter().map(|(_, tenant)| tenant).collect(),
            refused: all.refused.into_iter().filter(|(name, _)| place(name).is_some()).collect(),
        }
    }
}

/// Where each of many patterns stands. Those that are names are not tried one after the other.
struct Places<'g> {
    names: HashMap<&'g str, usize>,
    wild: Vec<(usize, &'g Glob)>,
}

impl<'g> Places<'g> {
    fn new(globs: &'g [Glob]) -> Self {
        let mut places = Self { names: HashMap::new(), wild: Vec::new() };
        for (at, glob) in globs.iter().enumerate() {
            match glob.is_name() {
                true => drop(places.names.entry(glob.as_str()).or_insert(at)),
                false => places.wild.push((at, glob)),
            }
        }
        places
    }

    /// The place of the first that matches.
    fn of(&self, name: &str) -> Option<usize> {
        let wild = self.wild.iter().find(|(_, glob)| glob.matches(name)).map(|(at, _)| *at);
        self.names.get(name).copied().into_iter().chain(wild).min()
    }
}

/// Those of another directory's tenants whose schemas have these names.
///
/// With `public` among the names it counts as [whole](TenantDirectory::is_whole) if that directory does.
#[allow(missing_debug_implementations)] // the directory has none
pub struct Named<'d> {
    /// The tenants to choose from.
    pub directory: &'d dyn TenantDirectory,
    /// The names of their schemas.
    pub names: BTreeSet<String>,
}

impl TenantDirectory for Named<'_> {
    fn list(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        let mut listing = self.directory.list(conn)?;
        listing.tenants.retain(|tenant| self.names.contains(tenant.schema.as_str()));
        listing.refused.retain(|(name, _)| self.names.contains(name));
        Ok(listing)
    }

    fn everyone(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        self.directory.everyone(conn)
    }

    fn is_whole(&self) -> bool {
        self.names.contains("public") && self.directory.is_whole()
    }

    fn is_choice(&self) -> bool {
        true
    }
}

impl Listing {
    fn names(&self) -> impl Iterator<Item = &str> {
        let refused = self.refused.iter().map(|(name, _)| name.as_str());
        self.tenants.iter().map(|tenant| tenant.schema.as_str()).chain(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::FixedList;

    #[track_caller]
    fn check(globs: &[&str], except: &[&str], only: Only, expected: &[&str]) {
        let entry = |name: &str| (name.to_owned(), None, !name.starts_with("old"));
        let all = Listing::from_entries(["acme", "globex", "old_acme", "old_globex", "pg_x"].map(entry));
        let patterns = |globs: &[&str]| globs.iter().map(|glob| Glob::new(glob)).collect();
        let nobody = FixedList(Vec::new());
        let selected = Selected { directory: &nobody, globs: patterns(globs), except: patterns(except), only };
        assert_eq!(selected.choose(all).names().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_patterns_choose_and_order() {
        check(&[], &[], Only::All, &["acme", "globex", "old_acme", "old_globex", "pg_x"]);
        check(&["*globex", "acme"], &[], Only::All, &["globex", "old_globex", "acme"]);
        check(&["old_*", "*"], &["*acme", "pg_*"], Only::All, &["old_globex", "globex"]);
        check(&[], &[], Only::Active, &["acme", "globex", "pg_x"]);
        check(&["*"], &["pg_x"], Only::Suspended, &["old_acme", "old_globex"]);
    }
}
