use clap::{Parser, ValueEnum};

use super::{
    broken::{LeakyPool, NoProof, PlainSet},
    scope::{Scope, Tenantry},
};

/// How large a storm is, and over what.
#[derive(Debug, Clone, Parser)]
pub struct Settings {
    /// Decides what each thread does. How the threads interleave is up to the machine.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long the threads borrow connections.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// How often each thread borrows a connection at most.
    #[arg(long, default_value_t = 1_000_000)]
    pub rounds: u32,
    #[arg(long, default_value_t = 16)]
    pub threads: u16,
    /// Connections in the pool.
    #[arg(long, default_value_t = 5)]
    pub pool: u32,
    #[arg(long, default_value_t = 40)]
    pub tenants: usize,
    /// The scopes to try: the library's, or broken ones that show that the storm finds something.
    #[arg(long, value_enum, default_value_t = Which::Tenantry)]
    pub scope: Which,
}

/// The scopes that there are to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The library's pool and scopes.
    Tenantry,
    /// `SET search_path` without a transaction and without a reset.
    PlainSet,
    /// Diesel's own transaction with `public` behind the tenant, and no proof at its end.
    NoProof,
    /// The library's scopes on a pool that cleans nothing.
    LeakyPool,
}

impl Which {
    /// Opens a pool and the scopes on it.
    pub fn open(self, url: &str, pool: u32) -> Box<dyn Scope> {
        match self {
            Self::Tenantry => Box::new(Tenantry::open(url, pool)),
            Self::PlainSet => Box::new(PlainSet(Tenantry::open(url, pool))),
            Self::NoProof => Box::new(NoProof(Tenantry::open(url, pool))),
            Self::LeakyPool => Box::new(LeakyPool::open(url, pool)),
        }
    }
}
