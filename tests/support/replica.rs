//! The control plane as a process of its own, `sigilum api start`: at an address that stays its own, so that it can be
//! killed and started again while others call it.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::control::{Owner, Service, owner_request};
use super::eventually;
use super::postgres::Postgres;
use super::raw::{RawClient, Response};

/// What replicas of one control plane share: the database and the secrets. Their files go with it.
pub struct Estate {
    directory: TempDir,
    env: Vec<(&'static str, String)>,
}

impl Estate {
    /// Over a SQLite file, which one process serves.
    pub fn on_sqlite() -> Self {
        Self::with(None)
    }

    /// Over a PostgreSQL, which any number serve.
    pub fn on(postgres: &Postgres) -> Self {
        Self::with(Some(("DATABASE_URL", postgres.url())))
    }

    fn with(database: Option<(&'static str, String)>) -> Self {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data").to_str().unwrap().to_owned();
        let mut env = vec![
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", directory.path().to_str().unwrap().to_owned()),
            ("SIGILUM_API_DATA_DIR", data),
            ("SIGILUM_ENVIRONMENT", "test".to_owned()),
            ("JWT_SECRET", "a secret of the tests, of forty characters".to_owned()),
            ("SIGILUM_API_SEALING_KEY", "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=".to_owned()),
            ("WEBHOOK_ALLOW_PRIVATE_TARGETS", "true".to_owned()),
        ];
        env.extend(database);
        Self { directory, env }
    }

    /// Where its files lie, those of a SQLite database among them.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// One more process of it, not yet started.
    pub fn replica(&self) -> Replica {
        let address = own_address();
        let log = self.directory.path().join(format!("api-{}.log", address.port()));
        Replica { address, env: self.env.clone(), home: self.directory.path().to_owned(), log, child: None }
    }

    /// An owner and its token, made as the documents tell.
    pub fn owner(&self, namespace: &str) -> Owner {
        let email = format!("{namespace}@example.com");
        let output = self
            .command(&["api", "owner", "create", "--json", "--namespace", namespace, "--email", &email])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        Owner { id: text("owner_id"), namespace: namespace.to_owned(), email, token: text("token") }
    }

    fn command(&self, args: &[&str]) -> Command {
        command(self.directory.path(), &self.env, args)
    }
}

/// One process of a control plane. It is killed when this is dropped.
pub struct Replica {
    address: SocketAddr,
    env: Vec<(&'static str, String)>,
    home: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Replica {
    /// Where it listens whenever it runs.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as the base URL of a gateway's configuration.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Starts it, and waits until it serves.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    /// Waits until it serves.
    pub fn wait_until_ready(&mut self) {
        eventually("the control plane to be ready", || {
            self.assert_running();
            let ready = super::control::request(self.address, "GET", "/health/ready", &[], None);
            ask(self.address, "GET", &ready).filter(|answer| answer.status == 200)
        });
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = || -> File { OpenOptions::new().create(true).append(true).open(&self.log).unwrap() };
        let mut command = command(&self.home, &self.env, &["api", "start"]);
        command.env("SIGILUM_API_LISTEN", self.address.to_string()).stdout(log()).stderr(log());
        self.child = Some(command.spawn().unwrap());
    }

    /// Kills it as `kill -9` does; it gets no word in.
    pub fn kill(&mut self) {
        self.assert_running();
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Panics where it has ended by itself.
    pub fn assert_running(&mut self) {
        let child = self.child.as_mut().expect("it was started");
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the control plane ended by itself: {ended:?}");
    }

    /// As this owner, a request that must be answered.
    pub fn answer_to(&self, owner: &Owner, method: &str, path: &str, body: Option<&Value>) -> Response {
        let request = owner_request(self.address, owner, method, path, body);
        ask(self.address, method, &request).expect("an answer")
    }

    /// As this owner, a request that must be answered with this status; gives the JSON of the answer.
    pub fn as_owner(
        &self,
        owner: &Owner,
        status: u16,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Value {
        let answer = self.answer_to(owner, method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        answer.json()
    }

    /// A service of this owner, with a key that opens all of the owner's services.
    pub fn service(&self, owner: &Owner, slug: &str) -> Service {
        let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
        let id =
            text(&self.as_owner(owner, 201, "POST", "/v1/services", Some(&json!({ "slug": slug }))), "id");
        let path = format!("/v1/services/{id}/keys");
        let key = self.as_owner(owner, 201, "POST", &path, Some(&json!({ "all_services": true })));
        Service { id, slug: slug.to_owned(), key_id: text(&key, "id"), key: text(&key, "key") }
    }

    /// All that it wrote so far, in all its lives.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- what the control plane at {} wrote ---\n{}", self.address, self.output());
        }
    }
}

/// Sends a request on a connection of its own. `None` where nobody listens, or where the connection ends before the
/// whole answer has come.
pub fn ask(address: SocketAddr, method: &str, request: &[u8]) -> Option<Response> {
    let mut client = RawClient::try_connect(address).ok()?;
    client.try_send(request).ok()?;
    client.try_response_to(method).filter(|answer| answer.complete)
}

/// The binary, with nothing of this process's environment that could sway it.
fn command(home: &Path, env: &[(&'static str, String)], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sigilum"));
    command.args(args).env_clear().envs(env.iter().map(|(name, value)| (name, value))).current_dir(home);
    command.stdin(Stdio::null());
    command
}

/// An address of the loopback network that nobody else takes while its process is not there: the host is this process's
/// own, by its id.
fn own_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(8787);
    let host = Ipv4Addr::from(0x7f40_0000 | (std::process::id() & 0x003f_ffff));
    SocketAddr::from((host, PORT.fetch_add(1, Ordering::Relaxed)))
}
