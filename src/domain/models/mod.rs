//! The rows of the five tables.
//!
//! The `table!`s are private to the [`domain`](crate::domain), so these functions are the only way to write
//! one: whatever belongs to a tenant takes a [`TenantConn`](crate::pg::scope::TenantConn), and whatever has
//! a moment of change is given it here.

mod business;
mod profile;
mod tenant;
mod user;

pub use business::{Business, BusinessChanges, BusinessDetails, LegalStructure, NewBusiness};
pub use profile::{NewUserProfile, ProfileChanges, UserProfile};
pub use tenant::{NewTenant, SetupStatus, Tenant};
pub use user::{NewUser, User};
