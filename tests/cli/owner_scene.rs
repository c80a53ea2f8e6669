//! What the tests of an owner's commands begin with: a control plane on a socket and a SQLite file, a workspace that says
//! where it is, and a gateway.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sigilum::clock::{Clock, UnixTime};
use sigilum::config::{ControlDefaults, control_config};
use sigilum::control::domain::claim::{ClaimRecord, Submission, Submitted};
use sigilum::control::store::DatabaseUrl;
use sigilum::names::{Namespace, ServiceSlug};
use sigilum::protocol::PublicKey;

use super::stage::{Ended, Stage, end};
use crate::support::control::Control;
use crate::support::gateway::{Gateway, Setup};

/// The namespace whose owner types.
pub(crate) const OWNER: &str = "johndee";

/// A directory with a running control plane, as `sigilum up` would leave it.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) plane: Plane,
}

/// A control plane in this process, on a real socket and a real file.
pub(crate) struct Plane {
    pub(crate) origin: String,
    control: Control,
}

impl Plane {
    /// On the files that a command finds in the stage's directory.
    pub(crate) fn start(stage: &Stage) -> Self {
        let data_dir = stage.path(".local/api-data");
        let (config, _) =
            control_config(&|_| None, &ControlDefaults { listen: None, data_dir: data_dir.clone() }).unwrap();
        let control = Control::over(DatabaseUrl::Sqlite(data_dir.join("sigilum.db")), |own| {
            own.token_key = config.token_key;
        });
        Self { origin: control.origin(), control }
    }

    /// A pending claim of an agent of the owner's namespace.
    pub(crate) fn claim(&self, service: &str, seed: u8) -> ClaimRecord {
        let (namespace, slug): (Namespace, ServiceSlug) = (OWNER.parse().unwrap(), service.parse().unwrap());
        let (now, store) = (Clock::system().now(), self.control.store().clone());
        self.control.call(async move {
            let service = store.service_of_slug(&namespace, &slug).await.unwrap().unwrap();
            let submission = Submission {
                namespace,
                public_key: key(seed),
                service_id: service.id,
                subject: "alice@example.com".to_owned(),
                agent_id: None,
                agent_name: Some(format!("agent-{seed}")),
                agent_ip: "127.0.0.1".parse().unwrap(),
                scopes: Vec::new(),
                ttl_seconds: None,
                nonce: format!("nonce-{seed}-{}", now.millis()),
            };
            match store.submit_claim(submission, now).await.unwrap().unwrap() {
                Submitted::Made(claim) | Submitted::Standing(claim) => claim,
            }
        })
    }
}

/// A public key that no other seed gives.
pub(crate) fn key(seed: u8) -> PublicKey {
    let identity =
        sigilum::protocol::Identity::create(&"agent".parse().unwrap(), [seed; 32], UnixTime::from_secs(0));
    *identity.public_key()
}

impl Scene {
    pub(crate) fn start() -> Self {
        let stage = Stage::empty();
        let plane = Plane::start(&stage);
        let scene = Self { stage, plane };
        scene.write_workspace("http://127.0.0.1:1");
        scene
    }

    /// With a gateway, which the workspace names.
    pub(crate) fn with_gateway() -> (Self, Gateway) {
        let scene = Self::start();
        let gateway = Setup::new().start();
        scene.write_workspace(&format!("http://{}", gateway.admin_address()));
        (scene, gateway)
    }

    pub(crate) fn write_workspace(&self, admin_url: &str) {
        write_workspace(&self.stage, &self.plane.origin, admin_url);
    }

    /// A command whose user has a home directory of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&self.stage, args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        end(&mut self.command(args))
    }

    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ended {
        end(self.command(args).envs(env.iter().copied()))
    }

    /// What a command that is done prints as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ended = self.run(&[args, &["--json"]].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    /// A native service.
    pub(crate) fn service(&self, slug: &str) {
        let added = self.run(&["service", "add", "--service-slug", slug]);
        assert_eq!(added.code, Some(0), "{added:?}");
    }
}

pub(crate) fn command(stage: &Stage, args: &[&str]) -> Command {
    let mut command = stage.command(args);
    command.env("HOME", user(stage));
    command
}

/// The home directory of the stage's user.
pub(crate) fn user(stage: &Stage) -> PathBuf {
    stage.path("user")
}

pub(crate) fn write_workspace(stage: &Stage, api_url: &str, admin_url: &str) {
    let workspace = json!({
        "version": 1,
        "namespace": OWNER,
        "api_url": api_url,
        "gateway_url": "http://127.0.0.1:1",
        "admin_url": admin_url,
        "data_dir": ".local",
    });
    fs::create_dir_all(stage.path(".sigilum-workspace")).unwrap();
    fs::write(stage.path(".sigilum-workspace/workspace.json"), workspace.to_string()).unwrap();
}

/// A token that nobody signed.
pub(crate) fn token(namespace: &str, expires_in_secs: i64) -> String {
    let expires = Clock::system().now().secs() + expires_in_secs;
    let payload = json!({ "namespace": namespace, "exp": expires }).to_string();
    format!("e30.{}.bm9ib2R5", URL_SAFE_NO_PAD.encode(payload))
}

/// What a token says, unproven.
pub(crate) fn payload(token: &str) -> Value {
    let payload = token.trim().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
