//! Where secrets stand in the bodies of commands, and whether they are sealed there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize as _;
use serde_json::Value;

use super::CommandRefusal;
use crate::protocol::sealed::Sealed;

/// Where a route's body may hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// Nowhere.
    None,
    /// By name in the object of this field; null removes one.
    ByName(&'static str),
    /// In this field.
    In(&'static str),
    /// Nowhere either, but in the headers of this field, which are therefore [`TEST_HEADERS`] alone: any other may be
    /// where some provider takes a credential.
    KnownHeaders(&'static str),
}

/// What a test may say in headers over a pairing: form, language and version of what is asked for, and by whom.
const TEST_HEADERS: &[&str] = &[
    "accept",
    "accept-language",
    "content-type",
    "user-agent",
    "x-request-id",
    "anthropic-beta",
    "anthropic-version",
    "notion-version",
    "openai-beta",
    "stripe-version",
    "x-github-api-version",
];
/// An X25519 key in HPKE's encapsulation, and the tag of ChaCha20-Poly1305.
const ENC_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

impl Secrets {
    /// Why a body may not pass for what stands in it, where it may not.
    pub(super) fn refusal(self, body: &Value) -> Option<CommandRefusal> {
        let unsealed = |field| CommandRefusal::SecretNotSealed { field };
        match self {
            Self::None => None,
            Self::In(field) => {
                body.get(field).is_some_and(|secret| !is_closed(secret)).then(|| unsealed(field))
            }
            Self::ByName(field) => {
                let held = match body.get(field) {
                    None | Some(Value::Null) => true,
                    Some(Value::Object(secrets)) => {
                        secrets.values().all(|secret| secret.is_null() || is_closed(secret))
                    }
                    Some(_) => false,
                };
                (!held).then(|| unsealed(field))
            }
            Self::KnownHeaders(field) => {
                let known = |name: &String| TEST_HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name));
                let held = match body.get(field) {
                    None | Some(Value::Null) => true,
                    Some(Value::Object(headers)) => headers.keys().all(known),
                    Some(_) => false,
                };
                (!held).then_some(CommandRefusal::TestHeader { known: TEST_HEADERS })
            }
        }
    }
}

/// Sealed, or the name of a variable that the gateway holds: nothing that is worth anything to whoever reads it.
fn is_closed(secret: &Value) -> bool {
    match secret {
        Value::String(text) => is_reference(text),
        Value::Object(fields) => {
            let sealed = fields.get("sealed").filter(|_| fields.len() == 1);
            sealed
                .and_then(|sealed| Sealed::deserialize(sealed).ok())
                .is_some_and(|sealed| is_sealed(&sealed))
        }
        _ => false,
    }
}

/// `{{NAME}}`.
fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or_default();
    is_variable(name)
}

/// `^[A-Za-z_][A-Za-z0-9_]{0,127}$`
pub(super) fn is_variable(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether it has the form of one: only the gateway can tell whether it opens.
fn is_sealed(sealed: &Sealed) -> bool {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
    sealed.v == 1 && bytes(&sealed.enc) == ENC_BYTES && bytes(&sealed.ct) > TAG_BYTES
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sealed() -> Value {
        let (enc, ct) = (URL_SAFE_NO_PAD.encode([1; 32]), URL_SAFE_NO_PAD.encode([2; 20]));
        json!({ "sealed": { "v": 1, "gateway_key_id": "x25519-0", "enc": enc, "ct": ct } })
    }

    fn unsealed(field: &'static str) -> Option<CommandRefusal> {
        Some(CommandRefusal::SecretNotSealed { field })
    }

    #[test]
    fn sealed_secrets_references_and_removals_pass() {
        for secret in [sealed(), json!("{{OPENAI_API_KEY}}"), Value::Null] {
            assert_eq!(Secrets::ByName("secrets").refusal(&json!({ "secrets": { "k": secret } })), None);
        }
        assert_eq!(Secrets::ByName("secrets").refusal(&json!({})), None);
        assert_eq!(Secrets::In("value").refusal(&json!({ "value": sealed() })), None);
    }

    #[test]
    fn secret_in_any_other_form_is_found() {
        let altered = |field: &str, value: Value| {
            let mut altered = sealed();
            altered["sealed"][field] = value;
            altered
        };
        let mut beside = sealed();
        beside["plain"] = json!("sk-canary");
        for secret in [
            json!("sk-canary"),
            json!(""),
            json!("{{sk-canary}}"),
            json!("{{A}} sk-canary"),
            json!(4711),
            json!(["sk-canary"]),
            json!({ "sk-canary": 1 }),
            json!({ "sealed": "sk-canary" }),
            altered("v", json!(2)),
            altered("ct", json!("sk-canary")),
            altered("enc", json!("sk-canary")),
            altered("note", json!("sk-canary")),
            beside,
        ] {
            let body = json!({ "secrets": { "good": sealed(), "k": secret }, "value": secret });
            assert_eq!(Secrets::ByName("secrets").refusal(&body), unsealed("secrets"), "{secret}");
            assert_eq!(Secrets::In("value").refusal(&body), unsealed("value"), "{secret}");
        }
        let body = json!({ "secrets": "sk-canary" });
        assert_eq!(Secrets::ByName("secrets").refusal(&body), unsealed("secrets"));
    }

    #[test]
    fn test_s_headers_are_those_that_hold_no_credential() {
        let refused = |headers: Value| {
            Secrets::KnownHeaders("headers").refusal(&json!({ "headers": headers })).is_some()
        };
        for passes in [
            Value::Null,
            json!({}),
            json!({ "Accept": "a", "Content-Type": "b", "Anthropic-Version": "2023-06-01" }),
        ] {
            assert!(!refused(passes.clone()), "{passes}");
        }
        for name in [
            "authorization",
            "X-Api-Key",
            "api-key",
            "x-goog-api-key",
            "dd-api-key",
            "private-token",
            "accept ",
            "",
        ] {
            assert!(refused(json!({ "accept": "a", name: "sk-canary" })), "{name}");
        }
        for other in [json!("authorization: sk-canary"), json!(["sk-canary"]), json!(1)] {
            assert!(refused(other.clone()), "{other}");
        }
    }
}
