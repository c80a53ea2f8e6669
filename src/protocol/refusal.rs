//! Why a request's signature is refused: a sentence, a stable code and a reason for each fault.

use super::{CertificateFault, KeyFault};

/// Why a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Row 1: a signed header is there more than once.
    #[error("the header {header} is there more than once; it must be sent as one line")]
    HeaderRepeated {
        /// Its name.
        header: &'static str,
    },
    /// Row 1: a signed header holds something other than visible ASCII.
    #[error("the header {header} holds a character that is not visible ASCII")]
    HeaderNotText {
        /// Its name.
        header: &'static str,
    },
    /// Row 1: a signed header is too long.
    #[error("the header {header} has {found} bytes; at most {most} are taken")]
    HeaderTooLong {
        /// Its name.
        header: &'static str,
        /// The greatest length, in bytes.
        most: usize,
        /// The length found, in bytes.
        found: usize,
    },
    /// Row 1: a header that may be left out was sent empty.
    #[error("the header {header} is empty; leave it out or give it a value")]
    HeaderEmpty {
        /// Its name.
        header: &'static str,
    },
    /// Row 2: `signature-input` or `signature` is missing.
    #[error(
        "the request is not signed: the header {header} is missing (RFC 9421, profile sigilum-rfc9421-v1)"
    )]
    SignatureHeaderMissing {
        /// Its name.
        header: &'static str,
    },
    /// Row 2: `signature-input` is not what RFC 9421 §4.1 says.
    #[error("signature-input must be a dictionary of inner lists of component names (RFC 9421 section 4.1)")]
    SignatureInputInvalid,
    /// Row 2: there is not exactly one signature of the profile.
    #[error(
        "signature-input names {found} signatures that could be of the profile; exactly one may have a keyid that begins with did:sigilum:"
    )]
    SignatureAmbiguous {
        /// How many there are.
        found: usize,
    },
    /// Row 2: `signature` is not what RFC 9421 §4.2 says.
    #[error(
        "signature must hold, under the label that signature-input gives, the 64 bytes of an Ed25519 signature as :base64:"
    )]
    SignatureInvalid,
    /// Row 3: `alg` is missing or another algorithm.
    #[error("the signature's parameter alg must be \"ed25519\"")]
    AlgorithmUnsupported,
    /// Row 4: `created` is missing or not an integer.
    #[error("the signature's parameter created must be there, in Unix seconds")]
    CreatedInvalid,
    /// Row 4: `expires` is there and not an integer.
    #[error("the signature's parameter expires must be in Unix seconds where it is sent")]
    ExpiresInvalid,
    /// Row 4: `created` lies too far back.
    #[error(
        "the signature was created {age_secs} s ago, at most {most_secs} s are allowed; sign the request anew, and check the client's clock"
    )]
    TooOld {
        /// Its age, in whole seconds.
        age_secs: u64,
        /// The greatest age, in seconds.
        most_secs: u64,
    },
    /// Row 4: `created` lies too far ahead.
    #[error(
        "the signature was created {ahead_secs} s in the future, at most {most_secs} s are allowed; check the client's clock"
    )]
    TooFarAhead {
        /// How far ahead, in whole seconds.
        ahead_secs: u64,
        /// The greatest distance, in seconds.
        most_secs: u64,
    },
    /// Row 4: `expires` is past.
    #[error("the signature expired {ago_secs} s ago by its own parameter expires; sign the request anew")]
    Expired {
        /// How long ago, in whole seconds.
        ago_secs: u64,
    },
    /// Row 5: the certificate is missing.
    #[error("the header sigilum-agent-cert is missing; it carries the agent's certificate as base64url")]
    CertificateMissing,
    /// Row 5: the certificate does not hold.
    #[error("sigilum-agent-cert: {0}")]
    Certificate(#[from] CertificateFault),
    /// Row 6: `sigilum-namespace` is missing or another than the certificate's.
    #[error("the header sigilum-namespace must be there and equal the certificate's namespace")]
    NamespaceMismatch,
    /// Row 6: `sigilum-subject` is missing or empty.
    #[error(
        "the header sigilum-subject is missing; it names who triggered the action, in 1 to 256 characters"
    )]
    SubjectMissing,
    /// Row 6: `sigilum-agent-key` is missing.
    #[error("the header sigilum-agent-key is missing; it carries the agent's public key")]
    KeyMissing,
    /// Row 6: `sigilum-agent-key` is not a public key.
    #[error("sigilum-agent-key: {0}")]
    KeyInvalid(KeyFault),
    /// Row 6: `sigilum-agent-key` is another key than the certificate's.
    #[error("the header sigilum-agent-key is another key than the certificate's")]
    KeyMismatch,
    /// Row 6: `keyid` is not the certificate's key id.
    #[error("the signature's parameter keyid must equal the certificate's keyId")]
    KeyIdMismatch,
    /// Row 7: a component of the profile is not covered.
    #[error("the signature does not cover {component}, which the profile sigilum-rfc9421-v1 asks for here")]
    ComponentMissing {
        /// Its name.
        component: &'static str,
    },
    /// Row 7: `sigilum-subject` is not covered.
    #[error("the signature does not cover sigilum-subject")]
    SubjectComponentMissing,
    /// Row 7: a component is covered twice.
    #[error("covered component number {position} stands in the list twice")]
    ComponentRepeated {
        /// Its place in the list, from 1.
        position: usize,
    },
    /// Row 7: a component is not in the message, or is of a kind that is not known here.
    #[error(
        "covered component number {position} cannot be resolved: the request has no such value, or its kind is not supported"
    )]
    ComponentUnresolvable {
        /// Its place in the list, from 1.
        position: usize,
    },
    /// Row 7: more components than any client needs.
    #[error("the signature covers {found} components; at most {most} are taken")]
    TooManyComponents {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// Row 7: more components with parameters than any client needs.
    #[error("the signature covers {found} components that have parameters; at most {most} are taken")]
    TooManyParameters {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// Row 8: the nonce is missing, too short, too long or not text.
    #[error("the signature's parameter nonce must be a string of 8 to 256 printable characters")]
    NonceInvalid,
    /// Row 9: the signature is not the agent's over this request.
    #[error(
        "the signature does not fit this request: method, URI, a signed header or the key differs from what was signed"
    )]
    VerificationFailed,
    /// Row 12: the body is not the one that was signed. [`verify`](fn@super::verify) never says this, for it does
    /// not see the body: whoever hashes the body does.
    #[error("the body does not match content-digest")]
    ContentDigestMismatch,
}

impl Refusal {
    /// The stable code, `AUTH_…`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::HeaderRepeated { .. }
            | Self::HeaderNotText { .. }
            | Self::HeaderTooLong { .. }
            | Self::HeaderEmpty { .. } => "AUTH_HEADERS_INVALID",
            Self::NamespaceMismatch
            | Self::SubjectMissing
            | Self::KeyMissing
            | Self::KeyInvalid(_)
            | Self::KeyMismatch
            | Self::KeyIdMismatch => "AUTH_IDENTITY_INVALID",
            Self::ComponentMissing { .. }
            | Self::SubjectComponentMissing
            | Self::ComponentRepeated { .. }
            | Self::ComponentUnresolvable { .. }
            | Self::TooManyComponents { .. }
            | Self::TooManyParameters { .. } => "AUTH_SIGNED_COMPONENTS_INVALID",
            Self::NonceInvalid => "AUTH_NONCE_INVALID",
            _ => "AUTH_SIGNATURE_INVALID",
        }
    }

    /// The reason, `SIG_…`, where the code has one.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        Some(match self {
            Self::HeaderRepeated { .. }
            | Self::HeaderNotText { .. }
            | Self::HeaderTooLong { .. }
            | Self::HeaderEmpty { .. }
            | Self::NonceInvalid => return None,
            Self::SignatureHeaderMissing { .. } => "SIG_MISSING_SIGNATURE_HEADERS",
            Self::SignatureInputInvalid | Self::SignatureAmbiguous { .. } => "SIG_SIGNATURE_INPUT_INVALID",
            Self::SignatureInvalid => "SIG_SIGNATURE_HEADER_INVALID",
            Self::AlgorithmUnsupported => "SIG_ALGORITHM_UNSUPPORTED",
            Self::CreatedInvalid | Self::ExpiresInvalid => "SIG_CREATED_INVALID",
            Self::TooOld { .. } | Self::TooFarAhead { .. } | Self::Expired { .. } => {
                "SIG_TIMESTAMP_OUT_OF_RANGE"
            }
            Self::CertificateMissing => "SIG_CERT_HEADER_MISSING",
            Self::Certificate(CertificateFault::Unreadable) => "SIG_CERT_HEADER_INVALID",
            Self::Certificate(CertificateFault::Expired) => "SIG_CERT_EXPIRED",
            Self::Certificate(_) => "SIG_CERT_INVALID",
            Self::NamespaceMismatch => "SIG_NAMESPACE_MISMATCH",
            Self::SubjectMissing => "SIG_SUBJECT_MISSING",
            Self::KeyMissing => "SIG_KEY_HEADER_MISSING",
            Self::KeyInvalid(_) => "SIG_KEY_HEADER_INVALID",
            Self::KeyMismatch => "SIG_KEY_MISMATCH",
            Self::KeyIdMismatch => "SIG_KEY_ID_MISMATCH",
            Self::SubjectComponentMissing => "SIG_SUBJECT_COMPONENT_MISSING",
            Self::ComponentMissing { .. }
            | Self::ComponentRepeated { .. }
            | Self::ComponentUnresolvable { .. }
            | Self::TooManyComponents { .. }
            | Self::TooManyParameters { .. } => "SIG_SIGNED_COMPONENTS_INVALID",
            Self::VerificationFailed => "SIG_VERIFICATION_FAILED",
            Self::ContentDigestMismatch => "SIG_CONTENT_DIGEST_MISMATCH",
        })
    }
}
