//! What is done in a visit to the pool.

/// A tenant's number. Those after the kept ones are dropped and made again all the while.
pub type Tenant = usize;

/// What is done with one borrowed connection.
#[derive(Debug)]
pub struct Visit {
    pub steps: Vec<Step>,
    /// What is left behind on the connection at the end: an index into [`LEFT_BEHIND`](super::left_behind::LEFT_BEHIND).
    pub left_behind: Option<usize>,
    /// Whether a panic ends the visit, so that the connection is returned by a thread that panics.
    pub ends_by_panic: bool,
}

/// One thing done outside of a transaction.
#[derive(Debug)]
pub enum Step {
    Transaction {
        tenant: Tenant,
        acts: Vec<Act>,
    },
    Session {
        tenant: Tenant,
        steps: Vec<InSession>,
    },
    /// A row in a table of `public`, with its schema's name.
    SharedRow,
    /// A row in a table without a schema's name, outside of any tenant: it belongs nowhere.
    BareRow,
    SetPath {
        tenant: Tenant,
        local: bool,
    },
}

/// One thing done inside of a session guard, outside of a transaction.
#[derive(Debug)]
pub enum InSession {
    Row,
    Savepoint(Vec<Act>),
    Transaction {
        tenant: Tenant,
        acts: Vec<Act>,
    },
    /// The guard's work ends here, unless the connection claims to be in the tenant still.
    SetPath {
        tenant: Tenant,
    },
}

/// One thing done inside of a scope's transaction.
#[derive(Debug)]
pub enum Act {
    Row,
    /// A row that refers to nothing, which the server finds out at COMMIT.
    DanglingRow,
    Scope {
        tenant: Tenant,
        acts: Vec<Act>,
        caught: bool,
    },
    Savepoint {
        acts: Vec<Act>,
        caught: bool,
    },
    /// A query that fails, and whose error is dropped.
    Swallow,
    /// An error that the closure returns.
    Fail,
    Panic,
    /// SQL that begins or ends a transaction behind Diesel's back.
    ByHand(&'static str),
    SetPath {
        tenant: Tenant,
        local: bool,
    },
}
