//! Each row of the verification order refuses with its own code and reason, before a byte reaches the upstream.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::scene::{CONNECTION, Scene, assert_refused};
use crate::support::agent::{Agent, Signed};
use crate::support::eventually;
use crate::support::gateway::Setup;
use crate::support::upstream::{Reply, Upstream};

const TARGET: &str = "/proxy/openai/v1/chat?a=b";

const HEADERS: &str = "AUTH_HEADERS_INVALID";
const SIGNATURE: &str = "AUTH_SIGNATURE_INVALID";
const IDENTITY: &str = "AUTH_IDENTITY_INVALID";
const COMPONENTS: &str = "AUTH_SIGNED_COMPONENTS_INVALID";
const NONCE: &str = "AUTH_NONCE_INVALID";

impl Scene {
    /// A signed request that has every header that can be signed.
    fn full(&self) -> Signed {
        self.agent
            .request("POST", self.gateway.url(), TARGET)
            .body(r#"{"model":"m"}"#)
            .subject("user-17")
            .agent_id("planner")
            .sign()
    }

    /// The same, `signature-input` changed and signed anew.
    fn resigned(&self, change: impl FnOnce(&str) -> String) -> Signed {
        self.full().resigned(&self.agent, change)
    }

    /// The same, one header changed and signed anew.
    fn resigned_with(&self, name: &str, value: &str) -> Signed {
        self.full().replace(name, value).resigned(&self.agent, str::to_owned)
    }

    /// Each of these is refused so; nothing reaches the upstream; and a good request still does, so that it was
    /// each request's own fault.
    fn refuses(self, cases: &[(&str, Signed, &str, &str)]) {
        for (what, request, code, reason) in cases {
            assert_refused(what, &self.gateway.send(request), 403, code, reason);
        }
        self.upstream.assert_zero_bytes();
        assert_eq!(self.gateway.send(&self.full()).status, 200);
        assert_eq!(self.upstream.wait_for(1).len(), 1);
    }
}

/// Without a component in the list.
fn uncovered<'a>(component: &'a str) -> impl FnOnce(&str) -> String + 'a {
    move |input| {
        let without =
            input.replace(&format!("\"{component}\" "), "").replace(&format!(" \"{component}\""), "");
        assert_ne!(without, input, "{component} was not covered");
        without
    }
}

/// With another value of a parameter; an empty one takes the parameter out.
fn parameter<'a>(name: &'a str, value: &'a str) -> impl FnOnce(&str) -> String + 'a {
    move |input| {
        let (list, parameters) = input.split_once(");").unwrap();
        let kept =
            parameters.split(';').filter(|pair| pair.split('=').next() != Some(name)).map(str::to_owned);
        let new = (!value.is_empty()).then(|| format!("{name}={value}"));
        format!("{list});{}", kept.chain(new).collect::<Vec<_>>().join(";"))
    }
}

/// The agent's certificate with a change, its proof made anew.
fn certificate(agent: &Agent, change: impl FnOnce(&mut Value)) -> String {
    let mut certificate = decoded(agent);
    change(&mut certificate);
    let field = |name: &str| certificate[name].as_str().unwrap_or_default().to_owned();
    let text = format!(
        "sigilum-certificate-v1\nnamespace:{}\ndid:{}\nkey-id:{}\npublic-key:{}\nissued-at:{}\nexpires-at:{}",
        field("namespace"),
        field("did"),
        field("keyId"),
        field("publicKey"),
        field("issuedAt"),
        field("expiresAt"),
    );
    let signature = agent.signature_over(text.as_bytes());
    let bytes = STANDARD.decode(signature.trim_start_matches("sig1=").trim_matches(':')).unwrap();
    certificate["proof"]["sig"] = json!(URL_SAFE_NO_PAD.encode(bytes));
    encoded(&certificate)
}

fn decoded(agent: &Agent) -> Value {
    let request = agent.get("http://localhost", "/");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(request.header("sigilum-agent-cert")).unwrap()).unwrap()
}

fn encoded(certificate: &Value) -> String {
    URL_SAFE_NO_PAD.encode(certificate.to_string())
}

#[test]
fn row_1_signed_headers_are_single_ascii_and_short() {
    let scene = Scene::start();
    let signed = scene.full();
    let names = [
        ("sigilum-namespace", 64),
        ("sigilum-subject", 256),
        ("sigilum-agent-id", 128),
        ("sigilum-agent-key", 128),
        ("sigilum-agent-cert", 8 * 1024),
        ("content-digest", 1024),
        ("signature-input", 4 * 1024),
        ("signature", 1024),
    ];
    let mut cases = Vec::new();
    for (name, most) in names {
        cases.push((name, signed.clone().also(name, signed.header(name)), HEADERS, ""));
        cases.push((name, signed.clone().also(&name.to_uppercase(), "b"), HEADERS, ""));
        cases.push((name, signed.clone().replace(name, "m\u{fc}ller"), HEADERS, ""));
        cases.push((name, signed.clone().replace(name, &"a".repeat(most + 1)), HEADERS, ""));
    }
    cases.push(("empty agent id", scene.resigned_with("sigilum-agent-id", ""), HEADERS, ""));
    cases.push(("tab in a subject", scene.resigned_with("sigilum-subject", "a\tb"), HEADERS, ""));
    scene.refuses(&cases);
}

#[test]
fn row_2_both_signature_headers_are_there_and_parse() {
    let scene = Scene::start();
    let signed = scene.full();
    let input = signed.header("signature-input").to_owned();
    let (signature, second) = (signed.header("signature").to_owned(), input.replace("sig1=", "sig2="));
    let (missing, bad_input, bad_signature) =
        ("SIG_MISSING_SIGNATURE_HEADERS", "SIG_SIGNATURE_INPUT_INVALID", "SIG_SIGNATURE_HEADER_INVALID");
    let mut cases = vec![
        ("no signature-input", signed.clone().without("signature-input"), SIGNATURE, missing),
        ("no signature", signed.clone().without("signature"), SIGNATURE, missing),
        ("neither", signed.clone().without("signature").without("signature-input"), SIGNATURE, missing),
    ];
    let doubled = format!("{input}, {second}");
    for wrong in
        ["", "sig1", "sig1=(", "sig1=\"x\"", "sig1=(@method);created=1", "sig1=(1);created=1", &doubled]
    {
        cases.push(("input", signed.clone().replace("signature-input", wrong), SIGNATURE, bad_input));
    }
    let (label, short) = (signature.replace("sig1", "other"), format!("sig1=:{}:", STANDARD.encode([1; 63])));
    for wrong in ["", "sig1", "sig1=\"x\"", "sig1=:not base64:", "sig1=:AAAA:", &label, &short] {
        cases.push(("signature", signed.clone().replace("signature", wrong), SIGNATURE, bad_signature));
    }
    scene.refuses(&cases);
}

#[test]
fn row_3_algorithm_is_named_and_ed25519() {
    let scene = Scene::start();
    let reason = "SIG_ALGORITHM_UNSUPPORTED";
    let cases: Vec<_> = ["\"rsa-v1_5-sha256\"", "\"hmac-sha256\"", "\"Ed25519\"", "ed25519", "1", ""]
        .iter()
        .map(|alg| ("alg", scene.resigned(parameter("alg", alg)), SIGNATURE, reason))
        .collect();
    scene.refuses(&cases);
}

#[test]
fn row_4_signature_is_fresh() {
    let scene = Scene::start();
    let now = sigilum::clock::Clock::system().now().secs();
    let (invalid, range) = ("SIG_CREATED_INVALID", "SIG_TIMESTAMP_OUT_OF_RANGE");
    let past = (now - 10).to_string();
    let mut cases = vec![
        ("expired by its own word", scene.resigned(parameter("expires", &past)), SIGNATURE, range),
        ("expires is no number", scene.resigned(parameter("expires", "\"soon\"")), SIGNATURE, invalid),
    ];
    for wrong in ["", "\"1\"", "1.5", "?1"] {
        cases.push(("created", scene.resigned(parameter("created", wrong)), SIGNATURE, invalid));
    }
    for off in [-3_600, -302, 60, 3_600] {
        let created = (now + off).to_string();
        cases.push(("created far off", scene.resigned(parameter("created", &created)), SIGNATURE, range));
    }
    for extreme in ["0", "-1", "999999999999999", "-999999999999999"] {
        cases.push(("created far off", scene.resigned(parameter("created", extreme)), SIGNATURE, range));
    }
    let soon = scene.resigned(parameter("expires", &(now + 300).to_string()));
    assert_eq!(scene.gateway.send(&soon).status, 200);
    let ahead = scene.resigned(parameter("created", &(now + 20).to_string()));
    assert_eq!(scene.gateway.send(&ahead).status, 200);
    for (what, request, code, reason) in &cases {
        assert_refused(what, &scene.gateway.send(request), 403, code, reason);
    }
    assert_eq!(scene.upstream.wait_for(2).len(), 2);
}

#[test]
fn row_5_certificate_proves_itself() {
    let scene = Scene::start();
    let (agent, other) = (&scene.agent, Agent::new("mallory"));
    let (unreadable, invalid) = ("SIG_CERT_HEADER_INVALID", "SIG_CERT_INVALID");
    let set = |name: &'static str, value: &str| {
        let value = json!(value);
        certificate(agent, |certificate| certificate[name] = value)
    };
    let with = |cert: &str| scene.resigned_with("sigilum-agent-cert", cert);
    let mut unproven = decoded(agent);
    unproven["issuedAt"] = json!("2020-01-01T00:00:00Z");
    let mut borrowed = decoded(agent);
    borrowed["proof"] = decoded(&other)["proof"].clone();
    let fields: Vec<(&str, String)> = vec![
        ("version", certificate(agent, |certificate| certificate["version"] = json!(2))),
        ("namespace in upper case", set("namespace", "Alice")),
        ("another's did", set("did", "did:sigilum:mallory")),
        ("another's key id", set("keyId", other.identity().key_id().as_str())),
        ("another's key", set("publicKey", &other.public_key())),
        ("issued at no time", set("issuedAt", "yesterday")),
        ("expires at no time", set("expiresAt", "tomorrow")),
        ("another algorithm", certificate(agent, |c| c["proof"]["alg"] = json!("rsa"))),
        ("changed after its proof", encoded(&unproven)),
        ("another's proof", encoded(&borrowed)),
    ];
    let mut cases: Vec<_> = fields.iter().map(|(what, c)| (*what, with(c), SIGNATURE, invalid)).collect();
    let missing = scene.full().without("sigilum-agent-cert").resigned(agent, uncovered("sigilum-agent-cert"));
    cases.push(("missing", missing, SIGNATURE, "SIG_CERT_HEADER_MISSING"));
    for wrong in ["", "!!!", "e30=", &URL_SAFE_NO_PAD.encode("{}"), &URL_SAFE_NO_PAD.encode("not json")] {
        cases.push(("unreadable", with(wrong), SIGNATURE, unreadable));
    }
    let expired = set("expiresAt", "2020-01-01T00:00:00Z");
    cases.push(("expired", with(&expired), SIGNATURE, "SIG_CERT_EXPIRED"));
    let lasting = with(&set("expiresAt", "2100-01-01T00:00:00Z"));
    for (what, request, code, reason) in &cases {
        assert_refused(what, &scene.gateway.send(request), 403, code, reason);
    }
    scene.upstream.assert_zero_bytes();
    assert_eq!(scene.gateway.send(&lasting).status, 200);
}

#[test]
fn row_5_certificate_that_was_proven_once_is_refused_from_its_end_on() {
    let scene = Scene::start();
    let end = sigilum::clock::UnixTime::from_secs(sigilum::clock::Clock::system().now().secs() + 5);
    let cert = certificate(&scene.agent, |c| c["expiresAt"] = json!(end.to_string()));
    let send = || scene.gateway.send(&scene.resigned_with("sigilum-agent-cert", &cert));
    assert_eq!(send().status, 200);
    let refused = eventually("the certificate's end", || Some(send()).filter(|answer| answer.status != 200));
    assert_refused("expired", &refused, 403, SIGNATURE, "SIG_CERT_EXPIRED");
}

#[test]
fn row_6_headers_name_the_certificate_s_agent() {
    let scene = Scene::start();
    let (agent, other) = (&scene.agent, Agent::new("mallory"));
    let without = |name: &str| scene.full().without(name).resigned(agent, uncovered(name));
    let identity = |reason| (IDENTITY, reason);
    let weak = format!("ed25519:{}", STANDARD.encode([0; 32]));
    let mut cases = Vec::new();
    let mut case = |what, request, (code, reason)| cases.push((what, request, code, reason));
    case("namespace missing", without("sigilum-namespace"), identity("SIG_NAMESPACE_MISMATCH"));
    for wrong in ["mallory", "", "alice2"] {
        let request = scene.resigned_with("sigilum-namespace", wrong);
        case("another namespace", request, identity("SIG_NAMESPACE_MISMATCH"));
    }
    case("subject missing", without("sigilum-subject"), identity("SIG_SUBJECT_MISSING"));
    case("subject empty", scene.resigned_with("sigilum-subject", " "), identity("SIG_SUBJECT_MISSING"));
    case("key missing", without("sigilum-agent-key"), identity("SIG_KEY_HEADER_MISSING"));
    for wrong in ["", "ed25519:AAAA", "rsa:AAAA", &weak] {
        let request = scene.resigned_with("sigilum-agent-key", wrong);
        case("no key", request, identity("SIG_KEY_HEADER_INVALID"));
    }
    let request = scene.resigned_with("sigilum-agent-key", &other.public_key());
    case("another key", request, identity("SIG_KEY_MISMATCH"));
    let theirs = format!("\"{}\"", other.identity().key_id());
    for wrong in [theirs.as_str(), "\"\"", "1", ""] {
        let request = scene.resigned(parameter("keyid", wrong));
        case("another key id", request, identity("SIG_KEY_ID_MISMATCH"));
    }
    scene.refuses(&cases);
}

#[test]
fn row_7_signature_covers_the_profile() {
    let scene = Scene::start();
    let reason = "SIG_SIGNED_COMPONENTS_INVALID";
    let mut cases = Vec::new();
    for component in [
        "@method",
        "@target-uri",
        "content-digest",
        "sigilum-namespace",
        "sigilum-agent-id",
        "sigilum-agent-key",
        "sigilum-agent-cert",
    ] {
        cases.push((component, scene.resigned(uncovered(component)), COMPONENTS, reason));
    }
    let subject = scene.resigned(uncovered("sigilum-subject"));
    cases.push(("sigilum-subject", subject, COMPONENTS, "SIG_SUBJECT_COMPONENT_MISSING"));
    let undigested =
        scene.full().without("content-digest").resigned(&scene.agent, uncovered("content-digest"));
    cases.push(("no digest", undigested, COMPONENTS, reason));
    let twice = scene.resigned(|input| input.replacen("(\"@method\"", "(\"@method\" \"@method\"", 1));
    cases.push(("a component twice", twice, COMPONENTS, reason));
    for unknown in ["\"x-not-sent\"", "\"@status\"", "\"@method\";req", "\"content-type\";sf"] {
        let signed = scene.full();
        let input = signed.header("signature-input").replacen("(", &format!("({unknown} "), 1);
        cases.push(("cannot be resolved", signed.replace("signature-input", &input), COMPONENTS, reason));
    }
    scene.refuses(&cases);
}

#[test]
fn row_7_more_components_than_the_profile_s_are_welcome_and_bind() {
    let scene = Scene::start();
    let more = |input: &str| input.replacen("(", "(\"content-type\" ", 1);
    let signed = scene.full().replace("content-type", "application/json").resigned(&scene.agent, more);
    let spoiled = signed.clone().replace("content-type", "text/plain");
    assert_refused("changed", &scene.gateway.send(&spoiled), 403, SIGNATURE, "SIG_VERIFICATION_FAILED");
    scene.upstream.assert_zero_bytes();
    assert_eq!(scene.gateway.send(&signed).status, 200);
}

#[test]
fn row_8_nonce_has_a_nonce_s_form() {
    let scene = Scene::start();
    let long = format!("\"{}\"", "n".repeat(257));
    let cases: Vec<_> = ["", "\"\"", "\"seven-7\"", &long, "12345678", "token-of-8", ":bm9uY2Utbm9uY2U=:"]
        .iter()
        .map(|nonce| ("nonce", scene.resigned(parameter("nonce", nonce)), NONCE, ""))
        .collect();
    let longest = format!("\"{}\"", "n".repeat(256));
    for taken in ["\"8-of-it!\"", &longest] {
        assert_eq!(scene.gateway.send(&scene.resigned(parameter("nonce", taken))).status, 200);
    }
    for (what, request, code, reason) in &cases {
        assert_refused(what, &scene.gateway.send(request), 403, code, reason);
    }
    assert_eq!(scene.upstream.wait_for(2).len(), 2);
}

#[test]
fn row_9_signature_is_the_agent_s_over_this_request() {
    let scene = Scene::start();
    let other = Agent::new("mallory");
    let reason = "SIG_VERIFICATION_FAILED";
    let digest = sigilum::protocol::ContentDigest::of(b"another").to_header_value().unwrap();
    let now = sigilum::clock::Clock::system().now().secs();
    let full = || scene.full();
    let mut bytes =
        STANDARD.decode(full().header("signature").trim_start_matches("sig1=").trim_matches(':')).unwrap();
    bytes[63] |= 0x80;
    let mut elsewhere = scene.agent.request("GET", "http://elsewhere.example", TARGET).sign();
    scene.gateway.url().clone_into(&mut elsewhere.origin);
    let mut over_tls = scene.agent.get(&scene.gateway.url().replace("http:", "https:"), TARGET);
    scene.gateway.url().clone_into(&mut over_tls.origin);
    let moved = parameter("created", &(now + 3).to_string())(full().header("signature-input"));
    let cases: Vec<_> = [
        ("another method", full().method_swapped("PUT")),
        ("another path", full().target_swapped("/proxy/openai/v1/chat2?a=b")),
        ("another query", full().target_swapped("/proxy/openai/v1/chat?a=c")),
        ("query's other spelling", full().target_swapped("/proxy/openai/v1/chat?%61=b")),
        ("another subject", full().replace("sigilum-subject", "user-18")),
        ("another agent name", full().replace("sigilum-agent-id", "other")),
        ("another digest", full().replace("content-digest", &digest)),
        ("another key signed", full().resigned(&other, str::to_owned)),
        ("another request's", full().replace("signature", full().header("signature"))),
        ("S out of range", full().replace("signature", &as_signature(&bytes))),
        ("zeros", full().replace("signature", &as_signature(&[0; 64]))),
        ("created moved after signing", full().replace("signature-input", &moved)),
        ("signed for another host", elsewhere),
        ("signed for https", over_tls),
    ]
    .into_iter()
    .map(|(what, request)| (what, request, SIGNATURE, reason))
    .collect();
    scene.refuses(&cases);
}

fn as_signature(bytes: &[u8]) -> String {
    format!("sig1=:{}:", STANDARD.encode(bytes))
}

#[test]
fn row_10_claim_is_for_this_namespace_key_and_service_and_has_not_ended() {
    let (upstream, claimed) = (Upstream::answering(Reply::ok("")), Agent::new("alice"));
    let (stranger, same_name) = (Agent::new("mallory"), Agent::new("alice"));
    let (elsewhere, ended) = (Agent::new("bob-1"), Agent::new("carol"));
    let mut past = ended.claim(&[CONNECTION]);
    past["expires_at"] = json!("2020-01-01T00:00:00Z");
    // Her key, claimed in a namespace that is not hers.
    let mut other_namespace = stranger.claim(&[CONNECTION]);
    other_namespace["namespace"] = json!("trudy");
    let gateway = Setup::new()
        .bearer(CONNECTION, &upstream.url(), "s")
        .bearer("linear", &upstream.url(), "s")
        .claim(&claimed, &[CONNECTION])
        .claim(&elsewhere, &["linear"])
        .claim_entry(past)
        .claim_entry(other_namespace)
        .start();
    for agent in [&stranger, &same_name, &elsewhere, &ended] {
        let response = gateway.send(&agent.get(gateway.url(), TARGET));
        assert_refused(agent.namespace(), &response, 403, "AUTH_CLAIM_REQUIRED", "");
        assert_eq!(response.json()["claim"], json!({ "status": "unregistered" }));
    }
    upstream.assert_zero_bytes();
    assert_eq!(gateway.send(&claimed.get(gateway.url(), TARGET)).status, 200);
    assert_eq!(gateway.send(&elsewhere.get(gateway.url(), "/proxy/linear/")).status, 200);
}

#[test]
fn row_12_body_is_the_signed_one() {
    let scene = Scene::start();
    let reason = "SIG_CONTENT_DIGEST_MISMATCH";
    let digest = |value: &str| scene.resigned_with("content-digest", value);
    let empty = sigilum::protocol::ContentDigest::of(b"").to_header_value().unwrap();
    let cases = vec![
        ("same length", scene.full().body_swapped(r#"{"model":"n"}"#), SIGNATURE, reason),
        ("longer", scene.full().body_swapped("{\"model\":\"m\"} "), SIGNATURE, reason),
        ("shorter", scene.full().body_swapped("{"), SIGNATURE, reason),
        ("the digest of nothing", digest(&empty), SIGNATURE, reason),
        ("no digest at all", digest("nothing"), SIGNATURE, reason),
        ("an algorithm that is not known", digest("md5=:AAAAAAAAAAAAAAAAAAAAAA==:"), SIGNATURE, reason),
        ("half a digest", digest("sha-256=:AAAA:"), SIGNATURE, reason),
        (
            "a digest where there is no body",
            {
                let mut signed = scene.full();
                signed.body = None;
                signed
            },
            SIGNATURE,
            reason,
        ),
    ];
    scene.refuses(&cases);
}

#[test]
fn row_12_no_body_passes_with_the_digest_of_nothing_and_without_one() {
    let scene = Scene::start();
    for body in [Some(""), None] {
        let mut draft = scene.agent.request("POST", scene.gateway.url(), TARGET);
        if let Some(body) = body {
            draft = draft.body(body);
        }
        assert_eq!(scene.gateway.send(&draft.sign()).status, 200, "{body:?}");
    }
    assert!(scene.upstream.wait_for(2).iter().all(|request| request.body.is_empty()));
}
