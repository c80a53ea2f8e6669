//! The wire protocol, pure: no I/O, no clock, no randomness, no async. What is needed of these is handed in.

mod certificate;
mod content_digest;
mod covered_components;
pub mod did;
mod identity;
mod sign;
mod signature_base;
mod signature_input;
mod verify;

pub use certificate::{Agent, Certificate, CertificateFault, Certificates, Uncached};
pub use content_digest::{BodyHash, ContentDigest};
pub use identity::{Identity, IdentityFault, KeyFault, KeyId, PublicKey};
pub use sign::{SignFault, SignedHeaders, Unsigned, sign};
pub use verify::{Freshness, Message, Refusal, VerifiedSignature, verify};
