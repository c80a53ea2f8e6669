//! The real gateway as a process: its configuration, its life, its output.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::{Agent, Signed};
use super::eventually;
use super::raw::{RawClient, Response};

/// What a gateway is started with. Its files lie in a directory that goes with it.
pub struct Setup {
    config: Value,
    env: Vec<(String, String)>,
    descriptors: Option<u32>,
    directory: TempDir,
}

impl Setup {
    /// A plain listener and the admin listener on free ports, no provider, no claim.
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let under = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let config = json!({
            "data_dir": under("data"),
            "identity": { "namespace": "test-gateway", "home": under("home") },
            "listeners": [{ "address": "127.0.0.1:0" }],
            "admin": { "address": "127.0.0.1:0" },
            "providers": [],
            "claims": { "static": [] },
        });
        Self { config, env: Vec::new(), descriptors: None, directory }
    }

    /// Sets the value at a dotted path: `limits.body.max`.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.config;
        for key in path.split('.') {
            if !at.is_object() {
                *at = json!({});
            }
            at = &mut at[key];
        }
        *at = value.into();
        self
    }

    /// Adds an entry of `providers`.
    pub fn provider(mut self, provider: Value) -> Self {
        self.config["providers"].as_array_mut().unwrap().push(provider);
        self
    }

    /// Adds a provider at `base_url` whose bearer secret comes from the environment.
    pub fn bearer(self, id: &str, base_url: &str, secret: &str) -> Self {
        let variable = format!("TEST_SECRET_{}", id.to_uppercase().replace('-', "_"));
        let auth = json!({ "mode": "bearer", "secret": format!("env:{variable}") });
        self.provider(json!({ "id": id, "base_url": base_url, "auth": auth })).env(&variable, secret)
    }

    /// Adds a claim of this agent on these services.
    pub fn claim(self, agent: &Agent, services: &[&str]) -> Self {
        let claim = agent.claim(services);
        self.claim_entry(claim)
    }

    /// Adds an entry of `claims.static`.
    pub fn claim_entry(mut self, claim: Value) -> Self {
        self.config["claims"]["static"].as_array_mut().unwrap().push(claim);
        self
    }

    /// Sets a variable of the gateway's environment, which holds nothing else but `PATH` and `HOME`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets the process open at the most so many descriptors.
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Gateway {
        let listeners = self.config["listeners"].as_array().map_or(1, Vec::len);
        let mut gateway = self.spawn();
        gateway.wait_until_listening(listeners);
        gateway
    }

    /// Starts it, expects it to give up, and gives its exit status and all that it said.
    pub fn refused(self) -> (ExitStatus, String) {
        let mut gateway = self.spawn();
        let status = gateway.wait();
        (status, gateway.output())
    }

    fn spawn(self) -> Gateway {
        let file = self.directory.path().join("gateway.yaml");
        write_config(&file, &self.config);
        let program = env!("CARGO_BIN_EXE_sigilum");
        let mut command = match self.descriptors {
            None => Command::new(program),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\""), program]);
                shell
            }
        };
        command
            .args(["gateway", "start", "--config"])
            .arg(&file)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Lines::follow(child.stdout.take().unwrap());
        let stderr = Lines::follow(child.stderr.take().unwrap());
        Gateway { child, stdout, stderr, urls: Vec::new(), admin: None, setup: self }
    }
}

/// A gateway that runs; it is killed when this is dropped.
pub struct Gateway {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    urls: Vec<String>,
    admin: Option<SocketAddr>,
    setup: Setup,
}

impl Gateway {
    /// The origin of its first listener: `http://127.0.0.1:1234`.
    pub fn url(&self) -> &str {
        &self.urls[0]
    }

    /// The origins of all its listeners, in their order.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The address of its first listener.
    pub fn address(&self) -> SocketAddr {
        address_of(self.url())
    }

    /// The address of its admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.unwrap()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory that holds its files; `gateway.yaml` is its configuration.
    pub fn directory(&self) -> &Path {
        self.setup.directory()
    }

    /// A new connection to its first listener.
    pub fn connect(&self) -> RawClient {
        RawClient::connect(self.address())
    }

    /// Sends one signed request on a connection of its own, and reads the answer.
    pub fn send(&self, request: &Signed) -> Response {
        let mut client = self.connect();
        client.send(request.to_bytes());
        client.response_to(&request.method)
    }

    /// Sends a GET to its admin listener.
    pub fn admin_get(&self, path: &str) -> Response {
        self.admin_send("GET", path)
    }

    /// Sends a request without a body to its admin listener.
    pub fn admin_send(&self, method: &str, path: &str) -> Response {
        let mut client = RawClient::connect(self.admin_address());
        let host = self.admin_address();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ));
        client.response_to(method)
    }

    /// The value of a series of `/metrics`, written as it stands there, labels included; `None` where it does not.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.admin_get("/metrics").text();
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(name, _)| *name == series)
            .map(|(_, value)| value.parse().unwrap())
    }

    /// Waits until a series has this value.
    #[allow(clippy::float_cmp, reason = "counters hold whole numbers")]
    pub fn wait_for_metric(&self, series: &str, value: f64) {
        eventually(&format!("{series} {value}"), || (self.metric(series) == Some(value)).then_some(()));
    }

    /// Writes a changed configuration in the place of the running one; reading it again is the test's step.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.setup.config);
        write_config(&self.setup.directory.path().join("gateway.yaml"), &self.setup.config);
    }

    /// All that it wrote to standard output and standard error so far.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout.text(), self.stderr.text())
    }

    /// Panics when `secret` stands in its output, as it is or in base64.
    pub fn assert_silent_about(&self, secret: &str) {
        let output = self.output();
        for form in [secret.to_owned(), STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret)] {
            assert!(!output.contains(&form), "the gateway wrote a secret:\n{output}");
        }
    }

    /// The decisions logged so far, the fields of each at the top level.
    pub fn decisions(&self) -> Vec<Value> {
        self.stdout.text().lines().filter_map(decision).collect()
    }

    /// Waits until `count` decisions are logged, and gives all.
    pub fn wait_for_decisions(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} decisions in the log"), || {
            Some(self.decisions()).filter(|decisions| decisions.len() >= count)
        })
    }

    /// Waits for the decision about the request with this id.
    pub fn wait_for_decision(&self, request_id: &str) -> Value {
        eventually(&format!("the decision about {request_id}"), || {
            self.decisions().into_iter().find(|decision| decision["request_id"] == request_id)
        })
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill} failed");
    }

    /// Asks it to stop, waits until it has, and gives its exit status and all that it said.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = self.wait();
        (status, self.output())
    }

    /// Waits until it has ended, and its output with it.
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the end of the gateway", || self.child.try_wait().unwrap());
        eventually("the end of its output", || (self.stdout.ended() && self.stderr.ended()).then_some(()));
        status
    }

    fn wait_until_listening(&mut self, listeners: usize) {
        eventually("the gateway to listen", || {
            if self.child.try_wait().unwrap().is_some() {
                let status = self.wait();
                panic!("the gateway ended ({status}) before it listened:\n{}", self.output());
            }
            let text = self.stdout.text();
            self.urls = announced(&text, "[ok] Gateway listening on ");
            self.admin = announced(&text, "[ok] Admin listening on ").first().map(|url| address_of(url));
            (self.urls.len() >= listeners && self.admin.is_some()).then_some(())
        });
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what the gateway wrote ---\n{}", self.output());
        }
    }
}

/// The lines of a pipe, as they come.
struct Lines(Arc<Mutex<(String, bool)>>);

impl Lines {
    fn follow(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new((String::new(), false)));
        let shared = Arc::clone(&lines);
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                shared.lock().unwrap().0.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
            shared.lock().unwrap().1 = true;
        });
        Self(lines)
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().0.clone()
    }

    fn ended(&self) -> bool {
        self.0.lock().unwrap().1
    }
}

/// JSON is YAML, so the file is written as JSON.
fn write_config(file: &Path, config: &Value) {
    std::fs::write(file, serde_json::to_string_pretty(config).unwrap()).unwrap();
}

fn announced(text: &str, prefix: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix(prefix))
        .map(|rest| rest.split_whitespace().next().unwrap_or_default().trim_end_matches('/').to_owned())
        .collect()
}

fn address_of(url: &str) -> SocketAddr {
    url.split_once("://").map_or(url, |(_, address)| address).parse().unwrap()
}

fn decision(line: &str) -> Option<Value> {
    let mut line: Value = serde_json::from_str(line).ok()?;
    if line["target"] != "sigilum::decision" {
        return None;
    }
    if let Some(Value::Object(fields)) = line.get_mut("fields").map(Value::take) {
        line.as_object_mut()?.extend(fields);
    }
    Some(line)
}
