//! Which tenants exist: asked of a trait, so that the engine knows nothing of the table they are listed in.

mod selection;

use std::collections::BTreeSet;

use diesel::PgConnection;
use serde::Serialize;
use uuid::Uuid;

pub use self::selection::{Named, Only, Selected};
pub use crate::glob::Glob;
use crate::{
    Error, SchemaName, SchemaNameError,
    pg::{catalog, closed::reading},
};

/// Lists the tenants.
///
/// Implemented here by [`SchemaPattern`] and [`FixedList`], and by the [`domain`](crate::domain) over
/// `public.custom_auth_tenant`.
pub trait TenantDirectory {
    /// Every tenant, active or suspended, in the order in which they are to be worked on. Reads only.
    ///
    /// It is called with `search_path` set to `pg_catalog, pg_temp`, so tables are named with their schema, and with
    /// `row_security` off: where a policy would hide tenants, the query fails. They are listed in a table: servers of
    /// August 2024 and later refuse a view.
    ///
    /// # Errors
    ///
    /// [`Error::NoRegistry`] when there is no such list in this database.
    fn list(&self, conn: &mut PgConnection) -> Result<Listing, Error>;

    /// Every tenant that there is, also where only some of them are listed. Defaults to those that are.
    ///
    /// # Errors
    ///
    /// Those of [`list`](TenantDirectory::list).
    fn everyone(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        self.list(conn)
    }

    /// Whether these are all the tenants of the database. Defaults to true.
    ///
    /// Where they are not, a run that goes back leaves `public` alone.
    fn is_whole(&self) -> bool {
        true
    }

    /// Whether these were chosen among others, so that a run remembers which they were. Defaults to
    /// not being [whole](TenantDirectory::is_whole).
    fn is_choice(&self) -> bool {
        !self.is_whole()
    }
}

/// Lists a directory's tenants where only the server's own code runs, and no policy hides one.
///
/// # Errors
///
/// Those of [`list`](TenantDirectory::list).
pub(crate) fn read(conn: &mut PgConnection, directory: &dyn TenantDirectory) -> Result<Listing, Error> {
    reading(conn, |conn| directory.list(conn))
}

/// The same for [`everyone`](TenantDirectory::everyone).
pub(crate) fn read_everyone(conn: &mut PgConnection, directory: &dyn TenantDirectory) -> Result<Listing, Error> {
    reading(conn, |conn| directory.everyone(conn))
}

/// A tenant, as its directory knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantEntry {
    /// Its schema.
    pub schema: SchemaName,
    /// Its id, where the directory knows one.
    pub id: Option<Uuid>,
    /// False for a suspended tenant. Its schema is migrated like any other.
    pub active: bool,
}

/// What a directory lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The tenants whose names can be a schema's.
    pub tenants: Vec<TenantEntry>,
    /// The entries whose names cannot, with the rule that each one broke.
    pub refused: Vec<(String, SchemaNameError)>,
}

impl Listing {
    /// Sorts entries into tenants and refused ones.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Option<Uuid>, bool)>) -> Self {
        let mut listing = Self::default();
        for (name, id, active) in entries {
            match name.parse() {
                Ok(schema) => listing.tenants.push(TenantEntry { schema, id, active }),
                Err(rule) => listing.refused.push((name, rule)),
            }
        }
        listing
    }

    /// The tenants' schemas, each once.
    pub fn schemas(&self) -> Vec<SchemaName> {
        let mut seen = BTreeSet::new();
        self.tenants.iter().map(|tenant| &tenant.schema).filter(|schema| seen.insert(*schema)).cloned().collect()
    }
}

/// Every schema whose name matches a pattern: the directory of a database that has no registry.
///
/// `tenant_*` is usual. `public` and PostgreSQL's own schemas never match.
#[derive(Debug, Clone)]
pub struct SchemaPattern {
    glob: Glob,
}

impl SchemaPattern {
    /// A directory of the schemas that match this pattern, in which `*` and `?` are wild.
    pub fn new(glob: &str) -> Self {
        Self { glob: Glob::new(glob) }
    }
}

impl TenantDirectory for SchemaPattern {
    fn list(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        let names = catalog::schemas_like(conn, &self.glob.to_like())?;
        let mut listing = Listing::from_entries(names.into_iter().map(|name| (name, None, true)));
        listing.tenants.iter_mut().for_each(|tenant| tenant.id = tenant.schema.tenant_id());
        Ok(listing)
    }
}

/// These schemas and no others, each once.
#[derive(Debug, Clone)]
pub struct FixedList(pub Vec<SchemaName>);

impl TenantDirectory for FixedList {
    fn list(&self, _: &mut PgConnection) -> Result<Listing, Error> {
        let entry = |schema: &SchemaName| TenantEntry { schema: schema.clone(), id: None, active: true };
        let mut seen = BTreeSet::new();
        let tenants = self.0.iter().filter(|schema| seen.insert(*schema)).map(entry).collect();
        Ok(Listing { tenants, refused: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_no_schema_can_be_called_are_kept_apart() {
        let listing = Listing::from_entries([("acme".into(), None, true), ("public".into(), None, true)]);
        assert_eq!(listing.schemas(), ["acme".parse().unwrap()]);
        assert_eq!(listing.refused, [("public".into(), SchemaNameError::Reserved)]);
    }
}
