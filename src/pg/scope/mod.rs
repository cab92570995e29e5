//! A connection inside one tenant's schema, proven to be there when the scope begins and when it ends.
//!
//! | | [`transaction`] | [`session`] |
//! | --- | --- | --- |
//! | how | `SET LOCAL`, in a transaction of its own | `SET`, for as long as the guard lives |
//! | ends | with the transaction, whatever happens | when the guard drops; again at the pool's checkout |
//! | behind PgBouncer in transaction mode | safe | **not safe**: another client may get the path |
//! | use it for | everything | code that cannot hold a transaction |
//!
//! Inside, the tenant is *alone* on the path: PostgreSQL skips a schema that is missing without a word and
//! takes the next, so with `public` behind the tenant a missing one would send its rows there. Name shared
//! tables in full (`public.custom_auth_user`) and the tenant's bare.

mod current;
mod path;
mod session;
mod tenant_conn;
mod transaction;

pub use current::{Current, current};
pub use session::{SessionScope, session};
pub use tenant_conn::TenantConn;
pub use transaction::transaction;
pub(crate) use transaction::{proof, strayed};
