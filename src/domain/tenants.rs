use diesel::{
    OptionalExtension, PgConnection, RunQueryDsl, sql_query,
    sql_types::{Bool, Text},
};

use super::models::Tenant;
use crate::{
    Error,
    directory::{Listing, TenantDirectory},
    pg::trust::is_plain,
};

/// The tenants of `public.custom_auth_tenant`, active and suspended, by name of schema.
#[derive(Debug, Clone, Copy)]
pub struct Registry;

impl TenantDirectory for Registry {
    /// # Errors
    ///
    /// [`Error::NoRegistry`] where there is no such table, [`Error::NotATable`] where a view has its name, or a policy
    /// would hide tenants, or another role's code would run, and those of the queries.
    fn list(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Bool)]
            plain: bool,
        }
        let table = "public.custom_auth_tenant";
        // The caller may have any path.
        let found = sql_query(format!(
            "SELECT {} AS plain FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)",
            is_plain("c"),
        ));
        match found.bind::<Text, _>(table).get_result(conn).optional()? {
            None => return Err(Error::NoRegistry { table: table.into() }),
            Some(Row { plain: false }) => return Err(Error::NotATable { table: table.into() }),
            Some(Row { plain: true }) => {}
        }
        let entry = |tenant: Tenant| (tenant.schema_name, Some(tenant.id), tenant.is_active);
        Ok(Listing::from_entries(Tenant::all(conn)?.into_iter().map(entry)))
    }
}
