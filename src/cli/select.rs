//! Which tenants a command works on.

use anyhow::{Result, ensure};

use crate::{Error, SchemaName, directory::Listing};

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
