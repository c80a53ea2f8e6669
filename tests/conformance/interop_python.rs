//! Another implementation of RFC 9421 and ours understand each other, in both directions.
//!
//! The Python that `SIGILUM_PYTHON` names must have the package `http-message-signatures`; without the variable
//! these tests say so and pass.

use std::io::Write as _;
use std::process::{Command, Stdio};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use sigilum::clock::UnixTime;
use sigilum::protocol::{
    ContentDigest, Freshness, Identity, Message, Refusal, Uncached, Unsigned, sign, target_uri, verify,
};

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
const SEED: [u8; 32] = [42; 32];
const BODY: &[u8] = br#"{"model":"m"}"#;
const PROFILE: [&str; 8] = [
    "@method",
    "@target-uri",
    "content-digest",
    "sigilum-namespace",
    "sigilum-subject",
    "sigilum-agent-id",
    "sigilum-agent-key",
    "sigilum-agent-cert",
];

/// What the script answers; `None` where there is no Python to ask.
#[allow(clippy::print_stderr, reason = "a test that is not run says so")]
fn ask(mode: &str, question: &Value) -> Option<String> {
    let Some(python) = std::env::var_os("SIGILUM_PYTHON") else {
        eprintln!("not run: SIGILUM_PYTHON names no Python with http-message-signatures");
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/http_message_signatures.py");
    let mut child = Command::new(python)
        .args([script, mode])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{mode}: {}", output.status);
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn identity() -> Identity {
    Identity::create(&"alice".parse().unwrap(), SEED, NOW)
}

fn our_headers(identity: &Identity, uri: &str) -> HeaderMap {
    let request = Unsigned {
        method: "POST",
        uri,
        content_digest: Some(ContentDigest::of(BODY)),
        subject: Some("user \"42\""),
        agent_id: Some("bot"),
        nonce: "a \"quoted\" \\ nonce",
        now: NOW,
    };
    sign(identity, &request).unwrap().into_iter().collect()
}

fn as_json(headers: &HeaderMap) -> Map<String, Value> {
    headers.iter().map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap()))).collect()
}

#[test]
fn what_the_other_signs_in_the_form_of_the_rfc_verifies_here() {
    let (identity, uri) = (identity(), "https://gateway.example:8443/proxy/openai/v1/chat?a=b%20c&d=e+f");
    let mut headers = our_headers(&identity, uri);
    headers.remove("signature-input");
    headers.remove("signature");
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("x-dictionary", HeaderValue::from_static("a=1,  b=(1   \"x\");q"));
    let further = [
        "@authority",
        "@scheme",
        "@path",
        "@query",
        "@request-target",
        "content-type",
        "\"@query-param\";name=\"a\"",
        "\"@query-param\";name=\"d\"",
        "\"x-dictionary\";key=\"b\"",
        "\"content-type\";bs",
    ];
    let question = json!({
        "method": "POST",
        "url": uri,
        "headers": as_json(&headers),
        "seed": hex(&SEED),
        "covers": PROFILE.iter().chain(&further).collect::<Vec<_>>(),
        "created": NOW.secs(),
        "nonce": "their \"nonce\" \\",
        "keyid": identity.key_id().as_str(),
    });
    let Some(answer) = ask("sign", &question) else { return };
    let answer: Map<String, Value> = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer.len(), 2);
    for (name, value) in &answer {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.as_str().unwrap().parse().unwrap());
    }
    let judge = |target_uri: &str| {
        let message = Message { method: "POST", target_uri, headers: &headers, has_body: true };
        verify(&message, Freshness::default(), NOW, &Uncached)
    };
    let verified = judge(uri).unwrap();
    assert_eq!((verified.subject(), verified.nonce()), ("user \"42\"", "their \"nonce\" \\"));
    assert_eq!(judge(&uri.replace("8443", "8444")).unwrap_err(), Refusal::VerificationFailed);
}

#[test]
fn what_is_signed_here_verifies_there() {
    let (identity, uri) = (identity(), "https://Gateway.Example:443/proxy/openai/v1/chat?a=b%20c");
    let question = |method: &str| {
        json!({
            "method": method,
            "url": target_uri(uri).unwrap(),
            "headers": as_json(&our_headers(&identity, uri)),
            "public_key": hex(identity.public_key().as_bytes()),
            "keyid": identity.key_id().as_str(),
            "covers": PROFILE,
            "lower_case_method": true,
        })
    };
    let Some(answer) = ask("verify", &question("POST")) else { return };
    assert_eq!(answer, "ok");
    assert!(ask("verify", &question("PUT")).unwrap().starts_with("fail"));
}
