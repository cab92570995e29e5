//! `public`, what reaches into the tenants from elsewhere, and extensions in a tenant's schema.

use std::collections::BTreeSet;

use diesel::{PgConnection, RunQueryDsl, sql_query, sql_types::Text};

use super::{Visit, tables_of};
use crate::{
    Error, SchemaName,
    directory::Listing,
    doctor::{
        Fix, Kind, Severity, bodies,
        draft::Draft,
        drift,
        history::{self, Recorded, Standing},
        leaks,
        quiet::quietly,
        schemas::Schemas,
    },
    pg::catalog,
};

impl<'v> Visit<'v> {
    /// `public`, what reaches into the tenants from elsewhere, and extensions in a tenant's schema.
    pub(super) fn outsiders(
        &mut self,
        conn: &mut PgConnection,
        listing: &Listing,
        schemas: &Schemas,
        whole: bool,
    ) -> Result<(), Error> {
        let tenants: BTreeSet<&str> = listing.tenants.iter().map(|tenant| tenant.schema.as_str()).collect();
        let others: Vec<&str> = schemas.keys().map(String::as_str).filter(|name| !tenants.contains(name)).collect();
        let (leaks, functions, extensions) = quietly(conn, self.doctor.statement_timeout, |conn| {
            let functions = match self.doctor.wants(&[Kind::FunctionLeak]) {
                true => bodies::inwards(conn, &others, &tenants)?,
                false => Vec::new(),
            };
            Ok((leaks::read(conn, &others)?, functions, extensions(conn)?))
        })?;
        let into = leaks.iter().filter(|leak| tenants.contains(leak.target_schema.as_str()));
        self.report.findings.extend(into.map(leaks::Leak::inwards).chain(functions));
        for Extension { name, schema } in extensions.into_iter().filter(|found| tenants.contains(found.schema.as_str()))
        {
            let says = format!("extension {name} is installed in it, and would go with it");
            let fix = Fix::None("ALTER EXTENSION … SET SCHEMA to one that is no tenant's".into());
            let draft = Draft::new(Kind::ExtensionInTenant, says, fix).examples(1, vec![name]);
            self.report.findings.push(draft.of(&schema));
        }
        if let Some(public) = schemas.get("public").filter(|_| whole) {
            self.public(conn, public.ours > 0)?;
        }
        Ok(())
    }

    pub(super) fn public(&mut self, conn: &mut PgConnection, has_tables: bool) -> Result<(), Error> {
        let public = SchemaName::public();
        let patience = self.doctor.statement_timeout;
        let recorded = quietly(conn, patience, |conn| Ok(history::read(conn, &[&public])?))?;
        let [Recorded::Versions(applied)] = recorded.as_slice() else {
            let reason = match recorded.as_slice() {
                [Recorded::NotATable] => catalog::not_a_table(&public).to_string(),
                _ => "the role lacks SELECT on its history".into(),
            };
            self.note("public", &reason, [&public].into_iter());
            return Ok(());
        };
        let (standing, drafts) = history::judge(&public, applied, self.doctor.migrations);
        drafts.iter().for_each(|draft| self.tell(&public, draft));
        let all = self.doctor.migrations.expected(&public).count();
        let wanted = match standing {
            Standing::At(upto) if upto == all => self.references.of_public(),
            Standing::Nowhere => {
                if has_tables {
                    self.tell(&public, &history::no_history());
                }
                return Ok(());
            }
            _ => Err("not all versions of this program, and no others, are recorded in it".into()),
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(reason) => {
                self.note("the structure of public", &reason, [&public].into_iter());
                return Ok(());
            }
        };
        let known = self.look_closely(std::slice::from_ref(&public))?;
        let Some((structure, ..)) = known.get(&public) else { return Ok(()) };
        let ours: BTreeSet<String> = tables_of(&wanted.structure).into_iter().collect();
        // What else is there may be another application's, or come with an extension.
        let is_ours = |draft: &Draft| {
            let finding = &draft.finding;
            let on_ours = finding.table.as_ref().is_some_and(|table| ours.contains(table));
            match finding.kind {
                Kind::TypeInTenant => false,
                Kind::Extra => on_ours && finding.severity != Severity::Notice,
                Kind::InvalidIndex | Kind::NotValid => on_ours,
                _ => true,
            }
        };
        let drafts = drift::drafts(structure, &[], &[], Some(&wanted), public.as_str());
        drafts.iter().filter(|draft| is_ours(draft)).for_each(|draft| self.tell(&public, draft));
        Ok(())
    }
}

#[derive(diesel::QueryableByName)]
struct Extension {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    schema: String,
}

fn extensions(conn: &mut PgConnection) -> diesel::QueryResult<Vec<Extension>> {
    sql_query(
        "SELECT e.extname::text AS name, n.nspname::text AS schema FROM pg_catalog.pg_extension e \
         JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1",
    )
    .load(conn)
}
