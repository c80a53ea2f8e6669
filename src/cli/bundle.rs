//! What moves between modes: identities, services, connections without their secrets, and claims.
//!
//! Without private keys it is one JSON document. With them it is sealed: the same document, and behind it the identity
//! records, a zero byte before each, which no JSON holds.

use std::io::{Read as _, Write};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Failure;
use crate::protocol::Identity;
use crate::protocol::did::Did;
use crate::secret::SecretString;
use crate::vault::{PassphraseCost, SealedForm};

const FORMAT: &str = "sigilum-export";
const VERSION: u32 = 1;
/// The longest file that is read, in bytes.
const LONGEST: u64 = 256 * 1024 * 1024;

/// The document.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bundle {
    format: String,
    version: u32,
    /// When it was made.
    pub(super) exported_at: String,
    #[serde(default)]
    pub(super) identities: Vec<IdentityEntry>,
    #[serde(default)]
    pub(super) services: Vec<ServiceEntry>,
    /// As the gateway's admin API shows them, in the fields that make one.
    #[serde(default)]
    pub(super) connections: Vec<Value>,
    #[serde(default)]
    pub(super) claims: Vec<ClaimEntry>,
}

/// Who an identity is; its private key is elsewhere.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IdentityEntry {
    pub(super) namespace: String,
    did: String,
    key_id: String,
    pub(super) public_key: String,
}

/// A service, as it was registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ServiceEntry {
    pub(super) slug: String,
    name: String,
    domain: String,
    #[serde(default)]
    description: String,
    mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstream_url: Option<String>,
}

/// A claim that was approved or asked for, to be asked for again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClaimEntry {
    pub(super) claim_id: String,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) public_key: String,
    pub(super) status: String,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    agent_name: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    expires_at: Option<String>,
}

/// A document, and the identities whose private keys are with it.
pub(super) struct Opened {
    pub(super) bundle: Bundle,
    pub(super) identities: Vec<Identity>,
}

impl Bundle {
    /// With nothing in it.
    pub(super) fn new(exported_at: String) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            exported_at,
            identities: Vec::new(),
            services: Vec::new(),
            connections: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// As JSON with a newline at its end.
    pub(super) fn to_json(&self) -> Result<String, Failure> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// Writes it with the private keys of `identities`, sealed under the passphrase.
    pub(super) fn seal(
        &self,
        identities: &[Identity],
        passphrase: &SecretString,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let records: Vec<Zeroizing<String>> =
            identities.iter().map(|identity| Zeroizing::new(identity.to_json())).collect();
        let document = self.to_json()?;
        let length = document.len() + records.iter().map(|record| record.len() + 1).sum::<usize>();
        // As long as it will be, so that no shorter copy is left behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(length));
        plain.extend_from_slice(document.as_bytes());
        for record in &records {
            plain.push(0);
            plain.extend_from_slice(record.as_bytes());
        }
        Ok(SealedForm::MOVE.seal(out, passphrase, PassphraseCost::default(), &plain)?)
    }

    fn from_json(json: &[u8]) -> Result<Self, anyhow::Error> {
        let bundle: Self = serde_json::from_slice(json)?;
        anyhow::ensure!(bundle.format == FORMAT, "its format is not {FORMAT}");
        anyhow::ensure!(
            bundle.version == VERSION,
            "it has version {}; this sigilum reads version {VERSION}",
            bundle.version
        );
        Ok(bundle)
    }
}

impl IdentityEntry {
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            namespace: identity.namespace().to_string(),
            did: Did::of(identity.namespace()).to_string(),
            key_id: identity.key_id().to_string(),
            public_key: identity.public_key().to_string(),
        }
    }
}

impl Opened {
    /// Reads the file; `passphrase` is asked for one only where the file is sealed.
    pub(super) fn read(
        path: &Path,
        passphrase: impl FnOnce() -> Result<SecretString, Failure>,
    ) -> Result<Self, Failure> {
        let named = || format!("{}", path.display());
        let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(LONGEST + 1).read_to_end(&mut bytes).with_context(named)?;
        if bytes.len() as u64 > LONGEST {
            return Err(anyhow::anyhow!("{} has more than 256 MiB: it is no export", path.display()).into());
        }
        let plain = if SealedForm::MOVE.begins(&bytes) {
            SealedForm::MOVE.open(&mut bytes.as_slice(), &passphrase()?).with_context(named)?
        } else {
            bytes
        };
        let mut parts = plain.split(|byte| *byte == 0);
        let document = parts.next().unwrap_or_default();
        let not_one = || format!("{} is no export of `sigilum export`", path.display());
        let bundle = Bundle::from_json(document).with_context(not_one)?;
        let identities = parts.map(|record| {
            let record = std::str::from_utf8(record).with_context(not_one)?;
            Identity::from_json(record).with_context(named)
        });
        Ok(Self { identities: identities.collect::<Result<_, _>>()?, bundle })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;

    #[test]
    fn private_keys_come_back_with_the_passphrase_alone() {
        let identity =
            Identity::create(&"alice".parse().unwrap(), [7; 32], UnixTime::from_secs(1_771_610_666));
        let mut bundle = Bundle::new("2026-02-20T18:04:26Z".to_owned());
        bundle.identities.push(IdentityEntry::of(&identity));
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("export");
        let secret = |text: &str| SecretString::new(text.to_owned()).map_err(Failure::from);
        let mut file = Vec::new();
        let key = *identity.public_key();
        bundle.seal(&[identity], &secret("correct horse").unwrap(), &mut file).unwrap();
        std::fs::write(&path, &file).unwrap();
        let opened = Opened::read(&path, || secret("correct horse")).unwrap();
        assert_eq!(*opened.identities[0].public_key(), key);
        assert_eq!(opened.bundle.identities[0].public_key, key.to_string());
        assert!(Opened::read(&path, || secret("wrong")).is_err());
    }

    #[test]
    fn another_format_or_version_is_refused() {
        for json in [
            "{}",
            r#"{"format":"x","version":1,"exported_at":""}"#,
            r#"{"format":"sigilum-export","version":2,"exported_at":""}"#,
        ] {
            assert!(Bundle::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }
}
