//! Secrets sealed to the gateway that will hold them, so that nothing between can read them: HPKE (RFC 9180) in base
//! mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem as _, X25519HkdfSha256};
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::names::{ConnectionId, SecretName};

/// The version of the form.
const VERSION: u8 = 1;
/// HPKE's `info`.
const INFO: &[u8] = b"sigilum-secret-v1";
const PREFIX: &str = "x25519:";
/// A larger ciphertext holds no secret that a gateway takes.
const LARGEST_CIPHERTEXT_BYTES: usize = 64 * 1024;

/// What stands in `{"sealed": …}` in place of the plain text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// 1.
    pub v: u8,
    /// The key that it is sealed to.
    pub gateway_key_id: String,
    /// HPKE's encapsulated key, base64url without padding.
    pub enc: String,
    /// The ciphertext with its tag, base64url without padding.
    pub ct: String,
}

/// Where a secret belongs. It is sealed for this place alone: HPKE's `aad` is
/// `<gateway id>/<connection id>/<secret key>`.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The gateway's id. It holds no `/`: see [`SealFault::GatewayId`].
    pub gateway_id: &'a str,
    /// The connection; `None` for a shared credential variable, where `-` stands in its place.
    pub connection: Option<&'a ConnectionId>,
    /// Which of its secrets, or the variable.
    pub secret: &'a SecretName,
}

/// A gateway's public sealing key: `x25519:<standard base64 with padding of the 32 bytes>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealingPublicKey([u8; 32]);

/// A gateway's private sealing key. `Debug` shows nothing of it; zeroized when dropped.
pub struct SealingKey(Zeroizing<[u8; 32]>);

/// Why nothing could be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealFault {
    /// The text is not a public sealing key.
    #[error("a sealing key is x25519: and the standard base64 of its 32 bytes")]
    Key,
    /// The key is a point of small order, with which nothing is secret.
    #[error("the sealing key is of small order, so nothing sealed to it is secret")]
    WeakKey,
    /// The gateway's id cannot stand in the place.
    #[error("a gateway's id is not empty and holds no /")]
    GatewayId,
}

/// Why a sealed secret could not be opened. No variant holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFault {
    /// Another version of the form.
    #[error("version {0} of a sealed secret is not known; this gateway takes 1")]
    Version(u8),
    /// It is sealed to another key.
    #[error(
        "the secret is sealed to the key {found}, and this gateway's is {own}; fetch its key anew and seal again"
    )]
    Key {
        /// The key that it names, cut to what a key id may be.
        found: String,
        /// This gateway's.
        own: String,
    },
    /// A field that is not what it must be.
    #[error("{0} of a sealed secret is not base64url without padding, or too long")]
    Field(&'static str),
    /// It does not open: altered, or sealed for another place.
    #[error(
        "the secret does not open: it was altered, or sealed for another gateway, connection or secret name"
    )]
    Altered,
    /// What it holds is not UTF-8.
    #[error("the secret is not UTF-8 text")]
    NotText,
    /// The gateway's id cannot stand in the place.
    #[error("a gateway's id is not empty and holds no /")]
    GatewayId,
}

impl SealingPublicKey {
    /// The 32 bytes (RFC 7748 §6.1).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its id: `x25519-<first 8 bytes of SHA-256(public key), lower-case hex>`.
    #[must_use]
    pub fn id(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        format!("x25519-{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Seals `secret` for `destination`. `seed` must be 32 fresh random bytes: this room has none of its own.
    ///
    /// # Errors
    /// When the key is of small order or the gateway's id cannot be one.
    pub fn seal(
        &self,
        secret: &str,
        destination: Destination<'_>,
        seed: Zeroizing<[u8; 32]>,
    ) -> Result<Sealed, SealFault> {
        let aad = destination.aad().ok_or(SealFault::GatewayId)?;
        let key =
            <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&self.0).map_err(|_| SealFault::Key)?;
        let (enc, ct) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &key,
            INFO,
            secret.as_bytes(),
            &aad,
            &mut Given(seed),
        )
        .map_err(|_| SealFault::WeakKey)?;
        Ok(Sealed {
            v: VERSION,
            gateway_key_id: self.id(),
            enc: URL_SAFE_NO_PAD.encode(enc.to_bytes()),
            ct: URL_SAFE_NO_PAD.encode(ct),
        })
    }
}

impl fmt::Display for SealingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl FromStr for SealingPublicKey {
    type Err = SealFault;

    fn from_str(text: &str) -> Result<Self, SealFault> {
        let bytes = text.strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(SealFault::Key)
    }
}

impl SealingKey {
    /// From 32 random bytes, any.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, to be kept in a vault. Every call is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> SealingPublicKey {
        // Every 32 bytes are a private key of X25519, so the zero key is never made.
        self.private().map_or(SealingPublicKey([0; 32]), |key| {
            SealingPublicKey(X25519HkdfSha256::sk_to_pk(&key).to_bytes().into())
        })
    }

    /// Opens a secret that was sealed to this key for `destination`.
    ///
    /// # Errors
    /// When it was not, or was altered since.
    pub fn open(
        &self,
        sealed: &Sealed,
        destination: Destination<'_>,
    ) -> Result<Zeroizing<String>, OpenFault> {
        if sealed.v != VERSION {
            return Err(OpenFault::Version(sealed.v));
        }
        let own = self.public().id();
        if sealed.gateway_key_id != own {
            let found = sealed.gateway_key_id.chars().filter(char::is_ascii_graphic).take(64).collect();
            return Err(OpenFault::Key { found, own });
        }
        let aad = destination.aad().ok_or(OpenFault::GatewayId)?;
        let enc = decoded("enc", &sealed.enc)?;
        let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&enc)
            .map_err(|_| OpenFault::Field("enc"))?;
        let ct = decoded("ct", &sealed.ct)?;
        let key = self.private().ok_or(OpenFault::Altered)?;
        let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &key,
            &enc,
            INFO,
            &ct,
            &aad,
        )
        .map_err(|_| OpenFault::Altered)?;
        let plain = Zeroizing::new(plain);
        std::str::from_utf8(&plain)
            .map(|text| Zeroizing::new(text.to_owned()))
            .map_err(|_| OpenFault::NotText)
    }

    fn private(&self) -> Option<<X25519HkdfSha256 as hpke::Kem>::PrivateKey> {
        <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(self.0.as_slice()).ok()
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey([redacted])")
    }
}

impl Destination<'_> {
    /// Neither a connection's id nor a secret's name holds a `/`, so the three parts cannot be read otherwise.
    fn aad(self) -> Option<Vec<u8>> {
        let fits = !self.gateway_id.is_empty() && !self.gateway_id.contains('/');
        // No connection's id is a hyphen alone.
        let connection = self.connection.map_or("-", ConnectionId::as_str);
        fits.then(|| format!("{}/{connection}/{}", self.gateway_id, self.secret).into_bytes())
    }
}

fn decoded(field: &'static str, text: &str) -> Result<Vec<u8>, OpenFault> {
    if text.len() > LARGEST_CIPHERTEXT_BYTES / 3 * 4 {
        return Err(OpenFault::Field(field));
    }
    URL_SAFE_NO_PAD.decode(text).map_err(|_| OpenFault::Field(field))
}

/// What HPKE draws the ephemeral key from: the 32 bytes that were handed in, and after them their hashes.
struct Given(Zeroizing<[u8; 32]>);

impl TryRng for Given {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut word = [0; 4];
        self.try_fill_bytes(&mut word).map(|()| u32::from_le_bytes(word))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut word = [0; 8];
        self.try_fill_bytes(&mut word).map(|()| u64::from_le_bytes(word))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Self::Error> {
        for part in to.chunks_mut(self.0.len()) {
            part.iter_mut().zip(self.0.iter()).for_each(|(to, from)| *to = *from);
            // DHKEM asks once. Were it to ask again, it would not get the same bytes.
            let next: [u8; 32] = Sha256::digest(self.0.as_slice()).into();
            *self.0 = next;
        }
        Ok(())
    }
}

impl TryCryptoRng for Given {}
