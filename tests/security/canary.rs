//! A recognizable secret in every way of injection, and every kind of answer, refusal and fault: no form of it is ever
//! in what a client gets, in the log or in the metrics.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;

use crate::support::agent::{Agent, Signed};
use crate::support::certs::Authority;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::upstream::{Recorded, Reply, Upstream};
use crate::support::upstream_h2::{H2Reply, H2Upstream};

const MODES: [&str; 4] = ["bearer", "header-key", "query-param", "basic"];

/// With all that could be changed on its way: what is encoded in a URL, and what differs between the alphabets of base64.
fn secret(mode: &str) -> String {
    format!("cAnArY-{mode}/7f+Zq~s3 cr&t=>>>???\"%")
}

/// Every form in which the secret could be shown, in lower case where case does not matter.
fn forms(secret: &str) -> Vec<(String, bool)> {
    let encoded = |keep: fn(u8) -> bool| -> String {
        let plain = |b: u8| if keep(b) { char::from(b).to_string() } else { format!("%{b:02x}") };
        secret.bytes().map(plain).collect()
    };
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::to_string(secret).unwrap();
    let mut forms = vec![
        (secret.to_owned(), true),
        (format!("{secret:?}").trim_matches('"').to_owned(), true),
        (json.trim_matches('"').to_owned(), true),
        (encoded(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)), false),
        (encoded(|b| b.is_ascii_alphanumeric()), false),
        (encoded(|b| b.is_ascii_graphic() && !b"\"%<>".contains(&b)), false),
        (form, false),
        (hex, false),
        // A part of it shows nearly as much.
        (secret[..20].to_owned(), true),
        (secret[secret.len() - 20..].to_owned(), true),
    ];
    for alphabet in [STANDARD, URL_SAFE] {
        for before in 0..3 {
            // What stands before it in the encoded text changes its first characters, what follows its last.
            let text = alphabet.encode([&vec![0; before], secret.as_bytes()].concat());
            let first = (8 * before).div_ceil(6);
            let last = 8 * (before + secret.len()) / 6;
            forms.push((text[first..last].to_owned(), true));
        }
    }
    forms
}

fn assert_absent(place: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let lower = text.to_lowercase();
    for mode in MODES {
        for (form, exact) in forms(&secret(mode)) {
            let found = if exact { text.contains(&form) } else { lower.contains(&form.to_lowercase()) };
            assert!(!found, "{place} shows the secret of {mode} as {form:?}:\n{text}");
        }
    }
}

#[test]
fn search_finds_every_form() {
    let whole = secret("bearer");
    for text in [
        format!("Basic {}", STANDARD.encode(format!("user:{whole}"))),
        URL_SAFE.encode(format!("u:{whole}tail")),
        format!("?k={}", forms(&whole)[3].0),
        forms(&whole)[7].0.to_uppercase(),
        format!("x{whole}y"),
    ] {
        let found = std::panic::catch_unwind(|| assert_absent("a text", text.as_bytes()));
        assert!(found.is_err(), "{text} was not found");
    }
    assert_absent("nothing", b"cAnArY");
}

/// An upstream that sends back what it got, in its head alone, in many ways.
fn mirror(request: &Recorded) -> Reply {
    let values: Vec<&str> = request.headers.iter().map(|(_, value)| value.as_str()).collect();
    let (target, all) = (request.target.as_str(), values.join(" | "));
    let raw = |text: String| Reply::Raw(text.into_bytes());
    match target.split('?').next().unwrap_or_default() {
        "/headers" => {
            let mut reply = Reply::ok("").with("x-target", target).with("x-all", &all);
            for (number, value) in values.iter().enumerate() {
                reply = reply.with(&format!("x-{number}"), value).with("set-cookie", value);
            }
            reply.with("x-again", &format!("{all}{all}{target}{target}"))
        }
        "/redirect" => Reply::redirect(&format!("http://elsewhere.example{target}&then={all}")),
        "/refresh" => Reply::status(401, "no").with("www-authenticate", &all).with("link", target),
        "/failed" => Reply::status(500, "failed").with("x-why", &all),
        "/early" => raw(format!(
            "HTTP/1.1 103 Early Hints\r\nlink: <{target}>; rel={all}\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        )),
        "/reason" => raw(format!("HTTP/1.1 200 {all} {target}\r\ncontent-length: 0\r\n\r\n")),
        "/trailers" => raw(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-all\r\n\r\n2\r\nok\r\n0\r\nx-all: {all}\r\nx-target: {target}\r\n\r\n"
        )),
        "/nonsense" => raw(format!("{all} {target}\r\n\r\n")),
        "/broken-field" => raw(format!("HTTP/1.1 200 OK\r\n{all} {target}\r\ncontent-length: 0\r\n\r\n")),
        "/broken-status" => raw(format!("HTTP/1.1 {all}\r\ncontent-length: 0\r\n\r\n")),
        "/broken-length" => raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {all}\r\n\r\n")),
        "/switch" => raw(format!("HTTP/1.1 101 {all}\r\nupgrade: {all}\r\nconnection: upgrade\r\n\r\n")),
        "/large" => raw(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", all.repeat(5_000))),
        "/cut" => Reply::Cut { promised: 10, sent: b"half".to_vec() },
        "/hang" => Reply::Hang,
        "/unanswered" => Reply::Unanswered,
        _ => Reply::ok("fine"),
    }
}

const PATHS: [&str; 18] = [
    "/",
    "/headers",
    "/redirect",
    "/refresh",
    "/failed",
    "/early",
    "/reason",
    "/trailers",
    "/nonsense",
    "/broken-field",
    "/broken-status",
    "/broken-length",
    "/switch",
    "/large",
    "/cut",
    "/hang",
    "/unanswered",
    "/fine?api_key=mine",
];

fn provider(mode: &str, suffix: &str, base_url: &str) -> serde_json::Value {
    let reference = format!("env:CANARY_{}", mode.to_uppercase().replace('-', "_"));
    let mut auth = json!({ "mode": mode.replace('-', "_"), "secret": reference });
    match mode {
        "header-key" => auth["header"] = json!("X-Api-Key"),
        "query-param" => auth["param"] = json!("api_key"),
        "basic" => auth["user"] = json!("user"),
        _ => {}
    }
    json!({
        "id": format!("{mode}{suffix}"), "base_url": base_url, "auth": auth,
        "timeouts": { "connect": "1s", "read": "300ms" },
    })
}

struct Canary {
    upstream: Upstream,
    agent: Agent,
    gateway: Gateway,
}

impl Canary {
    fn start() -> Self {
        let (upstream, agent) = (Upstream::start(mirror), Agent::new("alice"));
        let mut setup = Setup::new()
            .set("telemetry.log.level", "trace")
            .set("limits.body.max", "1KiB")
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        // Nothing listens behind the first; the second speaks no TLS.
        let bases = [
            ("", upstream.url()),
            ("-gone", "http://127.0.0.1:1".to_owned()),
            ("-tls", upstream.url().replace("http:", "https:")),
        ];
        let mut services = Vec::new();
        for mode in MODES {
            setup = setup.env(&format!("CANARY_{}", mode.to_uppercase().replace('-', "_")), &secret(mode));
            for (suffix, base) in &bases {
                setup = setup.provider(provider(mode, suffix, base));
                services.push(format!("{mode}{suffix}"));
            }
            let mut closed = provider(mode, "-disabled", &upstream.url());
            closed["status"] = json!("disabled");
            setup = setup.provider(closed).provider(provider(mode, "-unclaimed", &upstream.url()));
            services.push(format!("{mode}-disabled"));
        }
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        let mut claim = agent.claim(&services);
        claim["scopes"] = json!(["GET /**", "POST /**"]);
        Self { gateway: setup.claim_entry(claim).start(), upstream, agent }
    }

    /// Sends this and gives every byte of the answer.
    fn bytes(&self, request: &[u8]) -> Vec<u8> {
        let mut client = self.gateway.connect();
        client.send(request);
        client.rest()
    }

    fn get(&self, target: &str) -> Signed {
        self.agent.get(self.gateway.url(), target).also("connection", "close")
    }

    /// Every refusal that has to do with a connection.
    fn refused(&self, mode: &str) -> Vec<Vec<u8>> {
        let (url, target) = (self.gateway.url(), format!("/proxy/{mode}/refused"));
        let last = |signed: Signed| signed.also("connection", "close").to_bytes();
        let get = || self.get(&target);
        let replayed = get().to_bytes();
        vec![
            get().without("signature").to_bytes(),
            get().replace("signature", &self.agent.signature_over(b"other")).to_bytes(),
            last(self.agent.request("GET", url, &target).created_in(-1000).sign()),
            last(self.agent.request("DELETE", url, &target).sign()),
            last(Agent::new("eve").get(url, &target)),
            self.get(&format!("/proxy/{mode}-unclaimed/")).to_bytes(),
            self.get(&format!("/proxy/{mode}-disabled/")).to_bytes(),
            self.get(&format!("/proxy/{mode}-unknown/")).to_bytes(),
            self.get(&format!("/proxy/{mode}/%2e%2e/x")).to_bytes(),
            last(self.agent.request("TRACE", url, &target).sign()),
            last(self.agent.post(url, &target, "abc").body_swapped("abd")),
            last(self.agent.post(url, &target, &"a".repeat(2_000))),
            get().also("transfer-encoding", "gzip").to_bytes(),
            replayed.clone(),
            replayed,
        ]
    }
}

#[test]
fn secret_is_nowhere_but_at_the_upstream() {
    let canary = Canary::start();
    let h2 = H2Client::connect(canary.gateway.address());
    for mode in MODES {
        for path in PATHS {
            let target = format!("/proxy/{mode}{path}");
            assert_absent(&format!("the answer to {target}"), &canary.bytes(&canary.get(&target).to_bytes()));
            let signed = canary.agent.get(canary.gateway.url(), &target);
            if let Ok(answer) = h2.request(signed.to_h2(), None) {
                let text = format!("{:?} {}", answer.headers, answer.text());
                assert_absent(&format!("the HTTP/2 answer to {target}"), text.as_bytes());
            }
        }
        for suffix in ["-gone", "-tls"] {
            let target = format!("/proxy/{mode}{suffix}/");
            let answer = canary.bytes(&canary.get(&target).to_bytes());
            assert!(answer.starts_with(b"HTTP/1.1 50"), "{}", String::from_utf8_lossy(&answer));
            assert_absent(&format!("the answer to {target}"), &answer);
        }
        for (number, request) in canary.refused(mode).iter().enumerate() {
            let answer = canary.bytes(request);
            assert!(!answer.is_empty(), "refusal {number}");
            assert_absent(&format!("refusal {number}"), &answer);
        }
    }
    let received = String::from_utf8_lossy(&canary.upstream.received()).into_owned();
    assert!(received.contains(&secret("bearer")) && received.contains(&secret("header-key")));
    assert!(received.contains(&STANDARD.encode(format!("user:{}", secret("basic")))));
    assert!(received.contains("api_key=cAnArY-query-param%2F7f%2BZq~s3%20cr%26t%3D%3E%3E%3E%3F%3F%3F%22%25"));

    assert_absent("the metrics", &canary.gateway.admin_get("/metrics").body);
    assert_absent("the admin listener", &canary.gateway.admin_get("/api/admin/connections").body);
    // One request is under way when the gateway is told to stop.
    let mut last = canary.gateway.connect();
    last.send(canary.get("/proxy/bearer/hang").to_bytes());
    let (_, output) = canary.gateway.stop();
    assert!(output.contains("UPSTREAM_TIMEOUT") && output.contains("AUTH_REPLAY_DETECTED"), "{output}");
    assert!(!output.contains("panicked"), "{output}");
    assert_absent("the output", output.as_bytes());
}

#[test]
fn trailers_do_not_carry_the_secret_back() {
    let authority = Authority::new();
    let server = authority.server_config(&authority.server("server", &["localhost"]), false, &["h2"]);
    let upstream = H2Upstream::start(server, |request| {
        let got = request.headers.iter().find(|(name, _)| name == "authorization");
        let value = got.map_or("none", |(_, value)| value).to_owned();
        H2Reply::Trailed {
            body: b"fine".to_vec(),
            trailers: vec![("x-got".into(), value), ("x-end".into(), "1".into())],
        }
    });
    let agent = Agent::new("alice");
    let mut provider = provider("bearer", "", &upstream.url_by_name());
    provider["tls"] = json!({ "ca": authority.ca_file() });
    let gateway = Setup::new()
        .provider(provider)
        .env("CANARY_BEARER", &secret("bearer"))
        .claim(&agent, &["bearer"])
        .start();
    let answer = H2Client::connect(gateway.address())
        .request(agent.get(gateway.url(), "/proxy/bearer/").to_h2(), None);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-end")), (200, "fine", Some("1")));
    assert_eq!(answer.header("x-got"), Some("Bearer [redacted]"));
}

#[test]
fn literal_secret_in_a_configuration_is_refused_and_not_repeated() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("gateway.yaml");
    let text = serde_json::to_string(&secret("bearer")).unwrap();
    let auth = |inside: &str| {
        format!("providers:\n  - id: one\n    base_url: http://127.0.0.1:9\n    auth: {{ {inside} }}\n")
    };
    for yaml in [
        auth(&format!("mode: bearer, secret: {text}")),
        auth(&format!("mode: bearer, secret: [{text}]")),
        auth(&format!("mode: bearer, secret: {{ value: {text} }}")),
        auth(&format!("mode: bearer, token: {text}")),
        auth(&format!("mode: basic, user: \"user:{}\"", &text[1..text.len() - 1])),
        auth(&format!("mode: bearer, secret: env:A, prefix: {text}\n      {text}")),
        format!("providers: []\nadmin: {{ token: {text} }}\n"),
        format!("providers: []\ncontrol_plane: {{ url: \"https://x\", service_api_key: {text} }}\n"),
    ] {
        std::fs::write(&file, &yaml).unwrap();
        for arguments in
            [&["config", "check"][..], &["config", "check", "--json"], &["gateway", "start", "--config"]]
        {
            let output = Command::new(env!("CARGO_BIN_EXE_sigilum"))
                .args(arguments)
                .arg(&file)
                .env_clear()
                .env("HOME", directory.path())
                .env("RUST_LOG", "trace")
                .output()
                .unwrap();
            assert!(!output.status.success(), "{yaml} was taken");
            assert_absent(&format!("{arguments:?}"), &[output.stdout, output.stderr].concat());
        }
    }
}
