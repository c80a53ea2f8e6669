//! The signature base, RFC 9421 §2.5: the text that is signed.

use std::ops::Range;

use super::Refusal;
use super::covered_components::write_value;
use super::message::{Message, Received};
use super::signature_input::SignatureInput;

/// The text that a signature signs, built once.
#[derive(Debug)]
pub(super) struct SignatureBase {
    text: String,
    /// Where the value of `@method` stands.
    method: Option<Range<usize>>,
}

impl SignatureBase {
    /// Builds the base of `input` over `message`, with the method as it was sent.
    pub(super) fn build(
        input: &SignatureInput<'_>,
        message: &Message<'_>,
        received: &Received<'_>,
    ) -> Result<Self, Refusal> {
        let held = received.agent_cert.map_or(0, str::len) + received.signature_input.map_or(0, str::len);
        let mut text = String::with_capacity(held + message.target_uri.len() + 768);
        let mut method = None;
        for (index, component) in input.components.iter().enumerate() {
            component.write_identifier(&mut text);
            text.push_str(": ");
            let start = text.len();
            let written = write_value(component, message, received, &mut text);
            let value = text.get(start..).unwrap_or_default();
            if written.is_none()
                || !value.is_ascii()
                || memchr::memchr2(b'\n', b'\r', value.as_bytes()).is_some()
            {
                return Err(Refusal::ComponentUnresolvable { position: index + 1 });
            }
            if component.name() == "@method" {
                method = Some(start..text.len());
            }
            text.push('\n');
        }
        text.push_str("\"@signature-params\": ");
        input.write_parameters(&mut text);
        Ok(Self { text, method })
    }

    /// Puts `@method` into lower case, the form that the field's SDKs sign. Says whether that changed anything.
    pub(super) fn lower_case_method(&mut self) -> bool {
        let value = self.method.clone().and_then(|place| self.text.get_mut(place));
        value.is_some_and(|value| {
            let changes = value.bytes().any(|byte| byte.is_ascii_uppercase());
            value.make_ascii_lowercase();
            changes
        })
    }

    /// Puts `@method` as it was sent, the form of RFC 9421 §2.2.1. Says whether that changed anything.
    pub(super) fn method_as_sent(&mut self, method: &str) -> bool {
        let place = self.method.clone().filter(|place| place.len() == method.len());
        let changes =
            place.clone().and_then(|place| self.text.get(place)).is_some_and(|value| value != method);
        if let Some(place) = place.filter(|_| changes) {
            self.text.replace_range(place, method);
        }
        changes
    }

    /// The bytes to sign or to verify.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PublicKey, signature_input};
    use super::*;

    /// RFC 9421 appendix B.2's request, appendix B.2.6's signature and appendix B.1.4's key.
    fn appendix_b26<T>(with: impl FnOnce(SignatureBase, [u8; 64]) -> T) -> T {
        let mut headers = http::HeaderMap::new();
        for (name, value) in [
            ("host", "example.com"),
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("content-type", "application/json"),
            ("content-length", "18"),
            (
                "signature-input",
                r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
            ),
            (
                "signature",
                "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
            ),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let target_uri = "https://example.com/foo?param=Value&Pet=dog";
        let message = Message { method: "POST", target_uri, headers: &headers, has_body: true };
        let received = Received::read(&headers).unwrap();
        let (input, signature) = signature_input::read(&received).unwrap();
        with(SignatureBase::build(&input, &message, &received).unwrap(), signature)
    }

    #[test]
    fn base_of_rfc_9421_b26_is_the_published_one() {
        let base = appendix_b26(|base, _| String::from_utf8(base.as_bytes().to_vec()).unwrap());
        assert_eq!(
            base,
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
             \"@authority\": example.com\n\"content-type\": application/json\n\"content-length\": 18\n\
             \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
             \"content-length\");created=1618884473;keyid=\"test-key-ed25519\""
        );
    }

    #[test]
    fn signature_of_rfc_9421_b26_holds() {
        let key: PublicKey = "ed25519:JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=".parse().unwrap();
        appendix_b26(|mut base, signature| {
            assert!(key.verify(base.as_bytes(), &signature));
            assert!(base.lower_case_method());
            assert!(!key.verify(base.as_bytes(), &signature));
            base.method_as_sent("POST");
            assert!(key.verify(base.as_bytes(), &signature));
            assert!(!key.verify(&base.as_bytes()[1..], &signature));
        });
    }
}
