//! Who may do what, pure: claims, scopes and the one maker of a [`Permit`].

mod claim;
mod scope;

pub use claim::{Claim, Denied, Permit, authorize};
pub use scope::{Scope, ScopeFault, Scopes};
