//! Which tenants a command works on.

use anyhow::{Result, ensure};
use diesel::PgConnection;

use crate::{
    Error, SchemaName,
    directory::{Listing, SchemaPattern, TenantDirectory},
};

#[derive(clap::Args)]
pub(super) struct Selection {
    /// Take the schemas that match this pattern (* and ? are wild) for the tenants, instead of the registry's
    #[arg(long, value_name = "PATTERN")]
    schemas: Option<String>,
}

impl Selection {
    /// The directory to ask: the monolith's own, or the pattern's.
    pub(super) fn directory<'d>(
        &self,
        own: &'d dyn TenantDirectory,
        pattern: &'d mut Option<SchemaPattern>,
    ) -> &'d dyn TenantDirectory {
        match &self.schemas {
            Some(glob) => pattern.insert(SchemaPattern::new(glob)),
            None => own,
        }
    }
}

/// The schemas of the tenants that were named, each of which must be listed.
pub(super) fn named(names: &[String], listing: &Listing) -> Result<Vec<SchemaName>> {
    let mut schemas = Vec::new();
    for name in names {
        let schema: SchemaName = name.parse().map_err(|source| Error::SchemaName { name: name.clone(), source })?;
        ensure!(
            listing.tenants.iter().any(|tenant| tenant.schema == schema),
            "no tenant has schema `{schema}`: `tenantry status` lists those that there are"
        );
        schemas.push(schema);
    }
    Ok(schemas)
}

/// The listing of a directory, on this connection.
pub(super) fn list(conn: &mut PgConnection, directory: &dyn TenantDirectory) -> Result<Listing> {
    Ok(directory.list(conn)?)
}
