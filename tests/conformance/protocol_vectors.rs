//! Requests and records that others signed, and ours, must be judged as their vectors say.

use std::path::PathBuf;

use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use sigilum::clock::UnixTime;
use sigilum::protocol::{
    BodyHash, ContentDigest, Freshness, Identity, Message, Refusal, SignedHeaders, Uncached, Unsigned,
    VerifiedSignature, sign, target_uri, verify,
};

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
