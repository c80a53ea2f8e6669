//! `sigilum service add` and `list`: at a real control plane, and at a real gateway.

use std::fs;

use serde_json::{Value, json};

use super::owner_scene::{OWNER, Scene, command, token, write_workspace};
use super::stage::{Ended, Stage, end, mode};
use crate::gateway::admin_scene::ask;
use crate::support::gateway::{Gateway, Setup};
use crate::support::upstream::{Reply, Upstream};

const SECRET: &str = "lin-canary/4711";

/// A service in gateway mode, but for what the test is about.
fn add<'a>(slug: &'a str, url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["service", "add", "--service-slug", slug, "--mode", "gateway", "--upstream-base-url", url];
    [&args[..], more].concat()
}

fn done(ended: Ended) -> Ended {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

/// What the line `key: …` of an output says.
fn field(ended: &Ended, key: &str) -> String {
    let prefix = format!("{key}: ");
    let line = ended.out.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {key} in {ended:?}")).to_owned()
}

/// What the upstream is sent when the connection is tested: the target and a header.
fn injected(scene: &Scene, upstream: &Upstream, slug: &str, header: &str) -> (String, Option<String>) {
    let workspace = fs::read(scene.stage.path(".sigilum-workspace/workspace.json")).unwrap();
    let workspace: Value = serde_json::from_slice(&workspace).unwrap();
    let url = workspace["admin_url"].as_str().unwrap();
    done(scene.run(&["connection", "test", slug, "--gateway-admin-url", url]));
    let seen = upstream.requests().pop().unwrap();
    (seen.target.clone(), seen.header(header).map(str::to_owned))
}

#[test]
fn native_service_is_registered_as_the_documents_show() {
    let scene = Scene::start();
    let args = [
        "service",
        "add",
        "--service-slug",
        "my-native-service",
        "--service-name",
        "My Native Service",
        "--mode",
        "native",
    ];
    let added = done(scene.run(&args));
    let id = field(&added, "service_id");
    assert!(id.starts_with("svc_"), "{id}");
    assert_eq!(
        added.out,
        format!(
            "[ok] Service registered: my-native-service\nmode: native\nservice_id: {id}\napi_key: sk_****** (hidden)\n\
             key_file: .sigilum-workspace/service-api-key-my-native-service\n"
        )
    );
    let file = scene.stage.path(".sigilum-workspace/service-api-key-my-native-service");
    assert_eq!(mode(&file), 0o600);
    let key = fs::read_to_string(&file).unwrap();
    assert!(key.starts_with("sk_live_") && key.trim().len() == 56);
    let shown = done(scene.run(&[&args[..], &["--reveal-secrets"]].concat()));
    assert_eq!(field(&shown, "api_key"), key.trim());
}

#[test]
fn gateway_service_is_registered_as_the_documents_show_and_works() {
    let (scene, gateway) = Scene::with_gateway();
    let upstream = Upstream::answering(Reply::Echo);
    let url = upstream.url();
    let more = ["--service-name", "Linear", "--auth-mode", "bearer", "--upstream-secret-env", "LINEAR_TOKEN"];
    let args = add("linear", &url, &more);
    let added = done(scene.run_with(&args, &[("LINEAR_TOKEN", SECRET)]));
    let id = field(&added, "service_id");
    assert_eq!(
        added.out,
        format!(
            "[ok] Service registered: linear\nmode: gateway\nservice_id: {id}\napi_key: sk_****** (hidden)\n\
             upstream_url: {url}\nauth_mode: bearer\nconnection_id: linear\nsecret_key: access_token\n\
             key_file: .sigilum-workspace/service-api-key-linear\n\
             connection_file: .sigilum-workspace/gateway-connection-secret-linear\n"
        )
    );
    assert_eq!(added.err, "");
    assert_eq!(injected(&scene, &upstream, "linear", "authorization").1.unwrap(), format!("Bearer {SECRET}"));
    let file = scene.stage.path(".sigilum-workspace/gateway-connection-secret-linear");
    assert_eq!(mode(&file), 0o600);
    assert!(!fs::read_to_string(&file).unwrap().contains("canary"));
    let key = fs::read_to_string(scene.stage.path(".sigilum-workspace/service-api-key-linear")).unwrap();
    let at_gateway = ask(gateway.admin_address(), "GET", "/api/admin/service-api-keys/linear", None).json();
    assert_eq!((&at_gateway["has_key"], at_gateway["key_prefix"].as_str()), (&json!(true), key.get(..8)));
    let shown =
        done(scene.run_with(&[&args[..], &["--reveal-secrets"]].concat(), &[("LINEAR_TOKEN", SECRET)]));
    assert_eq!(
        (field(&shown, "api_key").as_str(), field(&shown, "secret_value").as_str()),
        (key.trim(), SECRET)
    );
}

#[test]
fn secret_goes_into_a_header_or_the_query() {
    let (scene, _gateway) = Scene::with_gateway();
    let upstream = Upstream::answering(Reply::Echo);
    let url = upstream.url();
    let env = [("K", "tfy-canary")];
    let query = [
        "--auth-mode",
        "query_param",
        "--upstream-header",
        "TYPEFULLY_API_KEY",
        "--upstream-secret-key",
        "api_key",
        "--upstream-secret-env",
        "K",
    ];
    let added = done(scene.run_with(&add("typefully", &url, &query), &env));
    assert_eq!(field(&added, "secret_key"), "api_key");
    let (target, _) = injected(&scene, &upstream, "typefully", "x");
    assert!(target.contains("TYPEFULLY_API_KEY=tfy-canary"), "{target}");
    let header = [
        "--auth-mode",
        "header_key",
        "--upstream-header",
        "X-API-Key",
        "--auth-prefix",
        "Token ",
        "--upstream-secret-env",
        "K",
    ];
    let added = done(scene.run_with(&add("figma", &url, &header), &env));
    assert_eq!(
        (field(&added, "secret_key").as_str(), field(&added, "auth_mode").as_str()),
        ("api_key", "header_key")
    );
    assert_eq!(injected(&scene, &upstream, "figma", "x-api-key").1.unwrap(), "Token tfy-canary");
}

#[test]
fn secret_comes_from_a_file_from_input_typed_or_from_chance() {
    let (scene, _gateway) = Scene::with_gateway();
    let upstream = Upstream::answering(Reply::Echo);
    let url = upstream.url();
    let file = scene.stage.file("secret", b"from-file\n");
    let sent = |slug| injected(&scene, &upstream, slug, "authorization").1.unwrap();
    done(scene.run(&add("one", &url, &["--upstream-secret-file", &file])));
    assert_eq!(sent("one"), "Bearer from-file");
    let input = fs::File::open(scene.stage.file("input", b"from-input\n")).unwrap();
    done(end(scene.command(&add("two", &url, &["--upstream-secret-stdin"])).stdin(input)));
    assert_eq!(sent("two"), "Bearer from-input");
    let typed = done(scene.run(&add("three", &url, &["--upstream-secret", "typed"])));
    assert!(typed.err.starts_with("warning: a secret on the command line"), "{typed:?}");
    assert_eq!(sent("three"), "Bearer typed");
    let random = done(scene.run(&add("four", &url, &[])));
    assert!(random.err.starts_with("warning: no secret is named, so a random one is made"), "{random:?}");
    assert_eq!(sent("four").len(), "Bearer ".len() + 64);
    let both = add("five", &url, &["--upstream-secret", "a", "--upstream-secret-env", "B"]);
    assert_eq!(scene.run(&both).code, Some(2));
    let unset = scene.run(&add("five", &url, &["--upstream-secret-env", "NOT_SET"]));
    assert!(unset.code == Some(2) && unset.err.contains("NOT_SET"), "{unset:?}");
}

#[test]
fn second_run_changes_what_is_said_and_keeps_key_and_secret() {
    let (scene, _gateway) = Scene::with_gateway();
    let upstream = Upstream::answering(Reply::Echo);
    let url = upstream.url();
    let first = done(scene.run_with(&add("linear", &url, &["--upstream-secret-env", "K"]), &[("K", SECRET)]));
    let file = scene.stage.path(".sigilum-workspace/service-api-key-linear");
    let key = fs::read_to_string(&file).unwrap();
    let again =
        done(scene.run(&add("linear", &url, &["--service-name", "Linear", "--description", "Issues"])));
    assert_eq!((again.err.as_str(), field(&again, "service_id")), ("", field(&first, "service_id")));
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
    assert_eq!(injected(&scene, &upstream, "linear", "authorization").1.unwrap(), format!("Bearer {SECRET}"));
    let listed = scene.json(&["service", "list"]);
    assert_eq!(
        (listed["services"].as_array().unwrap().len(), &listed["services"][0]["name"]),
        (1, &json!("Linear"))
    );
    let native = ["service", "add", "--service-slug", "linear"];
    done(scene.run(&native));
    let listed = scene.json(&["service", "list"]);
    assert_eq!(
        (&listed["services"][0]["mode"], listed["services"][0].get("upstream_url")),
        (&json!("native"), None)
    );
}

#[test]
fn second_run_takes_what_it_does_not_say_from_what_stands() {
    let (scene, _gateway) = Scene::with_gateway();
    let upstream = Upstream::answering(Reply::Echo);
    let url = upstream.url();
    let header = ["--auth-mode", "header_key", "--upstream-header", "X-Token", "--auth-prefix", "Key "];
    let first = [&header[..], &["--upstream-secret-key", "own", "--upstream-secret-env", "K"]].concat();
    done(scene.run_with(&add("figma", &url, &first), &[("K", SECRET)]));
    let again = ["service", "add", "--service-slug", "figma", "--mode", "gateway"];
    let renamed = done(scene.run(&[&again[..], &["--description", "Drawings"]].concat()));
    assert_eq!(renamed.err, "", "the secret that works stays");
    for (key, value) in [("upstream_url", url.as_str()), ("auth_mode", "header_key"), ("secret_key", "own")] {
        assert_eq!(field(&renamed, key).trim_end_matches('/'), value);
    }
    assert_eq!(injected(&scene, &upstream, "figma", "x-token").1.unwrap(), format!("Key {SECRET}"));
    // Another mode brings its own header and prefix; the secret stays here too.
    done(scene.run(&[&again[..], &["--auth-mode", "bearer"]].concat()));
    assert_eq!(injected(&scene, &upstream, "figma", "authorization").1.unwrap(), format!("Bearer {SECRET}"));
    let unnamed = scene.run(&[&again[..], &["--auth-mode", "header_key"]].concat());
    assert!(unnamed.code == Some(2) && unnamed.err.contains("--upstream-header"), "{unnamed:?}");
}

#[test]
fn key_that_is_lost_or_of_another_control_plane_is_made_anew() {
    let scene = Scene::start();
    let file = scene.stage.path(".sigilum-workspace/service-api-key-api");
    let mut keys = Vec::new();
    for before in [None, Some("sk_live_000000000000000000000000000000000000000000000000"), Some("\n")] {
        match before {
            Some(text) => fs::write(&file, text).unwrap(),
            None => {
                let _ = fs::remove_file(&file);
            }
        }
        done(scene.run(&["service", "add", "--service-slug", "api"]));
        keys.push(fs::read_to_string(&file).unwrap());
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);
}

#[test]
fn services_are_listed_as_the_documents_show() {
    let (scene, _gateway) = Scene::with_gateway();
    scene.service("my-native-service");
    done(scene.run_with(
        &add("linear", "https://api.linear.app", &["--upstream-secret-env", "K"]),
        &[("K", SECRET)],
    ));
    let json = scene.json(&["service", "list", "--namespace", OWNER]);
    assert_eq!(json["namespace"], OWNER);
    let [native, linear] = json["services"].as_array().unwrap().as_slice() else { panic!("{json}") };
    let keys = |service: &Value| service.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(native), "id slug name mode created_at");
    assert_eq!(keys(linear), "id slug name mode upstream_url created_at");
    assert_eq!(native["created_at"].as_str().unwrap().len(), "2026-03-01T10:00:00Z".len());
    let listed = scene.run(&["service", "list", "--namespace", OWNER]);
    let word = |service: &Value, name: &str| service[name].as_str().unwrap().to_owned();
    let expected = format!(
        "[ok] Services for namespace: johndee\nmy-native-service ({})\n  mode: native\n  created: {}\n\
         linear ({})\n  mode: gateway\n  upstream: https://api.linear.app\n  created: {}\n",
        word(native, "id"),
        word(native, "created_at"),
        word(linear, "id"),
        word(linear, "created_at"),
    );
    assert_eq!(listed.out, expected);
}

#[test]
fn secret_set_uses_the_workspace_s_gateway() {
    let (scene, _gateway) = Scene::with_gateway();
    let upstream = Upstream::answering(Reply::Echo);
    done(scene.run_with(&add("linear", &upstream.url(), &["--upstream-secret-env", "K"]), &[("K", SECRET)]));
    let args = ["service", "secret", "set", "--service-slug", "linear", "--upstream-secret-env", "K"];
    let set = done(scene.run_with(&args, &[("K", "lin_api_new_token")]));
    assert_eq!(
        set.out,
        "[ok] Secret updated for service: linear\nconnection_id: linear\nsecret_key: access_token\n\
         connection_file: .sigilum-workspace/gateway-connection-secret-linear\n"
    );
    assert_eq!(injected(&scene, &upstream, "linear", "authorization").1.unwrap(), "Bearer lin_api_new_token");
}

#[test]
fn secret_is_set_from_a_file_under_its_own_name_and_shown_where_that_is_asked_for() {
    let (scene, _gateway) = Scene::with_gateway();
    let upstream = Upstream::answering(Reply::Echo);
    done(scene.run_with(&add("linear", &upstream.url(), &["--upstream-secret-env", "K"]), &[("K", SECRET)]));
    let file = scene.stage.file("secret", b"lin_api_new_token\n");
    let args = ["service", "secret", "set", "--service-slug", "linear", "--upstream-secret-file", &file];
    let set = done(
        scene.run(&[&args[..], &["--upstream-secret-key", "access_token", "--reveal-secrets"]].concat()),
    );
    assert_eq!(
        set.out,
        "[ok] Secret updated for service: linear\nconnection_id: linear\nsecret_key: access_token\n\
         secret_value: lin_api_new_token\nconnection_file: .sigilum-workspace/gateway-connection-secret-linear\n"
    );
    assert_eq!(injected(&scene, &upstream, "linear", "authorization").1.unwrap(), "Bearer lin_api_new_token");
    let spare = done(scene.run(&[&args[..], &["--upstream-secret-key", "spare"]].concat()));
    assert_eq!(field(&spare, "secret_key"), "spare");
    assert_eq!(injected(&scene, &upstream, "linear", "authorization").1.unwrap(), "Bearer lin_api_new_token");
}

#[test]
fn secret_that_is_too_long_is_refused_and_not_cut() {
    let (scene, _gateway) = Scene::with_gateway();
    let long = "k".repeat(64 * 1024 + 1);
    let file = scene.stage.file("secret", long.as_bytes());
    let from_file = scene.run(&add("linear", "https://a.example", &["--upstream-secret-file", &file]));
    let input = fs::File::open(&file).unwrap();
    let from_input = add("linear", "https://a.example", &["--upstream-secret-stdin"]);
    let from_input = end(scene.command(&from_input).stdin(input));
    for refused in [from_file, from_input] {
        assert!(refused.code == Some(1) && refused.err.contains("longer than 64 KiB"), "{refused:?}");
    }
    assert_eq!(scene.json(&["service", "list"])["services"], json!([]));
}

#[test]
fn service_is_added_with_a_warning_where_the_gateway_hears_no_control_plane() {
    let scene = Scene::start();
    let gateway = Setup::new().set("control_plane.url", "http://127.0.0.1:1").start();
    scene.write_workspace(&format!("http://{}", gateway.admin_address()));
    let args = add("linear", "http://127.0.0.1:1", &["--upstream-secret-env", "K"]);
    let added = done(scene.run_with(&args, &[("K", SECRET)]));
    assert!(
        added.err.starts_with("warning: the gateway has not received the claims of linear: ")
            && added.err.contains("AUTH_CLAIMS_UNAVAILABLE"),
        "{added:?}"
    );
    assert!(added.out.starts_with("[ok] Service registered: linear\n"), "{added:?}");
}

/// A gateway over the stage's own data directory.
fn gateway_of(stage: &Stage) -> Gateway {
    Setup::new().set("data_dir", stage.path(".local/gateway-data").to_str().unwrap()).start()
}

#[test]
fn stopped_gateway_s_vault_is_written_itself() {
    let scene = Scene::start();
    let upstream = Upstream::answering(Reply::Echo);
    let url = upstream.url();
    let fallback = ["--gateway-data-dir", ".local/gateway-data", "--upstream-secret-env", "K"];
    let none = scene.run_with(&add("linear", &url, &fallback), &[("K", SECRET)]);
    assert!(
        none.code == Some(1) && none.err.contains("there is no vault at .local/gateway-data/vault"),
        "{none:?}"
    );
    let (status, output) = gateway_of(&scene.stage).stop();
    assert!(status.success(), "{output}");
    done(scene.run_with(&add("linear", &url, &fallback), &[("K", SECRET)]));
    let by_variable = add("linear", &url, &["--service-name", "Linear"]);
    let again = done(scene.run_with(&by_variable, &[("GATEWAY_DATA_DIR", ".local/gateway-data")]));
    assert_eq!(again.err, "", "the secret stays");
    let gateway = gateway_of(&scene.stage);
    scene.write_workspace(&format!("http://{}", gateway.admin_address()));
    assert_eq!(injected(&scene, &upstream, "linear", "authorization").1.unwrap(), format!("Bearer {SECRET}"));
    let view = ask(gateway.admin_address(), "GET", "/api/admin/connections/linear", None).json();
    assert_eq!(view["name"], "Linear");
    let key = ask(gateway.admin_address(), "GET", "/api/admin/service-api-keys/linear", None).json();
    assert_eq!(key["has_key"], true);
    scene.write_workspace("http://127.0.0.1:1");
    let in_use = scene.run_with(&add("figma", &url, &fallback), &[("K", SECRET)]);
    assert!(in_use.code == Some(1) && in_use.err.contains("--gateway-admin-url"), "{in_use:?}");
}

#[test]
fn master_key_opens_a_stopped_gateway_s_vault() {
    use base64::Engine as _;
    let scene = Scene::start();
    let key = base64::prelude::BASE64_STANDARD.encode([7_u8; 32]);
    let data = scene.stage.path(".local/gateway-data");
    let gateway = Setup::new()
        .set("data_dir", data.to_str().unwrap())
        .set("vault.master_key", "env:K")
        .env("K", &key)
        .start();
    assert!(gateway.stop().0.success());
    let fallback = ["--gateway-data-dir", ".local/gateway-data", "--upstream-secret", "s"];
    let url = "https://api.linear.app";
    let typed =
        done(scene.run(&[&add("linear", url, &fallback)[..], &["--gateway-master-key", &key]].concat()));
    assert!(typed.err.contains("warning: a secret on the command line"), "{typed:?}");
    assert!(!typed.err.contains(&key) && !typed.out.contains(&key));
    done(scene.run_with(&add("linear", url, &fallback), &[("GATEWAY_MASTER_KEY", &key)]));
    let other = base64::prelude::BASE64_STANDARD.encode([8_u8; 32]);
    let wrong = scene.run_with(&add("linear", url, &fallback), &[("GATEWAY_MASTER_KEY", &other)]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let no_key = [&add("linear", url, &fallback)[..], &["--gateway-master-key", "canary"]].concat();
    let no_key = scene.run(&no_key);
    assert!(no_key.code == Some(2) && !no_key.err.contains("canary"), "{no_key:?}");
}

#[test]
fn gateway_that_does_not_answer_leaves_everything_as_it_was() {
    let scene = Scene::start();
    let gone = scene.run_with(
        &add("linear", "https://api.linear.app", &["--upstream-secret-env", "K"]),
        &[("K", SECRET)],
    );
    assert_eq!(gone.code, Some(4), "{gone:?}");
    assert!(
        gone.err.contains("gateway admin not reachable at http://127.0.0.1:1")
            && gone.err.contains("sigilum gateway start"),
        "{gone:?}"
    );
    assert_eq!(scene.json(&["service", "list"])["services"], json!([]));
}

#[test]
fn control_plane_that_does_not_answer_leaves_the_gateway_as_it_was() {
    let (scene, gateway) = Scene::with_gateway();
    let args = add(
        "linear",
        "https://api.linear.app",
        &["--upstream-secret", "s", "--api-url", "http://127.0.0.1:1"],
    );
    let gone = scene.run(&args);
    assert_eq!(gone.code, Some(4), "{gone:?}");
    let all = ask(gateway.admin_address(), "GET", "/api/admin/connections", None).json();
    assert_eq!(all["connections"], json!([]));
}

#[test]
fn what_cannot_be_meant_is_wrong_usage() {
    let (scene, _gateway) = Scene::with_gateway();
    for wrong in [
        &["service", "add"][..],
        &["service", "add", "--service-slug", "A_B"],
        &["service", "add", "--service-slug", "abc", "--mode", "proxy"],
        &["service", "add", "--service-slug", "abc", "--upstream-base-url", "https://a.example"],
        &["service", "add", "--service-slug", "abc", "--upstream-secret", "s"],
        &["service", "add", "--service-slug", "abc", "--mode", "gateway"],
        &add("abc", "ftp://a.example", &[]),
        &add("abc", "https://user:canary@a.example", &[]),
        &add("abc", "https://a.example", &["--auth-mode", "header_key"]),
        &add("abc", "https://a.example", &["--auth-mode", "magic"]),
    ] {
        let ended = scene.run(wrong);
        assert_eq!(ended.code, Some(2), "{wrong:?}: {ended:?}");
        assert!(!ended.err.contains("canary"), "{ended:?}");
    }
    assert_eq!(scene.json(&["service", "list"])["services"], json!([]));
}

#[test]
fn owner_without_a_token_that_holds_is_not_authorized() {
    let scene = Scene::start();
    let forged = token(OWNER, 600);
    let refused =
        scene.run_with(&["service", "add", "--service-slug", "abc"], &[("SIGILUM_OWNER_TOKEN", &forged)]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(!scene.stage.path(".sigilum-workspace/service-api-key-abc").exists());
}

#[test]
fn directory_without_a_control_plane_says_how_to_get_one() {
    let stage = Stage::empty();
    let ended =
        end(command(&stage, &["service", "list", "--namespace", OWNER]).env("SIGILUM_MODE", "oss-local"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("hint: start it with `sigilum up`"), "{ended:?}");
    assert!(!stage.path(".local").exists(), "nothing is made");
    write_workspace(&stage, "http://127.0.0.1:1", "http://127.0.0.1:1");
    fs::write(stage.path(".sigilum-workspace/workspace.json"), "{").unwrap();
    let broken = end(&mut command(&stage, &["service", "list"]));
    assert!(
        broken.code == Some(1) && broken.err.contains("workspace.json is not what `sigilum up` writes"),
        "{broken:?}"
    );
}
