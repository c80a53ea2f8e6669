//! Owner tokens: JWT (RFC 7519) with HS256, and no other algorithm.
//!
//! Written here in a page, on `hmac` and `sha2`: the crates of the field bring RSA, curves and a choice of algorithm by
//! the token's own header with them, and that choice is what has gone wrong with JWT.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::clock::UnixTime;
use crate::control::domain::owner::Owner;
use crate::names::Namespace;
use crate::secret::{SecretBytes, SecretString};

/// `iss` of our tokens.
const ISSUER: &str = "sigilum";
/// `aud` of our tokens.
const AUDIENCE: &str = "sigilum-api";
/// The header of our tokens.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// Longer than any token of ours.
const MOST_BYTES: usize = 4096;
/// How far ahead another replica's clock may be.
const SKEW: Duration = Duration::from_secs(60);

/// What a token says, once it was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerToken {
    /// `sub`: the owner's id.
    pub subject: String,
    /// The owner's e-mail address.
    pub email: String,
    /// The namespace.
    pub namespace: Namespace,
    /// When it was issued.
    pub issued_at: UnixTime,
    /// When it ends.
    pub expires_at: UnixTime,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFault {
    /// It has not the form of a JWT with HS256.
    #[error("the owner token is no JWT with HS256")]
    Form,
    /// The signature is another key's.
    #[error("the owner token was not signed by this control plane")]
    Signature,
    /// Its time is over.
    #[error("the owner token has expired; run `sigilum auth refresh`")]
    Expired,
    /// It is for another audience or from another issuer, or lacks a claim.
    #[error("the owner token is not one for this control plane")]
    Claims,
}

/// The key that signs and proves tokens (`JWT_SECRET`), at least 32 bytes.
pub struct TokenKey(SecretBytes);

impl TokenKey {
    /// From the secret's bytes.
    ///
    /// # Errors
    /// When there are fewer than 32 bytes.
    pub fn new(secret: SecretBytes) -> Result<Self, TokenFault> {
        if secret.expose().len() >= 32 { Ok(Self(secret)) } else { Err(TokenFault::Form) }
    }

    /// A token for `owner` that ends after `ttl`.
    #[must_use]
    pub fn issue(&self, owner: &Owner, ttl: Duration, now: UnixTime) -> SecretString {
        let claims = Claims {
            sub: owner.id.clone(),
            email: owner.email.clone(),
            namespace: owner.namespace.to_string(),
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now.secs(),
            exp: now.plus(ttl).secs(),
        };
        // Text and numbers alone always become JSON.
        let claims = serde_json::to_vec(&claims).unwrap_or_default();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&signed).finalize().into_bytes());
        match SecretString::new(format!("{signed}.{signature}")) {
            Ok(token) => token,
            Err(_) => unreachable!("base64url and dots are no control characters"),
        }
    }

    /// Proves a token.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn prove(&self, token: &str, now: UnixTime) -> Result<OwnerToken, TokenFault> {
        let claims: Claims = serde_json::from_slice(&self.payload(token)?).map_err(|_| TokenFault::Claims)?;
        if claims.iss != ISSUER || claims.aud != AUDIENCE || claims.sub.is_empty() {
            return Err(TokenFault::Claims);
        }
        let namespace: Namespace = claims.namespace.parse().map_err(|_| TokenFault::Claims)?;
        let (issued_at, expires_at) = (UnixTime::from_secs(claims.iat), UnixTime::from_secs(claims.exp));
        if issued_at.since(now) > SKEW {
            return Err(TokenFault::Claims);
        }
        if expires_at <= now {
            return Err(TokenFault::Expired);
        }
        Ok(OwnerToken { subject: claims.sub, email: claims.email, namespace, issued_at, expires_at })
    }

    /// The payload of a JWT (RFC 7515 compact form) that this key signed with HS256, whatever it says.
    fn payload(&self, token: &str) -> Result<Vec<u8>, TokenFault> {
        if token.len() > MOST_BYTES {
            return Err(TokenFault::Form);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenFault::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenFault::Form)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Form);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenFault::Form)?;
        if header.alg != "HS256" || header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(TokenFault::Form);
        }
        // Compared in constant time.
        self.mac(signed).verify_slice(&decode(signature)?).map_err(|_| TokenFault::Signature)?;
        decode(payload)
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mac = match Hmac::<Sha256>::new_from_slice(self.0.expose()) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes keys of any length"),
        };
        mac.chain_update(signed)
    }
}

/// No other member may stand in it: each of them (`crit`, `jwk`, `jku`, `x5c`, …) would ask for something that is not
/// done here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    email: String,
    namespace: String,
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_771_610_666);
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    fn key(byte: u8) -> TokenKey {
        TokenKey::new(SecretBytes::new(vec![byte; 32])).unwrap()
    }

    fn owner() -> Owner {
        Owner {
            id: "usr_00000000000000000000000000000001".to_owned(),
            namespace: "alice".parse().unwrap(),
            email: "alice@example.com".to_owned(),
            created_at: NOW,
        }
    }

    fn signed(key: &TokenKey, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(key.mac(&signed).finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    #[test]
    fn example_of_rfc_7515_appendix_a_1_is_proven() {
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = TokenKey::new(SecretBytes::new(URL_SAFE_NO_PAD.decode(secret).unwrap())).unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
                     .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
                     .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let payload = String::from_utf8(key.payload(token).unwrap()).unwrap();
        assert!(payload.starts_with("{\"iss\":\"joe\"") && payload.ends_with("is_root\":true}"), "{payload}");
        assert_eq!(key.prove(token, NOW), Err(TokenFault::Claims));
    }

    #[test]
    fn token_is_proven_until_its_end() {
        let token = key(1).issue(&owner(), WEEK, NOW);
        let proven = key(1).prove(token.expose(), NOW).unwrap();
        assert_eq!((proven.subject, proven.email), (owner().id, owner().email));
        assert_eq!((proven.namespace, proven.issued_at), (owner().namespace, NOW));
        assert_eq!(proven.expires_at, NOW.plus(WEEK));
        let last = UnixTime::from_millis(NOW.plus(WEEK).millis() - 1);
        assert!(key(1).prove(token.expose(), last).is_ok());
        assert_eq!(key(1).prove(token.expose(), NOW.plus(WEEK)), Err(TokenFault::Expired));
        let early = UnixTime::from_secs(NOW.secs() - 61);
        assert_eq!(key(1).prove(token.expose(), early), Err(TokenFault::Claims));
    }

    #[test]
    fn each_changed_character_spoils_the_token() {
        let token = key(1).issue(&owner(), WEEK, NOW);
        assert_eq!(key(2).prove(token.expose(), NOW), Err(TokenFault::Signature));
        for at in 0..token.expose().len() {
            let mut bytes = token.expose().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(key(1).prove(&changed, NOW).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn other_algorithms_and_members_of_the_header_are_refused() {
        let claims = r#"{"sub":"u","email":"e","namespace":"alice","iss":"sigilum","aud":"sigilum-api","iat":0,"exp":9999999999}"#;
        assert!(key(1).prove(&signed(&key(1), r#"{"alg":"HS256"}"#, claims), NOW).is_ok());
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":"HS256","typ":"at+jwt"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","kid":"1"}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            "[]",
        ] {
            assert_eq!(
                key(1).prove(&signed(&key(1), header, claims), NOW),
                Err(TokenFault::Form),
                "{header}"
            );
        }
        let unsigned = signed(&key(1), r#"{"alg":"HS256"}"#, claims);
        let (unsigned, _) = unsigned.rsplit_once('.').unwrap();
        assert_eq!(key(1).prove(&format!("{unsigned}."), NOW), Err(TokenFault::Signature));
        assert_eq!(key(1).prove(unsigned, NOW), Err(TokenFault::Form));
    }

    #[test]
    fn claims_of_another_service_are_refused() {
        let claims = |iss: &str, aud: &str, more: &str| {
            format!(
                r#"{{"sub":"u","email":"e","namespace":"alice","iss":"{iss}","aud":"{aud}","iat":0{more}}}"#
            )
        };
        for wrong in [
            claims("other", "sigilum-api", r#","exp":9999999999"#),
            claims("sigilum", "other", r#","exp":9999999999"#),
            claims("sigilum", "sigilum-api", ""),
            claims("sigilum", "sigilum-api", r#","exp":"9999999999""#),
        ] {
            let token = signed(&key(1), HEADER, &wrong);
            assert_eq!(key(1).prove(&token, NOW), Err(TokenFault::Claims), "{wrong}");
        }
    }

    #[test]
    fn short_secret_is_no_key() {
        assert!(TokenKey::new(SecretBytes::new(vec![1; 31])).is_err());
        assert_eq!(format!("{:?}", key(1)), "TokenKey");
    }
}
