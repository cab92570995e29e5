/// What a monolith knows of its own tables and the catalog does not: data, supplied once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The columns that may never be null, and what to fill them with.
    pub fills: Vec<Fill>,
    /// The column, in whichever tables have it, that holds the id of a row's tenant.
    pub owner_column: Option<String>,
    /// The columns that refer to a shared table of `public` without a foreign key.
    pub shared: Vec<Shared>,
}

/// A column that may never be null, whether or not its table forbids it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// The table, in every tenant's schema.
    pub table: String,
    /// The column.
    pub column: String,
    /// The columns of the same row whose value it gets, the first that is not null; the time of the repair
    /// when all of them are.
    pub from: Vec<String>,
}

/// A column of a tenant that holds the key of a row in `public`, and has no foreign key to say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The table, in every tenant's schema.
    pub table: String,
    /// The column.
    pub column: String,
    /// The table in `public`.
    pub parent: String,
    /// The column there that has the same value.
    pub parent_column: String,
}
