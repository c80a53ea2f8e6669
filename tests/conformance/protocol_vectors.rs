//! Requests and records that others signed, and ours, must be judged as their vectors say.

use std::path::PathBuf;

use base64::Engine as _;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use sigilum::clock::UnixTime;
use sigilum::protocol::{
    BodyHash, ContentDigest, Freshness, Identity, Message, PublicKey, Refusal, SignedHeaders, Uncached,
    Unsigned, VerifiedSignature, sign, target_uri, verify,
};

/// Vectors of our own, made by `tests/vectors/make.py`.
fn vectors(file: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// When our vectors' requests are judged, and the body that they have.
const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
const BODY: &str = r#"{"model":"m"}"#;

fn outcome(vector: &Value) -> Value {
    let mut headers = HeaderMap::new();
    for line in vector["headers"].as_array().unwrap() {
        let name: http::HeaderName = line[0].as_str().unwrap().parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(line[1].as_str().unwrap().as_bytes()).unwrap());
    }
    let has_body = vector["has_body"].as_bool().unwrap();
    match judge(text(vector, "method"), text(vector, "target_uri"), &headers, has_body, NOW) {
        Err(refusal) => json!({"refused": {"row": null, "code": refusal.code(), "reason": refusal.reason()}}),
        Ok(verified) => {
            let digest = match verified.content_digest() {
                None => "none",
                Some(digest) if digest.matches(&hash(BODY)) => "held",
                Some(_) => "never",
            };
            let (subject, agent_id) = (verified.subject(), verified.agent_id());
            json!({"accepted": {"subject": subject, "agent_id": agent_id, "digest": digest}})
        }
    }
}

#[test]
fn every_request_is_judged_as_its_vector_says() {
    let mut rows = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for mut vector in vectors("signed-requests.json") {
        let row = vector["expect"].get_mut("refused").map(|refused| refused["row"].take());
        rows.extend(row.and_then(|row| row.as_u64()));
        let found = outcome(&vector);
        if found != vector["expect"] {
            wrong.push(format!("{}: {found}, not {}", text(&vector, "name"), vector["expect"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), (1..=9).collect::<Vec<u64>>());
}

#[test]
fn every_encoding_is_a_key_or_not_as_its_vector_says() {
    for vector in vectors("public-keys.json") {
        let hex = text(&vector, "hex");
        let bytes: Vec<u8> =
            (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        let key = PublicKey::from_bytes(bytes.clone().try_into().unwrap());
        assert_eq!(key.is_ok(), vector["key"].as_bool().unwrap(), "{}: {key:?}", text(&vector, "name"));
        let as_text = format!("ed25519:{}", base64::engine::general_purpose::STANDARD.encode(&bytes));
        assert_eq!(as_text.parse::<PublicKey>(), key);
    }
}

#[test]
fn every_record_is_read_or_refused_by_the_field_that_its_vector_names() {
    for vector in vectors("identity-records.json") {
        let name = text(&vector, "name");
        match (Identity::from_json(&vector["record"].to_string()), vector["fault"].as_str()) {
            (Ok(identity), None) => {
                let written = identity.to_json();
                assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), vector["record"], "{name}");
                assert!(written.ends_with("}\n") && !written.ends_with("\n\n"), "{name}");
                assert_eq!(
                    format!("{identity:?}"),
                    format!("Identity({}, [redacted])", identity.key_id()),
                    "{name}"
                );
            }
            (Err(fault), Some(field)) => {
                assert!(fault.to_string().contains(field), "{name}: {fault}");
                assert!(
                    !fault.to_string().contains(text_or_none(&vector["record"]["privateKey"])),
                    "{name}: {fault}"
                );
            }
            (found, expected) => panic!("{name}: {found:?}, not {expected:?}"),
        }
    }
}

/// The text, or one that stands nowhere.
fn text_or_none(value: &Value) -> &str {
    value.as_str().unwrap_or("\0")
}

const FIELD_NONCE: &str = "123e4567-e89b-12d3-a456-426614174000";

/// A vector file of the field, from the folder that `SIGILUM_VECTORS` names; `None` where it names none.
fn field_vectors(file: &str) -> Option<String> {
    let folder = PathBuf::from(std::env::var_os("SIGILUM_VECTORS")?);
    let path = folder.join(file);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn map(headers: &SignedHeaders) -> HeaderMap {
    headers.iter().cloned().collect()
}

fn judge(
    method: &str,
    target_uri: &str,
    headers: &HeaderMap,
    has_body: bool,
    now: UnixTime,
) -> Result<VerifiedSignature, Refusal> {
    verify(&Message { method, target_uri, headers, has_body }, Freshness::default(), now, &Uncached)
}

fn hash(body: &str) -> BodyHash {
    let mut hash = BodyHash::default();
    hash.update(body.as_bytes());
    hash
}

struct FieldRequest {
    method: String,
    target_uri: String,
    headers: HeaderMap,
    body: Option<String>,
    now: UnixTime,
}

impl FieldRequest {
    fn signed(vectors: &Value, vector: &Value, identity: &Identity) -> Self {
        let now = UnixTime::from_secs(vectors["fixed"]["created"].as_i64().unwrap());
        let body = vector["body"].as_str().map(str::to_owned);
        let request = Unsigned {
            method: text(vector, "method"),
            uri: text(vector, "url"),
            content_digest: body.as_deref().map(|body| ContentDigest::of(body.as_bytes())),
            subject: None,
            agent_id: None,
            nonce: text(&vectors["fixed"], "nonce"),
            now,
        };
        let headers = map(&sign(identity, &request).unwrap());
        let target_uri = target_uri(request.uri).unwrap();
        Self { method: text(vector, "method").to_owned(), target_uri, headers, body, now }
    }

    /// What a gateway would answer: the signature's fault, else the body's.
    fn fault(&self) -> Option<String> {
        match judge(&self.method, &self.target_uri, &self.headers, self.body.is_some(), self.now) {
            Err(refusal) => Some(refusal.to_string()),
            Ok(verified) => {
                let body = self.body.as_deref().unwrap_or_default();
                let held = verified.content_digest().is_none_or(|digest| digest.matches(&hash(body)));
                (!held).then(|| Refusal::ContentDigestMismatch.to_string())
            }
        }
    }
}

#[test]
fn field_requests_are_signed_and_verified_as_the_field_has_them() {
    let (Some(file), Some(record)) =
        (field_vectors("http-signatures-rfc9421.json"), field_vectors("identity-record-v1.json"))
    else {
        return;
    };
    let vectors: Value = serde_json::from_str(&file).unwrap();
    let identity = Identity::from_json(&record).unwrap();
    assert_eq!(text(&vectors["fixed"], "nonce"), FIELD_NONCE);
    for vector in vectors["vectors"].as_array().unwrap() {
        let name = text(vector, "name");
        let request = FieldRequest::signed(&vectors, vector, &identity);
        assert_eq!(request.target_uri, text(vector, "expected_target_uri"), "{name}");
        let digest = request.headers.get("content-digest").map(|value| value.to_str().unwrap());
        assert_eq!(digest, vector["expected_content_digest"].as_str(), "{name}");
        let components: Vec<String> = vector["expected_components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| format!("\"{}\"", c.as_str().unwrap()))
            .collect();
        let input = request.headers["signature-input"].to_str().unwrap();
        let expected = format!(
            "sig1=({});created=1700000000;keyid=\"{}\";alg=\"ed25519\";nonce=\"{FIELD_NONCE}\"",
            components.join(" "),
            identity.key_id()
        );
        assert_eq!(input, expected, "{name}");
        assert_eq!(request.fault(), None, "{name}");
        assert_eq!(text(vector, "expected_method_component"), request.method.to_lowercase(), "{name}");
    }
    for negative in vectors["negative_vectors"].as_array().unwrap() {
        let source =
            vectors["vectors"].as_array().unwrap().iter().find(|v| v["name"] == negative["source_vector"]);
        let mut request = FieldRequest::signed(&vectors, source.unwrap(), &identity);
        let value = text(negative, "value");
        match text(negative, "mutation") {
            "method" => request.method = value.to_owned(),
            "body" => request.body = Some(value.to_owned()),
            "header" => {
                let name: http::HeaderName = text(negative, "field").parse().unwrap();
                request.headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            other => panic!("the mutation {other} is not known"),
        }
        let fault = request.fault().expect("refused").to_lowercase();
        let expected = text(negative, "expected_reason_contains").to_lowercase();
        assert!(fault.contains(&expected), "{}: {fault}", text(negative, "name"));
    }
}

#[test]
fn field_identity_record_comes_back_with_fields_that_are_not_known_here() {
    let Some(record) = field_vectors("identity-record-v1.json") else { return };
    let identity = Identity::from_json(&record).unwrap();
    let written: Value = serde_json::from_str(&identity.to_json()).unwrap();
    let read: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(written, read);
    assert_eq!(written["migrationHint"], "v1-compatible");
    assert_eq!(written["certificate"]["issuedBy"], "sigilum.local-fixture");
}
