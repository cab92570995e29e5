use diesel::{PgConnection, RunQueryDsl, dsl::sql, select, sql_types::Bool};

use super::models::Tenant;
use crate::{
    Error,
    directory::{Listing, TenantDirectory},
};

/// The tenants of `public.custom_auth_tenant`, active and suspended, by name of schema.
#[derive(Debug, Clone, Copy)]
pub struct Registry;

impl TenantDirectory for Registry {
    fn list(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        let table = "public.custom_auth_tenant";
        if !select(sql::<Bool>(&format!("to_regclass('{table}') IS NOT NULL"))).get_result::<bool>(conn)? {
            return Err(Error::NoRegistry { table: table.into() });
        }
        let entry = |tenant: Tenant| (tenant.schema_name, Some(tenant.id), tenant.is_active);
        Ok(Listing::from_entries(Tenant::all(conn)?.into_iter().map(entry)))
    }
}
