//! Programs that know nothing of signatures, through `sigilum agent` and the gateway: the official OpenAI client and
//! a WebSocket client.
//!
//! The Python that `SIGILUM_PYTHON` names must have the packages `openai` and `websockets`; without the variable
//! these tests say so and pass.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::cli::stage::{Running, Stage};
use crate::support::gateway::{Gateway, Setup};
use crate::support::openai::{DONE, event, openai};

const KEY: &str = "sk-canary-of-the-provider";
const DUMMY: &str = "sk-dummy-of-the-client";

fn python() -> Option<PathBuf> {
    let python = std::env::var_os("SIGILUM_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!("not run: SIGILUM_PYTHON names no Python with openai and websockets");
    }
    python
}

/// A Python script at work.
struct Script {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Script {
    fn start(python: &PathBuf, name: &str, args: &[&str]) -> Self {
        let script = format!("{}/tests/interop/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(python)
            .arg(script)
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn rest(mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        rest
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway in front of `url` with the provider's key, and the signing agent of an approved caller.
struct Way {
    gateway: Gateway,
    agent_url: String,
    _agent: Running,
    _stage: Stage,
}

fn way(url: &str) -> Way {
    let stage = Stage::with_identity();
    let identity = std::fs::read(stage.home().join("identities/alice/identity.json")).unwrap();
    let identity: Value = serde_json::from_slice(&identity).unwrap();
    let claim = json!({ "namespace": "alice", "public_key": identity["publicKey"], "services": ["openai"] });
    let gateway = Setup::new().bearer("openai", url, KEY).claim_entry(claim).start();
    let args =
        ["agent", "--listen", "127.0.0.1:0", "--gateway", gateway.url(), "--path-prefix", "/proxy/openai"];
    let (agent, line) = Running::start(&mut stage.command(&args));
    let agent_url = line.strip_prefix("[ok] Agent listening on ").unwrap_or_else(|| panic!("{line}"));
    Way { gateway, agent_url: agent_url.trim().to_owned(), _agent: agent, _stage: stage }
}

#[test]
fn official_client_is_served_with_the_provider_s_key_in_place_of_its_dummy() {
    let Some(python) = python() else { return };
    let (upstream, hand) = openai(KEY);
    let way = way(&upstream.url());
    let base_url = format!("{}/v1", way.agent_url);
    assert_eq!(Script::start(&python, "openai_client.py", &["models", &base_url]).rest(), "test-model\n");
    assert_eq!(Script::start(&python, "openai_client.py", &["whole", &base_url]).rest(), "hello\n");

    let mut client = Script::start(&python, "openai_client.py", &["streamed", &base_url]);
    for word in ["each", "word", "as", "it", "comes"] {
        hand.send(event(word));
        assert_eq!(client.line(), word);
    }
    hand.send(DONE);
    hand.finish();
    assert_eq!(client.rest(), "end\n");

    let requests = upstream.wait_for(3);
    for request in &requests {
        assert_eq!(request.all("authorization"), [format!("Bearer {KEY}")]);
        let signed = |name: &str| name.starts_with("sigilum-") || name.starts_with("signature");
        assert!(!request.headers.iter().any(|(name, _)| signed(&name.to_lowercase())), "{request:?}");
    }
    assert!(!String::from_utf8_lossy(&upstream.received()).contains(DUMMY));
    way.gateway.assert_silent_about(KEY);
}

#[test]
fn official_client_is_refused_without_the_agent() {
    let Some(python) = python() else { return };
    let (upstream, _hand) = openai(KEY);
    let way = way(&upstream.url());
    let straight = format!("{}/proxy/openai/v1", way.gateway.url());
    let refused = Script::start(&python, "openai_client.py", &["whole", &straight]).rest();
    assert!(refused.starts_with("403 the request is not signed"), "{refused}");
    upstream.assert_zero_bytes();
    // And the provider itself knows the dummy for what it is.
    let provider = format!("{}/v1", upstream.url());
    let refused = Script::start(&python, "openai_client.py", &["whole", &provider]).rest();
    assert!(refused.starts_with("401 ") && refused.contains("invalid_api_key"), "{refused}");
}

#[test]
fn websocket_client_is_served_through_the_agent() {
    let Some(python) = python() else { return };
    let mut script = Script::start(&python, "websockets_echo.py", &[]);
    let port = script.line();
    let way = way(&format!("http://127.0.0.1:{port}"));
    script.tell(&format!("{}/chat", way.agent_url.replace("http://", "ws://")));
    assert_eq!(script.line(), format!("hello Bearer {KEY}"));
    for expected in ["str 4 True", "str 1000000 True", "bytes 1000000 True"] {
        assert_eq!(script.line(), expected);
    }
    assert_eq!(script.rest(), "");
}
