//! Who may do what, pure: claims, scopes and the one maker of a [`Permit`]; and when secrets are due.

mod claim;
mod rotation;
mod scope;

pub use claim::{Claim, Denied, Permit, authorize};
pub use rotation::{RotationEnforcement, RotationPolicy, RotationState, rotation_due_at};
pub use scope::{Scope, ScopeFault, Scopes};
