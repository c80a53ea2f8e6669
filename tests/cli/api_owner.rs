//! `sigilum api owner create`: on the machine of the control plane.

use serde_json::Value;
use sigilum::control::TokenKey;
use sigilum::secret::SecretBytes;

use super::owner_scene::{command, payload, user};
use super::stage::{Ended, Stage, end};
use crate::support::control::Control;
use crate::support::postgres::{PASSWORD, Postgres};

const CREATE: [&str; 7] = ["api", "owner", "create", "--namespace", "acme", "--email", "ops@acme.example"];
const SECRET: &str = "canary-0123456789abcdef0123456789";

fn create(stage: &Stage, env: &[(&str, &str)]) -> Ended {
    let ended = end(command(stage, &CREATE).envs(env.iter().copied()));
    assert!(!ended.err.contains("canary") && !ended.err.contains(PASSWORD), "{ended:?}");
    ended
}

#[test]
fn token_is_printed_once_and_kept_nowhere() {
    let stage = Stage::empty();
    let login = ["auth", "login", "--mode", "oss-local", "--namespace", "acme"];
    assert_eq!(end(command(&stage, &login).env("HOME", stage.path("other"))).code, Some(0));
    let made = create(&stage, &[]);
    let lines: Vec<&str> = made.out.lines().collect();
    let [title, namespace, email, id, expires, told, token] = lines.as_slice() else { panic!("{made:?}") };
    assert_eq!(
        (*title, *namespace, *email),
        ("[ok] Owner ready.", "namespace: acme", "email: ops@acme.example")
    );
    assert!(id.starts_with("owner_id: usr_") && expires.starts_with("expires_at: 20"), "{made:?}");
    let said = payload(token);
    assert_eq!((*told, said["email"].as_str()), ("[i] JWT, kept nowhere:", Some("ops@acme.example")));
    assert_eq!(id.strip_prefix("owner_id: "), said["sub"].as_str());
    assert!(!user(&stage).exists());
    let again = end(&mut command(&stage, &[&CREATE[..], &["--json", "--ttl-seconds", "60"]].concat()));
    let json: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(json["owner_id"], said["sub"], "an owner that stands stays");
    let said = payload(json["token"].as_str().unwrap());
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 60);
}

#[test]
fn owner_on_postgresql_is_let_in_by_its_control_plane() {
    let database = Postgres::start();
    let control = Control::over(database.database(), |config| {
        config.token_key = TokenKey::new(SecretBytes::new(SECRET.into())).unwrap();
    });
    let stage = Stage::empty();
    let made = create(&stage, &[("DATABASE_URL", &database.url()), ("JWT_SECRET", SECRET)]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let token = made.out.lines().last().unwrap();
    let list = end(command(&stage, &["service", "list"])
        .env("SIGILUM_MODE", "enterprise")
        .env("SIGILUM_API_URL", control.origin())
        .env("SIGILUM_OWNER_TOKEN", token));
    assert_eq!(list.out, "[ok] Services for namespace: acme\n", "{list:?}");
}

#[test]
fn what_is_missing_is_said_with_what_to_type() {
    let stage = Stage::empty();
    let nothing = create(&stage, &[]);
    assert!(
        nothing.code == Some(1) && nothing.err.contains("hint: set DATABASE_URL and JWT_SECRET"),
        "{nothing:?}"
    );
    assert!(!stage.path(".local").exists(), "nothing is made");
    let url = format!("postgres://postgres:{PASSWORD}@127.0.0.1:1/postgres");
    let no_secret = create(&stage, &[("DATABASE_URL", &url)]);
    assert_eq!(no_secret.code, Some(1));
    assert!(no_secret.err.starts_with("error: unable to resolve JWT_SECRET: "), "{no_secret:?}");
    let gone = create(&stage, &[("DATABASE_URL", &url), ("JWT_SECRET", SECRET)]);
    assert_eq!(gone.code, Some(4), "{gone:?}");
    let no_url = create(&stage, &[("DATABASE_URL", "mysql://canary"), ("JWT_SECRET", SECRET)]);
    assert!(no_url.code == Some(1) && no_url.err.contains("DATABASE_URL"), "{no_url:?}");
}

#[test]
fn owner_needs_a_namespace_and_an_address() {
    let stage = Stage::empty();
    let no_namespace = end(&mut command(&stage, &["api", "owner", "create", "--email", "a@b.example"]));
    assert!(no_namespace.code == Some(2) && no_namespace.err.contains("--namespace"), "{no_namespace:?}");
    for email in ["nobody", "a b@c.example", ""] {
        let args = ["api", "owner", "create", "--namespace", "acme", "--email", email];
        assert_eq!(end(&mut command(&stage, &args)).code, Some(2), "{email:?}");
    }
}
