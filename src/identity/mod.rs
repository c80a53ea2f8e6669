//! Identity files on disk: `<home>/identities/<namespace>/identity.json`.

pub(crate) mod files;
mod home;

pub use home::{Home, HomeFault};
