//! `sigilum connection` and `sigilum service secret set`, against the real gateway.

use serde_json::{Value, json};

use super::stage::{Ended, Stage, end, mode};
use crate::support::gateway::{Gateway, Setup};
use crate::support::upstream::{Reply, Upstream};

const SECRET: &str = "sk-canary/cli+1";

struct Scene {
    stage: Stage,
    gateway: Gateway,
    upstream: Upstream,
}

impl Scene {
    fn start() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Upstream::answering(Reply::Echo);
        Self { stage: Stage::empty(), gateway: change(Setup::new()).start(), upstream }
    }

    fn url(&self) -> String {
        format!("http://{}", self.gateway.admin_address())
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ended {
        let ended =
            end(self.stage.command(args).env("GATEWAY_ADMIN_URL", self.url()).envs(env.iter().copied()));
        assert!(!ended.err.contains("canary"), "{}", ended.err);
        ended
    }

    /// With the secret in the environment, and done.
    fn add(&self, id: &str) {
        let url = self.upstream.url();
        let args = ["connection", "add", id, "--base-url", &url, "--secret-env", "api_key=THE_KEY"];
        let ended = self.run_with(&args, &[("THE_KEY", SECRET)]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.out.contains("canary"), "{}", ended.out);
    }

    fn json(&self, args: &[&str]) -> Value {
        let ended = self.run(&[args, &["--json"]].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    /// What the upstream was sent as `authorization` when the connection was tested.
    fn injected(&self, id: &str) -> String {
        let tested = self.run(&["connection", "test", id]);
        assert_eq!(tested.code, Some(0), "{tested:?}");
        self.upstream.requests().pop().unwrap().header("authorization").unwrap().to_owned()
    }
}

#[test]
fn connection_is_added_shown_changed_tested_and_deleted() {
    let scene = Scene::start();
    let none = scene.run(&["connection", "list"]);
    assert_eq!(none.out, "[ok] Connections: 0\n");
    scene.add("openai");
    let listed = scene.run(&["connection", "list"]);
    let line = format!("openai  active    bearer       vault   {}", scene.upstream.url());
    assert_eq!(listed.out, format!("[ok] Connections: 1\n{line}\n"));
    let got = scene.run(&["connection", "get", "openai"]);
    assert!(got.out.starts_with("[ok] Connection openai\nid: openai\n"), "{}", got.out);
    assert!(got.out.contains("credential_keys: api_key\n"), "{}", got.out);
    let updated = scene.run(&["connection", "update", "openai", "--name", "OpenAI", "--path-prefix", "/v1"]);
    assert!(updated.out.starts_with("[ok] Connection updated.\n"), "{updated:?}");
    assert_eq!(scene.json(&["connection", "get", "openai"])["name"], "OpenAI");
    scene.run(&["connection", "update", "openai", "--reset", "name"]);
    assert_eq!(scene.json(&["connection", "get", "openai"])["name"], "openai");
    assert_eq!(scene.injected("openai"), format!("Bearer {SECRET}"));
    let deleted = scene.run(&["connection", "delete", "openai"]);
    assert_eq!(deleted.out, "[ok] Connection deleted.\nid: openai\n");
    let gone = scene.run(&["connection", "get", "openai"]);
    assert_eq!(
        (gone.code, gone.err.as_str()),
        (
            Some(1),
            "error: there is no connection openai (CONNECTION_NOT_FOUND)\nhint: `sigilum connection list` shows those that there are\n"
        )
    );
}

#[test]
fn secret_comes_from_environment_file_or_standard_input() {
    let scene = Scene::start();
    scene.add("openai");
    let file = scene.stage.file("key", b"from-file\n");
    let rotate = ["connection", "rotate", "openai"];
    let pair = format!("api_key={file}");
    assert_eq!(scene.run(&[&rotate[..], &["--secret-file", &pair]].concat()).code, Some(0));
    assert_eq!(scene.injected("openai"), "Bearer from-file");
    let mut command = scene.stage.command(&[&rotate[..], &["--secret-stdin", "api_key"]].concat());
    let input = std::fs::File::open(scene.stage.file("input", b"from-input\n")).unwrap();
    let piped = end(command.env("GATEWAY_ADMIN_URL", scene.url()).stdin(input));
    assert_eq!(piped.code, Some(0), "{piped:?}");
    assert_eq!(scene.injected("openai"), "Bearer from-input");
    let typed = scene.run(&[&rotate[..], &["--secret", "api_key=typed", "--rotated-by", "ann"]].concat());
    assert_eq!(typed.code, Some(0));
    assert!(typed.err.starts_with("warning: a secret on the command line"), "{}", typed.err);
    assert_eq!(scene.injected("openai"), "Bearer typed");
    assert_eq!(scene.json(&["connection", "get", "openai"])["last_rotated_by"], "ann");
}

#[test]
fn sealed_secret_opens_at_the_gateway_it_was_sealed_for() {
    let scene = Scene::start();
    scene.add("openai");
    let args = ["connection", "rotate", "openai", "--secret-env", "api_key=THE_KEY", "--seal"];
    assert_eq!(scene.run_with(&args, &[("THE_KEY", "sealed-one")]).code, Some(0));
    assert_eq!(scene.injected("openai"), "Bearer sealed-one");
    let other = "x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let pinned = [&args[..5], &["--sealing-key", other]].concat();
    let refused = scene.run_with(&pinned, &[("THE_KEY", SECRET)]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("which is not the one given"), "{}", refused.err);
    assert_eq!(scene.injected("openai"), "Bearer sealed-one");
}

#[test]
fn template_of_the_catalog_fills_the_fields() {
    let scene = Scene::start();
    let url = scene.upstream.url();
    let args = ["connection", "add", "claude", "--template", "anthropic", "--base-url", &url];
    let added = scene.run_with(&[&args[..], &["--secret-env", "api_key=K"]].concat(), &[("K", SECRET)]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let view = scene.json(&["connection", "get", "claude"]);
    assert_eq!((&view["auth_mode"], &view["auth_header_name"]), (&json!("header_key"), &json!("x-api-key")));
    let unknown = scene.run(&["connection", "add", "x", "--template", "nobody"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("hint: it has ") && unknown.err.contains("openai"), "{}", unknown.err);
}

#[test]
fn failed_test_says_why_and_is_a_failure() {
    let scene = Scene::start();
    let args = ["connection", "add", "gone", "--base-url", "http://127.0.0.1:1", "--auth-mode", "none"];
    assert_eq!(scene.run(&args).code, Some(0));
    let failed = scene.run(&["connection", "test", "gone"]);
    assert_eq!(failed.code, Some(1));
    assert!(
        failed.err.starts_with("error: the connection test failed: the upstream cannot be asked"),
        "{}",
        failed.err
    );
    let as_json = scene.run(&["connection", "test", "gone", "--json"]);
    assert_eq!(as_json.code, Some(1));
    assert_eq!(serde_json::from_str::<Value>(&as_json.out).unwrap()["status"], "fail");
}

#[test]
fn refusals_have_their_exit_codes_and_say_what_to_type() {
    let scene = Scene::with(|setup| {
        setup.set("admin.access", "token").set("admin.token", "env:ADMIN").env("ADMIN", "canary-token")
    });
    let refused = scene.run(&["connection", "list"]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.err.contains("(ADMIN_TOKEN_REQUIRED)\nhint: set GATEWAY_ADMIN_TOKEN"), "{}", refused.err);
    let let_in = scene.run_with(&["connection", "list"], &[("GATEWAY_ADMIN_TOKEN", "canary-token")]);
    assert_eq!(let_in.code, Some(0), "{let_in:?}");
    let file = scene.stage.file("token", b"canary-token\n");
    assert_eq!(scene.run(&["connection", "list", "--admin-token-file", &file]).code, Some(0));
    let nobody = scene.run(&["connection", "list", "--gateway-admin-url", "http://127.0.0.1:1"]);
    assert_eq!(nobody.code, Some(4));
    assert!(nobody.err.contains("hint: start the gateway"), "{}", nobody.err);
    for wrong in [
        &["connection", "add", "x"][..],
        &["connection", "update", "x"],
        &["connection", "rotate", "x"],
        &["connection", "rotate", "x", "--secret", "sk-canary"],
        &["connection", "rotate", "x", "--secret-env", "api_key=NOT_SET"],
        &["connection", "get", "Not_An_Id"],
        &["connection", "list", "--gateway-admin-url", "ftp://x"],
    ] {
        let ended = scene.run_with(wrong, &[("GATEWAY_ADMIN_TOKEN", "canary-token")]);
        assert_eq!(ended.code, Some(2), "{wrong:?}: {ended:?}");
    }
}

#[test]
fn service_secret_is_set_as_the_documents_show() {
    let scene = Scene::start();
    scene.add("linear");
    let args =
        ["service", "secret", "set", "--service-slug", "linear", "--upstream-secret-env", "LINEAR_TOKEN"];
    let set = scene.run_with(&args, &[("LINEAR_TOKEN", "lin_api_new")]);
    assert_eq!(
        set.out,
        "[ok] Secret updated for service: linear\nconnection_id: linear\nsecret_key: api_key\n\
         connection_file: .sigilum-workspace/gateway-connection-secret-linear\n",
        "{set:?}"
    );
    assert_eq!(scene.injected("linear"), "Bearer lin_api_new");
    let file = scene.stage.path(".sigilum-workspace/gateway-connection-secret-linear");
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("lin_api_new"));
    let shown =
        scene.run_with(&[&args[..], &["--reveal-secrets"]].concat(), &[("LINEAR_TOKEN", "lin_api_2")]);
    assert!(shown.out.contains("secret_value: lin_api_2\n"), "{shown:?}");
    assert_eq!(scene.run(&args[..5]).code, Some(2));
    let through_data_port = [&args[..], &["--gateway-admin-url", scene.gateway.url()]].concat();
    assert_eq!(scene.run_with(&through_data_port, &[("LINEAR_TOKEN", "lin_api_3")]).code, Some(0));
    assert_eq!(scene.injected("linear"), "Bearer lin_api_3");
}
