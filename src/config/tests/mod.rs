//! Tests of the configuration through its public face.

mod arbitrary;
mod complete;
mod control;
mod environment;
mod faults;
mod meaning;

use std::path::Path;

use super::{Faults, Settings, load};

/// An agent's public key.
const KEY: &str = "ed25519:J07dj/co4diCmQYTTQGq4adhnMKYejHazCYUQ7eBh0k=";

/// Loads `text` as `gateway.yaml` with these variables set.
fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Settings, Faults> {
    let env =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    load(text, Path::new("gateway.yaml"), &env)
}

fn settings(text: &str) -> Settings {
    load_with(text, &[]).unwrap_or_else(|faults| panic!("refused:\n{faults}"))
}

/// The lines that a user reads, or of what was taken, its warnings.
fn lines_with(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let faults = match load_with(text, variables) {
        Ok(settings) => Faults::new(Path::new("gateway.yaml"), settings.warnings),
        Err(faults) => faults,
    };
    faults.to_string().lines().map(str::to_owned).collect()
}

fn lines(text: &str) -> Vec<String> {
    lines_with(text, &[])
}

/// One provider with these settings besides its id and base URL, each line indented by four.
fn provider(settings: &str) -> String {
    format!("providers:\n  - id: a\n    base_url: https://a.example\n{settings}")
}
