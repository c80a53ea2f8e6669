//! The wire protocol, pure: no I/O, no clock, no randomness, no async. What is needed of these is handed in.

mod certificate;
mod content_digest;
mod covered_components;
pub mod did;
mod did_document;
mod embedded_address;
mod forwarded;
mod identity;
mod key;
mod message;
pub mod pairing;
mod refusal;
pub mod sealed;
mod sign;
mod signature_base;
mod signature_input;
mod verify;

pub use certificate::{Agent, Certificate, CertificateFault, Certificates, Uncached};
pub use content_digest::{BodyHash, ContentDigest};
pub use did_document::DidDocument;
pub use embedded_address::embedded_v4;
pub use forwarded::{Contradiction, Origin, is_authority, origin, received_uri};
pub use identity::{Identity, IdentityFault};
pub use key::{KeyFault, KeyId, PublicKey};
pub use message::Message;
pub use refusal::Refusal;
pub use sign::{SignFault, SignedHeaders, Unsigned, sign, target_uri};
pub use verify::{Freshness, VerifiedSignature, verify};
