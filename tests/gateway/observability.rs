//! What metrics and the decision log say of each outcome, and what they never say.

use serde_json::{Value, json};

use super::scene::{CONNECTION, SECRET, Scene};
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::{RawClient, Response};
use crate::support::upstream::{Reply, Upstream};

const TARGET: &str = "/proxy/openai/v1/chat?key=canary-query";
const CANARIES: [&str; 9] = [
    "canary-query",
    "canary-path",
    "canary-subject",
    "canary-planner",
    "canary-header",
    "canary-body",
    "canary-id",
    "canary-unknown",
    "canary-ns",
];

/// All series and their values now.
fn series(gateway: &Gateway) -> Vec<(String, f64)> {
    gateway
        .admin_get("/metrics")
        .text()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// The series whose values went up, by how much; without the histograms' buckets and sums, and without gauges.
fn moved(before: &[(String, f64)], after: &[(String, f64)]) -> Vec<(String, f64)> {
    let plain = |name: &str| {
        let name = name.strip_prefix("sigilum_gateway_").unwrap_or(name);
        (name.contains("_total") || name.ends_with("_count")).then(|| name.to_owned())
    };
    after
        .iter()
        .zip(before)
        .filter(|((_, now), (_, then))| now > then)
        .filter_map(|((name, now), (_, then))| plain(name).map(|name| (name, now - then)))
        .collect()
}

/// Does something once, waits for its decision, and gives what moved.
fn moved_by(gateway: &Gateway, act: impl FnOnce() -> Response) -> Vec<(String, f64)> {
    let (before, decided) = (series(gateway), gateway.decisions().len());
    let _ = act();
    gateway.wait_for_decisions(decided + 1);
    moved(&before, &series(gateway))
}

fn ones(names: &[&str]) -> Vec<(String, f64)> {
    let mut names: Vec<_> = names.iter().map(|name| ((*name).to_owned(), 1.0)).collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    names
}

fn sorted(mut moved: Vec<(String, f64)>) -> Vec<(String, f64)> {
    moved.sort_by(|a, b| a.0.cmp(&b.0));
    moved
}

const ALLOWED: &str = r#"requests_total{outcome="allowed",protocol="http"}"#;
const REJECTED: &str = r#"requests_total{outcome="rejected",protocol="http"}"#;
const ERROR: &str = r#"requests_total{outcome="error",protocol="http"}"#;
const SUCCESS: &str = r#"upstream_requests_total{outcome="success",protocol="http"}"#;
const FAILURE: &str = r#"upstream_requests_total{outcome="failure",protocol="http"}"#;

#[test]
fn each_answer_of_an_upstream_moves_its_series() {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/404" => Reply::status(404, ""),
        "/503" => Reply::status(503, ""),
        "/reset" => Reply::Unanswered,
        "/nonsense" => Reply::Raw(b"this is no HTTP\r\n\r\n".to_vec()),
        _ => Reply::ok("fine"),
    });
    let scene = Scene::before(upstream, |setup, url| setup.bearer(CONNECTION, url, SECRET));
    let post = |rest: &str| {
        let target = format!("/proxy/openai{rest}");
        moved_by(&scene.gateway, || scene.gateway.send(&scene.agent.post(scene.gateway.url(), &target, "{}")))
    };
    let timed = ["overhead_seconds_count", "upstream_latency_seconds_count"];
    for (rest, series) in [
        ("/200", [ALLOWED, SUCCESS, timed[0], timed[1]]),
        ("/404", [ALLOWED, SUCCESS, timed[0], timed[1]]),
        ("/503", [ALLOWED, FAILURE, timed[0], timed[1]]),
    ] {
        assert_eq!(sorted(post(rest)), ones(&series), "{rest}");
    }
    for (rest, class) in [("/reset", "reset"), ("/nonsense", "protocol")] {
        let error = format!("upstream_error_total{{class=\"{class}\"}}");
        assert_eq!(sorted(post(rest)), ones(&[ERROR, FAILURE, &error, timed[0], timed[1]]), "{rest}");
    }
}

#[test]
fn unreachable_and_silent_upstreams_are_told_apart() {
    let (silent, agent) = (Upstream::answering(Reply::Hang), Agent::new("alice"));
    let nobody = crate::control::server::Nobody::there().url().to_string();
    let gateway = Setup::new()
        .bearer("nobody", &nobody, "s")
        .provider(json!({
            "id": "silent", "base_url": silent.url(), "auth": { "mode": "none" }, "timeouts": { "read": "100ms" },
        }))
        .claim(&agent, &["nobody", "silent"])
        .start();
    for (id, status, code, class) in
        [("nobody", 502, "UPSTREAM_ERROR", "connect"), ("silent", 504, "UPSTREAM_TIMEOUT", "timeout")]
    {
        let mut told = None;
        let by = moved_by(&gateway, || {
            let response = gateway.send(&agent.post(gateway.url(), &format!("/proxy/{id}/"), "{}"));
            told = Some((response.status, response.code()));
            response
        });
        assert_eq!(told, Some((status, code.to_owned())), "{id}");
        let error = format!("upstream_error_total{{class=\"{class}\"}}");
        for series in [ERROR, FAILURE, &error] {
            assert!(by.contains(&(series.to_owned(), 1.0)), "{id}: {series} is not in {by:?}");
        }
    }
}

#[test]
fn each_refusal_moves_its_reason() {
    let scene = Scene::start();
    let stranger = Agent::new("mallory");
    let good = scene.draft(TARGET).sign();
    assert_eq!(scene.gateway.send(&good).status, 200);
    scene.gateway.wait_for_decisions(1);
    let cases = [
        ("AUTH_HEADERS_INVALID", scene.draft(TARGET).sign().also("signature", "x")),
        ("SIG_MISSING_SIGNATURE_HEADERS", scene.draft(TARGET).sign().without("signature")),
        ("SIG_TIMESTAMP_OUT_OF_RANGE", scene.draft(TARGET).created_in(-400).sign()),
        ("SIG_CERT_HEADER_MISSING", scene.draft(TARGET).sign().without("sigilum-agent-cert")),
        ("SIG_VERIFICATION_FAILED", scene.draft(TARGET).sign().method_swapped("PUT")),
        ("AUTH_CLAIM_REQUIRED", stranger.get(scene.gateway.url(), TARGET)),
        (
            "SIG_CONTENT_DIGEST_MISMATCH",
            scene.agent.post(scene.gateway.url(), TARGET, "{}").body_swapped("[]"),
        ),
    ];
    for (reason, request) in &cases {
        let by = moved_by(&scene.gateway, || scene.gateway.send(request));
        let rejected = format!("auth_reject_total{{reason=\"{reason}\"}}");
        assert_eq!(sorted(by), ones(&[REJECTED, &rejected]), "{reason}");
    }
    let by = moved_by(&scene.gateway, || scene.gateway.send(&good));
    let replay = "auth_reject_total{reason=\"AUTH_REPLAY_DETECTED\"}";
    assert_eq!(sorted(by), ones(&[REJECTED, replay, "replay_detected_total"]));
    for target in ["/proxy/openai/..", "/nothing", "/proxy/canary-unknown/"] {
        let by = moved_by(&scene.gateway, || scene.gateway.send(&scene.draft(target).sign()));
        assert_eq!(by, ones(&[REJECTED]), "{target}");
    }
    let broken = moved_by(&scene.gateway, || {
        let mut client = scene.gateway.connect();
        client.send("GET / HTTP/1.1\r\nhost: a b\r\n\r\n");
        client.response()
    });
    assert_eq!(broken, ones(&[REJECTED]));
}

#[test]
fn health_and_metrics_are_no_requests() {
    let gateway = Setup::new().start();
    let before = series(&gateway);
    for path in ["/health", "/metrics"] {
        let mut client = gateway.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"));
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(moved(&before, &series(&gateway)), []);
    assert_eq!(gateway.decisions(), Vec::<Value>::new());
}

#[test]
fn gauges_show_claims_and_requests_in_flight() {
    let (hand, reply) = Reply::streamed("text/plain");
    let scene = Scene::answering(reply, |setup| setup);
    scene.gateway.wait_for_metric("sigilum_gateway_claims_entries", 1.0);
    assert_eq!(scene.gateway.metric("sigilum_gateway_requests_in_flight"), Some(0.0));
    let mut client = scene.gateway.connect();
    client.send(scene.draft(TARGET).sign().to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    scene.gateway.wait_for_metric("sigilum_gateway_requests_in_flight", 1.0);
    hand.finish();
    assert_eq!(client.chunk(), Some(Vec::new()));
    scene.gateway.wait_for_metric("sigilum_gateway_requests_in_flight", 0.0);
}

/// Everything that a client can choose, chosen as a canary, in requests of each outcome.
fn chosen_by_the_client(scene: &Scene) {
    let draft = || {
        scene
            .agent
            .request("POST", scene.gateway.url(), "/proxy/openai/canary-path?key=canary-query")
            .body("canary-body")
            .subject("canary-subject")
            .agent_id("canary-planner")
            .header("x-anything", "canary-header")
            .header("user-agent", "canary-header")
            .header("x-request-id", "canary-id-0001")
    };
    assert_eq!(scene.gateway.send(&draft().sign()).status, 200);
    assert_eq!(scene.gateway.send(&draft().sign().method_swapped("CANARY-HEADER")).status, 403);
    assert_eq!(scene.gateway.send(&draft().sign().without("signature")).status, 403);
    let stranger = Agent::new("canary-ns");
    assert_eq!(scene.gateway.send(&stranger.get(scene.gateway.url(), TARGET)).status, 403);
    for target in ["/proxy/canary-unknown/x", "/canary-path", "/proxy/openai/canary-path/.."] {
        assert!(scene.gateway.send(&scene.draft(target).sign()).status >= 400);
    }
    let mut client = RawClient::connect(scene.gateway.address());
    client.send("GET /canary-path HTTP/1.1\r\nhost: x\r\ncanary-header\r\n\r\n");
    assert_eq!(client.response().status, 400);
}

#[test]
fn no_label_holds_what_a_client_chose_and_no_request_makes_a_series() {
    let scene = Scene::start();
    let names = |series: Vec<(String, f64)>| series.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let before = names(series(&scene.gateway));
    chosen_by_the_client(&scene);
    scene.gateway.wait_for_decisions(8);
    assert_eq!(names(series(&scene.gateway)), before);
    let text = scene.gateway.admin_get("/metrics").text();
    for chosen in CANARIES.iter().chain(&["alice", CONNECTION, SECRET, &scene.agent.public_key()]) {
        assert!(!text.contains(chosen), "{chosen} stands in the metrics");
    }
}

#[test]
fn log_holds_no_header_body_query_signature_certificate_or_secret() {
    let scene = Scene::start();
    chosen_by_the_client(&scene);
    scene.gateway.wait_for_decisions(8);
    let shown = scene.draft(TARGET).sign();
    assert_eq!(scene.gateway.send(&shown).status, 200);
    scene.gateway.wait_for_decisions(9);
    let output = scene.gateway.output();
    let allowed_there = ["canary-path", "canary-id", "canary-unknown"];
    for chosen in CANARIES.iter().filter(|canary| !allowed_there.contains(canary)) {
        assert!(!output.contains(chosen), "{chosen} stands in the log:\n{output}");
    }
    for header in ["signature", "signature-input", "sigilum-agent-cert", "sigilum-agent-key"] {
        assert!(!output.contains(shown.header(header)), "{header} stands in the log:\n{output}");
    }
    scene.gateway.assert_silent_about(SECRET);
    assert!(!output.contains("127.0.0.1\"") && output.contains("127.0.0.0/24"), "{output}");
}

#[test]
fn allowed_request_is_logged_with_its_facts() {
    let scene = Scene::answering(Reply::ok("12345"), |setup| setup.set("telemetry.log.identities", "plain"));
    let request = scene
        .agent
        .request("POST", scene.gateway.url(), TARGET)
        .body("1234567")
        .subject("user-17")
        .agent_id("planner")
        .header("x-request-id", "client-17")
        .sign();
    assert_eq!(scene.gateway.send(&request).status, 200);
    let decision = scene.gateway.wait_for_decision("client-17");
    for (field, value) in [
        ("level", json!("INFO")),
        ("decision", json!("allow")),
        ("connection", json!(CONNECTION)),
        ("principal", json!("did:sigilum:alice:openai#planner#user-17")),
        ("claim", json!("static-0-openai")),
        ("method", json!("POST")),
        ("path", json!("/v1/chat")),
        ("status", json!(200)),
        ("request_bytes", json!(7)),
        ("response_bytes", json!(5)),
        ("client", json!("127.0.0.0/24")),
    ] {
        assert_eq!(decision[field], value, "{field} of {decision}");
    }
    let (total, upstream) =
        (decision["duration_ms"].as_f64().unwrap(), decision["upstream_ms"].as_f64().unwrap());
    assert!(total >= upstream && upstream >= 0.0);
    for absent in ["code", "reason", "namespace", "subject", "agent"] {
        assert!(decision.get(absent).is_none(), "{absent} of {decision}");
    }
    assert!(decision["timestamp"].as_str().unwrap().parse::<sigilum::clock::UnixTime>().is_ok());
}

#[test]
fn refused_request_is_logged_with_its_code_and_what_was_proven_of_its_caller() {
    let scene = Scene::with(|setup| setup.set("telemetry.log.identities", "plain"));
    let stranger = Agent::new("mallory");
    let unproven = scene.draft(TARGET).header("x-request-id", "unproven-1").sign().method_swapped("PUT");
    let proven =
        stranger.request("GET", scene.gateway.url(), TARGET).header("x-request-id", "unclaimed-1").sign();
    for request in [unproven, proven] {
        assert_eq!(scene.gateway.send(&request).status, 403);
    }
    let unproven = scene.gateway.wait_for_decision("unproven-1");
    for (field, value) in [
        ("level", json!("WARN")),
        ("decision", json!("deny")),
        ("code", json!("AUTH_SIGNATURE_INVALID")),
        ("reason", json!("SIG_VERIFICATION_FAILED")),
        ("connection", json!(CONNECTION)),
        ("method", json!("PUT")),
        ("path", json!("/v1/chat")),
        ("status", json!(403)),
    ] {
        assert_eq!(unproven[field], value, "{field} of {unproven}");
    }
    assert!(unproven.get("principal").is_none() && unproven.get("upstream_ms").is_none(), "{unproven}");
    let proven = scene.gateway.wait_for_decision("unclaimed-1");
    assert_eq!(proven["code"], "AUTH_CLAIM_REQUIRED");
    assert_eq!(proven["principal"], "did:sigilum:mallory:openai##mallory");
    assert!(proven.get("reason").is_none() && proven.get("claim").is_none(), "{proven}");
}

#[test]
fn failed_request_is_logged_as_an_error() {
    let scene = Scene::answering(Reply::Unanswered, |setup| setup);
    let request = scene.agent.request("POST", scene.gateway.url(), TARGET).body("{}");
    let request = request.header("x-request-id", "failing-1").sign();
    assert_eq!(scene.gateway.send(&request).status, 502);
    let decision = scene.gateway.wait_for_decision("failing-1");
    assert_eq!(
        (&decision["decision"], &decision["code"], &decision["status"], &decision["level"]),
        (&json!("error"), &json!("UPSTREAM_ERROR"), &json!(502), &json!("WARN"))
    );
    assert_eq!(decision["claim"], "static-0-openai");
}

#[test]
fn identities_are_fingerprints_that_stay_the_same() {
    let scene = Scene::start();
    let ask = |id: &str, subject: &str| {
        let draft = scene.draft(TARGET).subject(subject).agent_id("planner").header("x-request-id", id);
        assert_eq!(scene.gateway.send(&draft.sign()).status, 200);
        scene.gateway.wait_for_decision(id)
    };
    let (first, again, other) =
        (ask("first-0001", "user-17"), ask("again-0001", "user-17"), ask("other-0001", "user-18"));
    for field in ["namespace", "subject", "agent"] {
        let fingerprint = first[field].as_str().unwrap();
        assert!(
            fingerprint.len() == 16 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()),
            "{fingerprint}"
        );
        assert_eq!(first[field], again[field]);
    }
    assert_eq!(first["namespace"], other["namespace"]);
    assert_ne!(first["subject"], other["subject"]);
    assert!(first.get("principal").is_none());
    for name in ["alice", "user-17", "planner"] {
        assert!(
            !scene.gateway.decisions().iter().any(|decision| decision.to_string().contains(name)),
            "{name}"
        );
    }
}

#[test]
fn fingerprints_are_the_same_after_a_restart_and_others_elsewhere() {
    let (kept, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fingerprint = |directory: &tempfile::TempDir| {
        let data = directory.path().join("data").to_str().unwrap().to_owned();
        let scene = Scene::with(|setup| setup.set("data_dir", data));
        assert_eq!(scene.get(TARGET).status, 200);
        scene.gateway.wait_for_decisions(1)[0]["namespace"].clone()
    };
    let first = fingerprint(&kept);
    assert_eq!(first, fingerprint(&kept));
    assert_ne!(first, fingerprint(&other));
}

#[test]
fn allowed_requests_are_left_out_of_the_log_where_that_is_asked_and_refused_ones_are_not() {
    let scene = Scene::with(|setup| setup.set("telemetry.log.proxy_requests", false));
    assert_eq!(scene.get(TARGET).status, 200);
    assert_eq!(scene.gateway.send(&scene.draft(TARGET).sign().without("signature")).status, 403);
    let decisions = scene.gateway.wait_for_decisions(1);
    assert_eq!((decisions.len(), &decisions[0]["decision"]), (1, &json!("deny")));
}

#[test]
fn client_that_leaves_early_is_logged_as_such() {
    let (hand, reply) = Reply::streamed("text/plain");
    let scene = Scene::answering(reply, |setup| setup);
    let mut client = scene.gateway.connect();
    client.send(scene.draft(TARGET).header("x-request-id", "leaving-1").sign().to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    hand.send("a");
    assert_eq!(client.chunk().unwrap(), b"a");
    drop(client);
    let decision = eventually("the decision", || {
        scene.gateway.decisions().into_iter().find(|decision| decision["request_id"] == "leaving-1")
    });
    assert_eq!((&decision["decision"], &decision["code"]), (&json!("allow"), &json!("CLIENT_CLOSED")));
}
