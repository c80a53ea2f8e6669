//! Identity files on disk: `<home>/identities/<namespace>/identity.json`.

mod files;
mod home;

pub use home::{Home, HomeFault};
