//! Owner tokens and another implementation of JWT understand each other, in both directions.
//!
//! The Python that `SIGILUM_PYTHON` names must have the package `PyJWT`; without the variable these tests say so and pass.

use std::process::Command;

use super::api_scene::Desk;
use crate::support::control::JWT_SECRET;

/// What the script answers; `None` where there is no Python to ask.
fn ask(arguments: &[&str]) -> Option<String> {
    let Some(python) = std::env::var_os("SIGILUM_PYTHON") else {
        eprintln!("not run: SIGILUM_PYTHON names no Python with PyJWT");
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/pyjwt.py");
    let secret: String = JWT_SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
    let output = Command::new(python).arg(script).arg(secret).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn token_of_the_control_plane_is_proven_there() {
    let desk = Desk::start();
    let Some(claims) = ask(&["decode", &desk.alice.token]) else { return };
    let claims: serde_json::Value = serde_json::from_str(&claims).unwrap();
    let names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    assert_eq!(names, ["aud", "email", "exp", "iat", "iss", "namespace", "sub"]);
    assert_eq!((&claims["sub"], &claims["namespace"]), (&desk.alice.id.as_str().into(), &"alice".into()));
}

#[test]
fn token_that_was_made_there_is_proven_here() {
    let desk = Desk::start();
    let Some(token) = ask(&["encode", &desk.alice.id, "alice"]) else { return };
    let me = |token: &str| {
        let bearer = format!("Bearer {token}");
        desk.control.ask("GET", "/v1/auth/me", &[("authorization", &bearer)], None)
    };
    assert_eq!(me(&token).json()["email"], "alice@example.com");
    let other = ask(&["encode-none", &desk.alice.id, "alice"]).unwrap();
    assert_eq!(me(&other).code(), "AUTH_TOKEN_INVALID");
}
