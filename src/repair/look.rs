//! Looks at tenants without their locks.

use std::sync::{Mutex, PoisonError};

use diesel::PgConnection;

use super::{
    Repair,
    claims::Claims,
    proposal::Excluded,
    propose::Proposer,
    settings::{begin, open},
    tenant::{Common, Turn},
    turns::Looked,
};
use crate::{
    Error,
    directory::TenantEntry,
    doctor::{Examined, Problem, Symptom},
    pg::{
        atomically,
        closed::reading,
        scope,
        tables::{self, Tables},
        untrusted,
    },
};

/// How many tenants' tables are read at once.
const CHUNK: usize = 25;

impl Repair<'_> {
    /// Looks at tenants without their locks: in which of them anything is to be done, and which rows of `public` they
    /// claim.
    pub(super) fn look_at<'t>(
        &self,
        conn: &mut PgConnection,
        tenants: &'t [&'t TenantEntry],
        common: &Common,
    ) -> Result<(Vec<Looked<'t>>, Claims), Error> {
        let claims = Mutex::new(Claims::default());
        let looked = self.share(conn, tenants, CHUNK, |conn, some| {
            let names: Vec<&str> = some.iter().map(|tenant| tenant.schema.as_str()).collect();
            let mut known = reading(conn, |conn| tables::read_many(conn, &names)).ok();
            let look = |tenant: &&'t TenantEntry| {
                let tables = known.as_mut().map(|known| known.remove(tenant.schema.as_str()).unwrap_or_default());
                let looked = self.look(conn, tenant, tables, common, &claims);
                looked.as_ref().err().into_iter().for_each(|error| self.renew(conn, error));
                (*tenant, looked)
            };
            some.iter().copied().map(look).collect()
        })?;
        let mut claims = claims.into_inner().unwrap_or_else(PoisonError::into_inner);
        let is_unclear = |error: &Error| !matches!(error, Error::MissingSchema { .. });
        let unclear = looked.iter().filter(|(_, looked)| looked.as_ref().is_err_and(is_unclear));
        claims.unexamined.extend(unclear.map(|(tenant, _)| tenant.schema.clone()));
        claims.unexamined.sort();
        let to_do = |(tenant, looked)| match looked {
            Ok(false) => None,
            Ok(true) => Some((tenant, Ok(()))),
            Err(error) => Some((tenant, Err(error))),
        };
        Ok((looked.into_iter().filter_map(to_do).collect(), claims))
    }

    fn look(
        &self,
        conn: &mut PgConnection,
        tenant: &TenantEntry,
        tables: Option<Tables>,
        common: &Common,
        claims: &Mutex<Claims>,
    ) -> Result<bool, Error> {
        let nobody = Claims::default();
        let turn = Turn { repair: self, tenant, common, claims: &nobody, rehearsal: true };
        scope::transaction(conn, &tenant.schema, |scoped| {
            begin(scoped, self.lock_timeout)?;
            untrusted::refuse(scoped, &[tenant.schema.as_str()])?;
            let tables = tables.map_or_else(|| tables::read(scoped, &tenant.schema), Ok)?;
            let examined = turn.examine_rows(scoped, tables)?;
            if is_claiming(&examined) {
                let proposer = Proposer { lock: false, spoken_for: None, ..turn.proposer(&examined) };
                let proposed = atomically::<_, Error>(scoped, |conn| {
                    let roots = proposer.roots(conn)?;
                    let own = proposer.walk(conn, &roots, &Excluded::new())?.claims;
                    Ok((own, proposer.strays(conn)?, proposer.with_strays(conn)?))
                });
                let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
                claims.follow(&examined.references);
                match proposed {
                    Ok((own, strays, with_strays)) => {
                        claims.add(&tenant.schema, own);
                        strays.into_iter().for_each(|(table, row, _)| claims.ask(&tenant.schema, table, row));
                        for (table, rows) in with_strays {
                            rows.into_iter().for_each(|row| claims.ask(&tenant.schema, table.clone(), row));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(tenant.schema = %tenant.schema, %error, "Could not follow what it refers to");
                        claims.unexamined.push(tenant.schema.clone());
                    }
                }
            }
            open(scoped, &tenant.schema)?;
            Ok(self.remove_originals || !examined.findings.is_empty() || common.blueprints.differs(&tenant.schema))
        })
    }
}

/// Whether rows of `public` may be this tenant's.
fn is_claiming(examined: &Examined) -> bool {
    let claims =
        |one: &Symptom| matches!(one.problem, Problem::Orphans { in_public: true, .. } | Problem::Strays { .. });
    examined.findings.iter().any(claims)
}
