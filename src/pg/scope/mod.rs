//! A connection inside one tenant's schema, proven to be there when the scope begins and when it ends.
//!
//! | | [`transaction`] | [`session`] |
//! | --- | --- | --- |
//! | how | `SET LOCAL`, in a transaction of its own | `SET`, for as long as the guard lives |
//! | ends | with the transaction, whatever happens | when the guard drops; again at the pool's checkout |
//! | behind PgBouncer in transaction mode | safe with [`Pooler::Transaction`](crate::Pooler), and only then: Diesel's prepared statements belong to a server's connection | **not safe**: another client may get the path |
//! | use it for | everything | code that cannot hold a transaction |
//!
//! Inside, the tenant is *alone* on the path: PostgreSQL skips a schema that is missing without a word and
//! takes the next, so with `public` behind the tenant a missing one would send its rows there. Name shared
//! tables in full (`public.custom_auth_user`) and the tenant's bare.
//!
//! A transaction scope knows its transaction again when it ends: a COMMIT or ROLLBACK that its closure sent as SQL is
//! [`Error::TransactionEnded`](crate::Error::TransactionEnded). It knows its schema, too: while `ALTER SCHEMA … RENAME`
//! gives the name to another one, statements go to whichever has it, and the scope ends with
//! [`Error::SchemaReplaced`](crate::Error::SchemaReplaced). (Two renames that give the name back within one scope are not
//! noticed: rename a schema only while no one is in it.)

mod current;
mod mark;
mod path;
mod proof;
mod session;
mod tenant_conn;
mod transaction;

pub use current::{Current, current};
pub(crate) use mark::Mark;
pub(crate) use proof::{broken, ended_by, proof, proof_after};
pub use session::{SessionScope, session};
pub use tenant_conn::TenantConn;
pub use transaction::transaction;
