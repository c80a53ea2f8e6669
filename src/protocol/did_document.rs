//! DID documents (W3C DID Core 1.0) of `did:sigilum`.

use serde::Serialize;

use super::did::Did;
use super::{KeyId, PublicKey};

/// The contexts that the terms of our documents come from.
const CONTEXTS: [&str; 2] =
    ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/ed25519-2020/v1"];
/// The code of Ed25519 public keys among multicodecs, as a varint.
const ED25519: [u8; 2] = [0xed, 0x01];

/// What is published of a namespace: its keys, and where it is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DidDocument {
    #[serde(rename = "@context")]
    context: [&'static str; 2],
    id: String,
    verification_method: Vec<VerificationMethod>,
    authentication: Vec<String>,
    assertion_method: Vec<String>,
    service: [Service; 1],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMethod {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    controller: String,
    public_key_multibase: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    service_endpoint: String,
}

impl DidDocument {
    /// The document of `did` with these keys, whose agents are asked about at `endpoint`.
    #[must_use]
    pub fn new(did: &Did, keys: &[PublicKey], endpoint: String) -> Self {
        let method = |key: &PublicKey| VerificationMethod {
            id: key.key_id(did.namespace()).to_string(),
            kind: "Ed25519VerificationKey2020",
            controller: did.to_string(),
            public_key_multibase: multibase(key),
        };
        let ids: Vec<String> = keys.iter().map(|key| key.key_id(did.namespace())).map(text).collect();
        Self {
            context: CONTEXTS,
            id: did.to_string(),
            verification_method: keys.iter().map(method).collect(),
            authentication: ids.clone(),
            assertion_method: ids,
            service: [Service {
                id: format!("{did}#agent-endpoint"),
                kind: "AgentEndpoint",
                service_endpoint: endpoint,
            }],
        }
    }
}

fn text(id: KeyId) -> String {
    id.as_str().to_owned()
}

/// `z` and the base58btc of the multicodec's code and the key.
fn multibase(key: &PublicKey) -> String {
    let mut bytes = ED25519.to_vec();
    bytes.extend_from_slice(key.as_bytes());
    format!("z{}", bs58::encode(bytes).into_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_names_each_key_in_the_form_of_the_suite() {
        // The example of the specification of did:key.
        let published = "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
        let bytes = bs58::decode(published.trim_start_matches('z')).into_vec().unwrap();
        let key = PublicKey::from_bytes(bytes[2..].try_into().unwrap()).unwrap();
        let did: Did = "did:sigilum:alice".parse().unwrap();
        let document = DidDocument::new(&did, &[key], "https://api.example/v1/namespaces/alice".to_owned());
        let json = serde_json::to_value(&document).unwrap();
        let method = &json["verificationMethod"][0];
        assert_eq!(method["publicKeyMultibase"], published);
        assert_eq!(method["type"], "Ed25519VerificationKey2020");
        assert_eq!(method["controller"], "did:sigilum:alice");
        assert!(method["id"].as_str().unwrap().starts_with("did:sigilum:alice#ed25519-"));
        assert_eq!(json["authentication"][0], method["id"]);
        assert_eq!(json["assertionMethod"][0], method["id"]);
        assert_eq!(json["service"][0]["type"], "AgentEndpoint");
        assert_eq!(json["@context"][0], "https://www.w3.org/ns/did/v1");
    }

    #[test]
    fn namespace_without_keys_has_a_document_too() {
        let did: Did = "did:sigilum:alice".parse().unwrap();
        let json = serde_json::to_value(DidDocument::new(&did, &[], String::new())).unwrap();
        assert_eq!(json["verificationMethod"], serde_json::json!([]));
    }
}
