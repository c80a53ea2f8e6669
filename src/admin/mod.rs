//! The admin sidecar: its own listener, apart from the data plane.

mod settings;

pub use settings::{Access, AdminSettings};
