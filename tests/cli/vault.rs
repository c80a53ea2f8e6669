//! `sigilum vault`, on the files of a gateway that runs and of one that does not.

use serde_json::{Value, json};

use super::household::Household;
use super::stage::{Ended, Stage, end, mode};
use crate::gateway::admin_scene::ask;
use crate::support::gateway::{Gateway, Setup};

/// A data directory with a vault in it, made by a gateway.
struct Scene {
    stage: Stage,
    config: String,
}

impl Scene {
    fn start() -> Self {
        let stage = Stage::empty();
        let config = json!({ "data_dir": stage.path("data"), "providers": [] }).to_string();
        let config = stage.file("gateway.yaml", config.as_bytes());
        let scene = Self { stage, config };
        let gateway = scene.gateway(|setup| setup);
        scene.add(&gateway, "openai");
        let (status, output) = gateway.stop();
        assert!(status.success(), "{output}");
        scene
    }

    fn gateway(&self, change: impl FnOnce(Setup) -> Setup) -> Gateway {
        change(Setup::new().set("data_dir", self.stage.path("data").to_str().unwrap())).start()
    }

    fn add(&self, gateway: &Gateway, id: &str) {
        let body =
            json!({ "id": id, "base_url": "https://api.example", "secrets": { "api_key": "sk-canary" } });
        let made = ask(gateway.admin_address(), "POST", "/api/admin/connections", Some(&body));
        assert_eq!(made.status, 201, "{}", made.text());
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ended {
        let mut command = self.stage.command(args);
        let ended = end(command.args(["--config", &self.config]).envs(env.iter().copied()));
        assert!(!format!("{ended:?}").contains("canary"), "{ended:?}");
        ended
    }

    /// The secrets open under the key that is in place.
    fn assert_whole(&self) {
        let gateway = self.gateway(|setup| setup);
        let view = ask(gateway.admin_address(), "GET", "/api/admin/connections/openai", None).json();
        assert_eq!((&view["credential_keys"], &view["problem"]), (&json!(["api_key"]), &Value::Null));
    }
}

#[test]
fn vault_of_a_stopped_gateway_is_proven() {
    let scene = Scene::start();
    let verified = scene.run(&["vault", "verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.out.starts_with("[ok] The vault holds.\n"), "{}", verified.out);
    let again = scene.run(&["vault", "verify", "--accept-loss", "--json"]);
    let losses: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((&losses["gone"], &losses["unproven"]), (&json!([]), &json!([])));
    scene.assert_whole();
}

#[test]
fn vault_that_a_gateway_has_open_is_left_alone() {
    let scene = Scene::start();
    let _gateway = scene.gateway(|setup| setup);
    for args in [
        &["vault", "verify"][..],
        &["vault", "verify", "--accept-loss"],
        &["vault", "export", "--out", "backup", "--passphrase-env", "P"],
    ] {
        let ended = scene.run_with(args, &[("P", "correct horse")]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("is open in another process"), "{}", ended.err);
    }
    assert!(!scene.stage.path("backup").exists());
}

#[test]
fn export_is_read_into_an_empty_vault_and_no_further() {
    let scene = Scene::start();
    let passphrase = [("P", "correct horse battery")];
    let exported =
        scene.run_with(&["vault", "export", "--out", "backup", "--passphrase-env", "P"], &passphrase);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let backup = scene.stage.path("backup");
    assert_eq!(mode(&backup), 0o600);
    assert!(!String::from_utf8_lossy(&std::fs::read(&backup).unwrap()).contains("canary"));
    let twice = scene.run_with(&["vault", "export", "--out", "backup", "--passphrase-env", "P"], &passphrase);
    assert!(twice.err.contains("is there already"), "{twice:?}");
    let import = ["vault", "import", "backup", "--passphrase-env", "P"];
    let full = scene.run_with(&import, &passphrase);
    assert_eq!(full.code, Some(1), "{full:?}");
    let kept = scene.run_with(&[&import[..], &["--existing", "keep"]].concat(), &passphrase);
    assert!(kept.out.contains("added: 0\n"), "{kept:?}");
    std::fs::rename(scene.stage.path("data"), scene.stage.path("old")).unwrap();
    let wrong = scene.run_with(&import, &[("P", "wrong")]);
    assert!(wrong.err.contains("passphrase is not the one"), "{wrong:?}");
    let imported = scene.run_with(&[&import[..], &["--existing", "replace"]].concat(), &passphrase);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    scene.assert_whole();
}

#[test]
fn key_file_of_the_vault_is_replaced_while_the_gateway_is_stopped() {
    let scene = Scene::start();
    let own = scene.stage.path("data/vault.key");
    let before = std::fs::read_to_string(&own).unwrap();
    let rekeyed = scene.run(&["vault", "rekey"]);
    assert_eq!(rekeyed.code, Some(0), "{rekeyed:?}");
    assert!(rekeyed.out.contains("gateway_running: false\n"), "{}", rekeyed.out);
    assert_ne!(std::fs::read_to_string(&own).unwrap(), before);
    assert_eq!(mode(&own), 0o600);
    assert!(!scene.stage.path("data/vault.key.next").exists());
    scene.assert_whole();
}

#[test]
fn running_gateway_changes_the_key_itself() {
    let scene = Scene::start();
    let gateway = scene.gateway(|setup| setup);
    let url = format!("http://{}", gateway.admin_address());
    let rekeyed = scene.run(&["vault", "rekey", "--gateway-admin-url", &url]);
    assert_eq!(rekeyed.code, Some(0), "{rekeyed:?}");
    assert!(rekeyed.out.contains("gateway_running: true\n"), "{}", rekeyed.out);
    scene.add(&gateway, "second");
    gateway.stop();
    scene.assert_whole();
}

#[test]
fn another_gateway_s_vault_is_not_rekeyed_by_mistake() {
    let scene = Scene::start();
    let _open = scene.gateway(|setup| setup);
    let other = Setup::new().start();
    let url = format!("http://{}", other.admin_address());
    let refused = scene.run(&["vault", "rekey", "--gateway-admin-url", &url]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("has another vault"), "{}", refused.err);
    assert!(!scene.stage.path("data/vault.key.next").exists());
}

#[test]
fn new_key_file_is_made_and_named_for_the_configuration() {
    let scene = Scene::start();
    let file = scene.stage.path("keys/new.key");
    let rekeyed = scene.run(&["vault", "rekey", "--new-key-file", file.to_str().unwrap()]);
    assert_eq!(rekeyed.code, Some(0), "{rekeyed:?}");
    let reference = format!("file:{}", file.display());
    assert!(rekeyed.out.contains(&format!("next: set vault.master_key: {reference}\n")), "{}", rekeyed.out);
    let gateway = scene.gateway(|setup| setup.set("vault.master_key", reference));
    let view = ask(gateway.admin_address(), "GET", "/api/admin/connections/openai", None).json();
    assert_eq!(view["problem"], Value::Null);
}

#[test]
fn vault_that_is_not_there_is_not_made_by_looking_for_it() {
    let scene = Scene::start();
    std::fs::remove_dir_all(scene.stage.path("data")).unwrap();
    for args in [
        &["vault", "verify"][..],
        &["vault", "rekey"],
        &["vault", "export", "--out", "backup", "--passphrase-env", "P"],
    ] {
        assert_eq!(scene.run_with(args, &[("P", "correct horse")]).code, Some(1), "{args:?}");
    }
    assert!(!scene.stage.path("data/vault").exists());
}

#[test]
fn empty_variable_of_the_data_directory_is_none() {
    let house = Household::new();
    house.up(&[]);
    house.done(&["down"]);
    let verified = end(house.command(&["vault", "verify"]).env("GATEWAY_DATA_DIR", ""));
    assert!(verified.out.contains("/.local/gateway-data/vault\n"), "{verified:?}");
}
