//! What the tests of the command line stand on: a home of their own, the real binary, and a server that verifies.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use sigilum::clock::Clock;
use sigilum::protocol::{BodyHash, Freshness, Message, Uncached, verify};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

pub(crate) const FRESHNESS: Freshness =
    Freshness { created_tolerance: Duration::from_secs(300), future_skew: Duration::from_secs(30) };

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A directory that no other test knows, and commands that live in it.
pub(crate) struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    /// Without any identity.
    pub(crate) fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// With the identity `alice`.
    pub(crate) fn with_identity() -> Self {
        let stage = Self::empty();
        let ended = stage.run(&["init", "alice"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// A file with these bytes.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The binary, with nothing of this process's environment that could sway it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sigilum"));
        command.args(args).env_clear().env("SIGILUM_HOME", self.home()).current_dir(self.directory.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_with_input(args, b"")
    }

    /// Standard input is a file, so that a command which leaves it unread breaks no pipe.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        let mut stdin: File = tempfile::tempfile().unwrap();
        stdin.write_all(input).unwrap();
        stdin.rewind().unwrap();
        end(self.command(args).stdin(stdin))
    }
}

pub(crate) fn end(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that is ended with the test.
pub(crate) struct Running {
    pub(crate) child: Child,
    /// Its output behind the first line.
    pub(crate) out: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it, and reads its output up to and with the first line.
    pub(crate) fn start(command: &mut Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut fault = String::new();
            child.stderr.take().unwrap().read_to_string(&mut fault).unwrap();
            panic!("it printed nothing, but: {fault}");
        }
        (Self { child, out }, line)
    }

    pub(crate) fn terminate(&self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
    /// Namespace, subject and agent's name of a signature that holds, the body's digest with it; else why not.
    pub(crate) signer: Result<(String, String, Option<String>), String>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server in the gateway's place: it verifies what comes, keeps it, and answers by the path.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    go_on: GoOn,
}

struct GoOn(Semaphore);

impl Default for GoOn {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, _runtime: runtime }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Lets `/stream` send its next part.
    pub(crate) fn go_on(&self) {
        self.shared.go_on.0.add_permits(1);
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("no request came")
    }
}

async fn answer(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 * 1024 * 1024).await.unwrap();
    let host = head.headers.get("host").map_or("", |host| host.to_str().unwrap());
    let target = head.uri.path_and_query().unwrap().as_str().to_owned();
    let seen = Seen {
        method: head.method.to_string(),
        signer: signer(head.method.as_str(), &format!("http://{host}{target}"), &head.headers, &body),
        target,
        headers: head.headers,
        body,
    };
    shared.seen.lock().unwrap().push(seen.clone());
    match head.uri.path() {
        "/stream" => stream(shared),
        "/redirect" => (http::StatusCode::FOUND, [("location", "/elsewhere")], "moved").into_response(),
        "/silent" => std::future::pending().await,
        "/ws" => websocket(upgrade),
        path => match path.strip_prefix("/status/") {
            Some(code) => {
                (code.parse::<http::StatusCode>().unwrap(), format!("status {code}")).into_response()
            }
            None => ([("x-answer", "yes"), ("keep-alive", "timeout=9")], seen.body).into_response(),
        },
    }
}

/// A part at once, and each further one only when the test says so: no test of streaming needs a clock.
fn stream(shared: Arc<Shared>) -> Response {
    let parts = futures::stream::unfold(0, move |number| {
        let shared = Arc::clone(&shared);
        async move {
            match number {
                0 => {}
                1 => shared.go_on.0.acquire().await.unwrap().forget(),
                _ => return None,
            }
            Some((Ok::<_, std::convert::Infallible>(format!("part {number}\n")), number + 1))
        }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(parts)).into_response()
}

/// Agrees, and sends back every byte.
fn websocket(upgrade: hyper::upgrade::OnUpgrade) -> Response {
    tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    });
    let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "fine")];
    (http::StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Who signed, where rows 1 to 9 and the body's digest hold.
pub(crate) fn signer(
    method: &str,
    target_uri: &str,
    headers: &http::HeaderMap,
    body: &[u8],
) -> Result<(String, String, Option<String>), String> {
    let message = Message { method, target_uri, headers, has_body: !body.is_empty() };
    let verified = verify(&message, FRESHNESS, Clock::system().now(), &Uncached)
        .map_err(|refusal| format!("{} {:?}: {refusal}", refusal.code(), refusal.reason()))?;
    let mut hash = BodyHash::default();
    hash.update(body);
    match verified.content_digest() {
        Some(digest) if !digest.matches(&hash) => Err("the digest is not the body's".into()),
        None if !body.is_empty() => Err("a body without a digest".into()),
        _ => Ok((
            verified.agent().namespace.to_string(),
            verified.subject().to_owned(),
            verified.agent_id().map(str::to_owned),
        )),
    }
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
