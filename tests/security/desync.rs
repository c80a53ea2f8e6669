//! The corpus of the crate `http_desync_guardian`: 159 requests that front and back could read differently. Each is
//! signed by an approved agent as the gateway would understand it and followed by a canary. What the upstream receives
//! must read strictly as just those requests that the gateway says it allowed.

use std::path::{Path, PathBuf};
use std::process::Command;

use saphyr_parser::{Event, Parser};

use super::stage::{SECRET, Stage};
use super::strict::Request;
use crate::support::raw::RawClient;

/// A case as the corpus has it.
#[derive(Debug, Default)]
struct Case {
    name: String,
    method: String,
    uri: String,
    version: String,
    headers: Vec<(String, String)>,
}

/// The corpus's files, where Cargo keeps the crate's source.
fn corpus() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let compiler = Command::new("rustc").arg("-vV").output().unwrap();
    let host = String::from_utf8(compiler.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // For this platform alone: other platforms' crates need not be there, and nothing is fetched.
    let metadata = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let guardian = packages.iter().find(|package| package["name"] == "http_desync_guardian").unwrap();
    Path::new(guardian["manifest_path"].as_str().unwrap()).parent().unwrap().join("tests")
}

fn cases() -> Vec<Case> {
    let files = std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    files.iter().flat_map(|file| parsed(&std::fs::read_to_string(file).unwrap())).collect()
}

/// A list of maps, with `headers` a list of maps within. What else there is (`expected`) is passed over.
fn parsed(yaml: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let (mut depth, mut path) = (0, Vec::<Option<String>>::new());
    for event in Parser::new_from_str(yaml) {
        match event.unwrap().0 {
            Event::MappingStart(..) => {
                depth += 1;
                path.push(None);
                match (depth, in_headers(&path)) {
                    (1, _) => cases.push(Case::default()),
                    (2, true) => cases.last_mut().unwrap().headers.push(Default::default()),
                    _ => {}
                }
            }
            Event::MappingEnd => {
                depth -= 1;
                path.pop();
                // The next of the headers stands under the same key.
                if !in_headers(&path) {
                    path.last_mut().map(Option::take);
                }
            }
            // The key that a list stands under has had its value.
            Event::SequenceEnd => {
                path.last_mut().map(Option::take);
            }
            Event::Scalar(text, ..) => scalar(&mut cases, &mut path, &text),
            _ => {}
        }
    }
    cases
}

fn in_headers(path: &[Option<String>]) -> bool {
    path.first().is_some_and(|key| key.as_deref() == Some("headers"))
}

/// A key, or the value of the key before it; within a list of words neither.
fn scalar(cases: &mut [Case], path: &mut [Option<String>], text: &str) {
    let (depth, of_header) = (path.len(), in_headers(path));
    let (Some(key), Some(case)) = (path.last_mut(), cases.last_mut()) else { return };
    let Some(name) = key.take() else {
        *key = Some(text.to_owned());
        return;
    };
    let place = match (depth, of_header, name.as_str()) {
        (1, _, "name") => &mut case.name,
        (1, _, "method") => &mut case.method,
        (1, _, "uri") => &mut case.uri,
        (1, _, "version") => &mut case.version,
        (2, true, "name") => &mut case.headers.last_mut().unwrap().0,
        (2, true, "value") => &mut case.headers.last_mut().unwrap().1,
        // A word of a list under this key: the key still stands.
        _ if name == "required_message_items" => {
            *key = Some(name);
            return;
        }
        _ => return,
    };
    text.clone_into(place);
}

/// What is sent behind the head, and what is signed for it.
#[derive(Debug, Clone, Copy)]
enum Body {
    /// Nothing: the canary follows at once.
    None,
    /// As many bytes as the first Content-Length says that can be read.
    Counted,
    /// An empty body in chunks.
    EmptyChunks,
    /// A body in chunks that looks like a request.
    Chunks,
}

const INNER: &str = "GET /proxy/echo/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

impl Case {
    /// The number in the first header that a lenient reader would take for Content-Length.
    fn counted(&self) -> Option<usize> {
        let named = |name: &str| name.to_lowercase().replace('_', "-").contains("content-length");
        let digits = |value: &str| value.chars().filter(char::is_ascii_digit).collect::<String>();
        let (_, value) = self.headers.iter().find(|(name, _)| named(name))?;
        digits(value).parse().ok().filter(|length| *length <= 20_000)
    }

    fn target(&self) -> String {
        if self.uri.starts_with('/') || self.uri.is_empty() {
            format!("/proxy/echo{}", self.uri)
        } else {
            self.uri.clone()
        }
    }

    /// The head, signed, and the body.
    fn bytes(&self, stage: &Stage, body: Body) -> Vec<u8> {
        let (content, wire) = match body {
            Body::None => (None, Vec::new()),
            Body::Counted => {
                let content = vec![b'x'; self.counted().unwrap_or(0)];
                (Some(content.clone()), content)
            }
            Body::EmptyChunks => (Some(Vec::new()), b"0\r\n\r\n".to_vec()),
            Body::Chunks => {
                let wire = format!("{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len());
                (Some(INNER.as_bytes().to_vec()), wire.into_bytes())
            }
        };
        let (target, url) = (self.target(), stage.gateway.url());
        // What cannot be signed as it stands cannot be sent by an agent either; it is sent with another's signature.
        let signable = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let signed = stage.agent.request(
            if self.method.bytes().all(|b| b.is_ascii_uppercase()) { &self.method } else { "GET" },
            url,
            if signable { &target } else { "/proxy/echo/other" },
        );
        let signed = match &content {
            Some(content) => signed.body(content).sign(),
            None => signed.sign(),
        };
        let space = if self.version.is_empty() { "" } else { " " };
        let mut head = format!("{} {target}{space}{}\r\n", self.method, self.version).into_bytes();
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.extend_from_slice(format!("Host: {}\r\n", stage.authority()).as_bytes());
        }
        for (name, value) in signed.headers.iter().chain(&self.headers) {
            head.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
        }
        [head, b"\r\n".to_vec(), wire].concat()
    }

    /// Whether the gateway waits for more body than comes.
    fn waits(&self, sent: usize) -> bool {
        let plain = |(name, value): &(String, String)| {
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok()).flatten()
        };
        self.headers.iter().find_map(plain).is_some_and(|length| length > sent as u64)
    }
}

/// Sends a case and its canary, and reads every answer until the connection ends.
fn statuses(client: &mut RawClient, case: &Case, bytes: &[u8], canary: &[u8]) -> Vec<u16> {
    client.send([bytes, canary].concat());
    let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| bytes.len() - at - 4);
    if case.waits(body + canary.len()) {
        client.finish_sending();
    }
    let mut statuses = Vec::new();
    let mut method = case.method.as_str();
    while let Some(head) = client.head() {
        statuses.push(head.status);
        let length: usize = head.header("content-length").map_or(0, |length| length.parse().unwrap());
        if method != "HEAD" || head.header("connection") == Some("close") {
            client.exactly(length);
        }
        method = "GET";
    }
    statuses
}

#[test]
fn corpus_reaches_the_upstream_in_one_reading_or_not_at_all() {
    let stage = Stage::new();
    let cases = cases();
    let headers: usize = cases.iter().map(|case| case.headers.len()).sum();
    assert_eq!((cases.len(), headers), (159, 503));
    let mut answered = 0;
    for (number, case) in cases.iter().enumerate() {
        assert!(!case.method.is_empty() && !case.name.is_empty(), "{case:?}");
        for body in [Body::None, Body::Counted, Body::EmptyChunks, Body::Chunks] {
            let canary = stage.last(&format!("/canary-{number}")).to_bytes();
            let bytes = case.bytes(&stage, body);
            let statuses = statuses(&mut stage.connect(), case, &bytes, &canary);
            assert!(
                statuses.iter().all(|status| *status == 200 || status / 100 == 4),
                "{statuses:?} for {body:?} of {case:?}"
            );
            answered += statuses.iter().filter(|status| **status == 200).count();
        }
    }
    stage.assert_sound();
    let forwarded = stage.assert_only_allowed_was_forwarded();
    // And the request of `assert_sound`.
    assert_eq!(forwarded.len(), answered + 1);
    assert!(answered > 60, "only {answered} passed: the signatures no longer fit the cases");
    forwarded.iter().for_each(|request| assert_clean(&stage, request));
}

/// The upstream's own host, the secret once, and nothing of the agent's.
fn assert_clean(stage: &Stage, request: &Request) {
    assert_eq!(request.all("host"), [stage.upstream.address().to_string()], "{request:?}");
    assert_eq!(request.all("authorization"), [format!("Bearer {SECRET}")], "{request:?}");
    assert!(!request.target.contains("smuggled"), "{request:?}");
    for (name, _) in &request.headers {
        let plain = name.replace('_', "-");
        assert!(!plain.starts_with("sigilum-") && !plain.starts_with("signature"), "{request:?}");
        assert!(plain != "content-digest", "{request:?}");
    }
}
