//! Secrets of webhooks at rest: XChaCha20-Poly1305 under the control plane's own key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use url::Url;
use zeroize::Zeroizing;

use crate::names::ServiceId;
use crate::secret::{SecretBytes, SecretString};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// The first byte of what is sealed.
const FORMAT: u8 = 1;

/// Seals and opens. The key is 32 bytes, the same at every replica.
pub struct Sealer(Zeroizing<[u8; KEY_BYTES]>);

/// Why something sealed does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealFault {
    /// The key has not 32 bytes.
    #[error("the sealing key must have 32 bytes")]
    Key,
    /// It was changed, or sealed under another key or for another purpose.
    #[error("it does not open with this control plane's sealing key")]
    DoesNotOpen,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl Sealer {
    /// From the key's 32 bytes.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub fn new(key: SecretBytes) -> Result<Self, SealFault> {
        key.expose().try_into().map(|key| Self(Zeroizing::new(key))).map_err(|_| SealFault::Key)
    }

    /// Seals `secret`, the `purpose` (`secret` or `auth`) of a service's webhook, as base64 text. The nonce is random: 24 bytes
    /// are so many that none comes twice.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn seal(
        &self,
        service: &ServiceId,
        url: &Url,
        purpose: &str,
        secret: &SecretString,
    ) -> Result<String, SealFault> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealFault::Random)?;
        let bound = bound(service, url, purpose);
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &bound };
        // Only a text of more than 256 GiB cannot be sealed.
        let sealed =
            self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| SealFault::DoesNotOpen)?;
        Ok(STANDARD.encode([[FORMAT].as_slice(), &nonce, &sealed].concat()))
    }

    /// Opens what [`Sealer::seal`] made for the same service, address and purpose: a sealed secret that was moved to another
    /// service or address does not open.
    ///
    /// # Errors
    /// When it does not open.
    pub fn open(
        &self,
        service: &ServiceId,
        url: &Url,
        purpose: &str,
        sealed: &str,
    ) -> Result<SecretString, SealFault> {
        self.plain(&bound(service, url, purpose), sealed).ok_or(SealFault::DoesNotOpen)
    }

    fn plain(&self, bound: &[u8], sealed: &str) -> Option<SecretString> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (&FORMAT, rest) = bytes.split_first()? else { return None };
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: ciphertext, aad: bound };
        let plain = Zeroizing::new(self.cipher().decrypt(&XNonce::from(*nonce), payload).ok()?);
        SecretString::new(std::str::from_utf8(&plain).ok()?.to_owned()).ok()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.0).into())
    }
}

/// What the seal binds besides the secret, each part with its length before it.
fn bound(service: &ServiceId, url: &Url, purpose: &str) -> Vec<u8> {
    let mut bound = b"sigilum-webhook-seal-v1\0".to_vec();
    for part in [purpose, service.as_str(), url.as_str()] {
        bound.extend((part.len() as u64).to_be_bytes());
        bound.extend(part.as_bytes());
    }
    bound
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(SecretBytes::new(vec![byte; 32])).unwrap()
    }

    fn service(byte: u8) -> ServiceId {
        ServiceId::from_random([byte; 16])
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn secret() -> SecretString {
        SecretString::new("whsec-canary-0123456789".to_owned()).unwrap()
    }

    #[test]
    fn sealed_secret_opens_and_is_never_sealed_the_same_way_twice() {
        let (sealer, url) = (sealer(7), url("https://hooks.example.com/a"));
        let (one, two) = (
            sealer.seal(&service(1), &url, "secret", &secret()).unwrap(),
            sealer.seal(&service(1), &url, "secret", &secret()).unwrap(),
        );
        assert_ne!(one, two);
        assert_eq!(sealer.open(&service(1), &url, "secret", &one).unwrap().expose(), secret().expose());
        assert_eq!(sealer.open(&service(1), &url, "secret", &two).unwrap().expose(), secret().expose());
    }

    #[test]
    fn sealed_secret_that_was_moved_does_not_open() {
        let sealer = sealer(7);
        let sealed =
            sealer.seal(&service(1), &url("https://hooks.example.com/a"), "secret", &secret()).unwrap();
        for (service, url, purpose) in [
            (service(1), url("https://hooks.example.com/b"), "secret"),
            (service(1), url("https://evil.example.com/a"), "secret"),
            (service(1), url("https://hooks.example.com/a"), "auth"),
            (service(2), url("https://hooks.example.com/a"), "secret"),
        ] {
            assert_eq!(sealer.open(&service, &url, purpose, &sealed).unwrap_err(), SealFault::DoesNotOpen);
        }
    }

    #[test]
    fn sealed_secret_with_any_byte_changed_does_not_open() {
        let (sealer, url) = (sealer(7), url("https://hooks.example.com/a"));
        let sealed = STANDARD.decode(sealer.seal(&service(1), &url, "secret", &secret()).unwrap()).unwrap();
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(
                sealer.open(&service(1), &url, "secret", &STANDARD.encode(changed)).is_err(),
                "byte {position}"
            );
        }
        for wrong in ["", "AQ==", "no base64!"] {
            assert!(sealer.open(&service(1), &url, "secret", wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sealed_secret_does_not_open_under_another_key() {
        let url = url("https://hooks.example.com/a");
        let sealed = sealer(7).seal(&service(1), &url, "secret", &secret()).unwrap();
        assert_eq!(sealer(8).open(&service(1), &url, "secret", &sealed).unwrap_err(), SealFault::DoesNotOpen);
    }

    #[test]
    fn key_of_another_length_is_refused() {
        for length in [0, 31, 33] {
            assert_eq!(Sealer::new(SecretBytes::new(vec![1; length])).unwrap_err(), SealFault::Key);
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", sealer(7)), "Sealer");
    }
}
