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
        let (enc, ct) = hpke_seal(&self.0, INFO, &aad, secret.as_bytes(), seed)?;
        Ok(Sealed {
            v: VERSION,
            gateway_key_id: self.id(),
            enc: URL_SAFE_NO_PAD.encode(enc),
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
        let ct = decoded("ct", &sealed.ct)?;
        let key = self.private().ok_or(OpenFault::Altered)?;
        let plain = hpke_open(&key, INFO, &aad, &enc, &ct)?;
        std::str::from_utf8(&plain)
            .map(|text| Zeroizing::new(text.to_owned()))
            .map_err(|_| OpenFault::NotText)
    }

    fn private(&self) -> Option<PrivateKey> {
        PrivateKey::from_bytes(self.0.as_slice()).ok()
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

type PrivateKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as hpke::Kem>::EncappedKey;

/// `SealBase` (RFC 9180 §6.1): the encapsulated key, and the ciphertext with its tag.
fn hpke_seal(
    key: &[u8; 32],
    info: &[u8],
    aad: &[u8],
    plain: &[u8],
    seed: Zeroizing<[u8; 32]>,
) -> Result<(Vec<u8>, Vec<u8>), SealFault> {
    let key = PublicKey::from_bytes(key).map_err(|_| SealFault::Key)?;
    let (mode, mut seed) = (OpModeS::Base, Given(seed));
    let (enc, ct) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &mode, &key, info, plain, aad, &mut seed,
    )
    .map_err(|_| SealFault::WeakKey)?;
    Ok((enc.to_bytes().to_vec(), ct))
}

/// `OpenBase` (RFC 9180 §6.1).
fn hpke_open(
    key: &PrivateKey,
    info: &[u8],
    aad: &[u8],
    enc: &[u8],
    ct: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenFault> {
    let (mode, enc) = (OpModeR::Base, EncappedKey::from_bytes(enc).map_err(|_| OpenFault::Field("enc"))?);
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&mode, key, &enc, info, ct, aad)
        .map(Zeroizing::new)
        .map_err(|_| OpenFault::Altered)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(pair).collect()
    }

    fn array(text: &str) -> [u8; 32] {
        hex(text).try_into().unwrap()
    }

    fn key() -> SealingKey {
        SealingKey::from_bytes(Zeroizing::new([7; 32]))
    }

    fn seal(text: &str, gateway_id: &str, connection: &str, secret: &str) -> Sealed {
        let (connection, secret) = (connection.parse().unwrap(), secret.parse().unwrap());
        let destination = Destination { gateway_id, connection: Some(&connection), secret: &secret };
        key().public().seal(text, destination, Zeroizing::new([9; 32])).unwrap()
    }

    fn open(sealed: &Sealed, gateway_id: &str, connection: &str, secret: &str) -> Result<String, OpenFault> {
        let (connection, secret) = (connection.parse().unwrap(), secret.parse().unwrap());
        let destination = Destination { gateway_id, connection: Some(&connection), secret: &secret };
        key().open(sealed, destination).map(|text| text.to_string())
    }

    /// RFC 9180 appendix A.2.1, sequence number 0.
    #[test]
    fn vector_of_rfc_9180_is_sealed_and_opened() {
        let info = hex("4f6465206f6e2061204772656369616e2055726e");
        let ikm_e = array("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b");
        let sk_r = array("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
        let pk_r = array("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        let enc = hex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
        let (aad, plain) =
            (hex("436f756e742d30"), hex("4265617574792069732074727574682c20747275746820626561757479"));
        let ct =
            hex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28");
        let key = SealingKey::from_bytes(Zeroizing::new(sk_r));
        assert_eq!(*key.public().as_bytes(), pk_r);
        let sealed = hpke_seal(&pk_r, &info, &aad, &plain, Zeroizing::new(ikm_e)).unwrap();
        assert_eq!(sealed, (enc.clone(), ct.clone()));
        let opened = hpke_open(&key.private().unwrap(), &info, &aad, &enc, &ct).unwrap();
        assert_eq!(*opened, plain);
    }

    #[test]
    fn sealed_secret_opens_only_where_it_belongs() {
        let sealed = seal("sk-canary", "acme", "openai", "api_key");
        assert_eq!(open(&sealed, "acme", "openai", "api_key").as_deref(), Ok("sk-canary"));
        for (gateway, connection, secret) in
            [("acme2", "openai", "api_key"), ("acme", "other", "api_key"), ("acme", "openai", "other")]
        {
            assert_eq!(open(&sealed, gateway, connection, secret), Err(OpenFault::Altered));
        }
        for gateway in ["", "acme/openai"] {
            assert_eq!(open(&sealed, gateway, "openai", "api_key"), Err(OpenFault::GatewayId));
        }
        let name = "api_key".parse().unwrap();
        let variable = Destination { gateway_id: "acme", connection: None, secret: &name };
        assert_eq!(key().open(&sealed, variable).unwrap_err(), OpenFault::Altered);
    }

    #[test]
    fn every_altered_field_is_refused() {
        let sealed = seal("sk-canary", "acme", "openai", "api_key");
        let altered = |change: &dyn Fn(&mut Sealed)| {
            let mut altered = sealed.clone();
            change(&mut altered);
            open(&altered, "acme", "openai", "api_key").unwrap_err()
        };
        assert_eq!(altered(&|sealed| sealed.v = 2), OpenFault::Version(2));
        let other = altered(&|sealed| sealed.gateway_key_id = "x25519-0".into());
        assert_eq!(other, OpenFault::Key { found: "x25519-0".into(), own: key().public().id() });
        assert_eq!(altered(&|sealed| sealed.enc = "AAAA".into()), OpenFault::Field("enc"));
        assert_eq!(altered(&|sealed| sealed.ct.push('=')), OpenFault::Field("ct"));
        assert_eq!(altered(&|sealed| sealed.ct = "A".repeat(100_000)), OpenFault::Field("ct"));
        let flipped = |sealed: &mut Sealed| {
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed.ct).unwrap();
            bytes[0] ^= 1;
            sealed.ct = URL_SAFE_NO_PAD.encode(bytes);
        };
        assert_eq!(altered(&flipped), OpenFault::Altered);
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_weak_ones_seal_nothing() {
        let public = key().public();
        assert_eq!(public.to_string().parse(), Ok(public));
        for wrong in ["", "ed25519:AAAA", "x25519:AAAA", &public.to_string().replace("x25519", "X25519")] {
            assert_eq!(wrong.parse::<SealingPublicKey>(), Err(SealFault::Key), "{wrong}");
        }
        let (connection, secret) = ("a".parse().unwrap(), "b".parse().unwrap());
        let destination = Destination { gateway_id: "g", connection: Some(&connection), secret: &secret };
        let weak = SealingPublicKey([0; 32]).seal("s", destination, Zeroizing::new([1; 32]));
        assert_eq!(weak, Err(SealFault::WeakKey));
    }

    #[test]
    fn wire_form_is_that_of_the_contract() {
        let sealed = serde_json::to_value(seal("s", "acme", "openai", "api_key")).unwrap();
        let fields: Vec<&String> = sealed.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["v", "gateway_key_id", "enc", "ct"]);
        assert!(
            serde_json::from_str::<Sealed>(r#"{"v":1,"gateway_key_id":"","enc":"","ct":"","x":1}"#).is_err()
        );
    }
}
