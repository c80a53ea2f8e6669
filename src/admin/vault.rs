//! `/api/admin/vault/rekey`: another master key, without a stop.

use std::path::PathBuf;

use axum::Extension;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use super::Handles;
use super::answer::Json;
use super::audit::{Caller, Line};
use super::body::Sent;
use super::refusal::{Kind, Refusal};
use super::service_keys::opened;
use crate::connections::{BookFault, SecretInput};
use crate::names::ConnectionId;
use crate::vault::{MasterKey, MasterKeySource, PassphraseCost, TextSource};

/// The place that a sealed master key is sealed for.
const PLACE: (&str, &str) = ("vault", "master_key");

/// The new master key: exactly one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rekey {
    /// Where the gateway reads the base64 of 32 bytes: `env:NAME`, `file:/path`, or sealed.
    #[serde(default)]
    master_key: Option<SecretInput>,
    /// Where the gateway reads a passphrase: `env:NAME` or `file:/path`.
    #[serde(default)]
    passphrase: Option<String>,
}

/// What is in force now.
#[derive(Debug, Serialize)]
pub(super) struct Rekeyed {
    master_key_id: String,
    /// What the operator has to do before the next start.
    next: &'static str,
}

pub(super) async fn rekey(
    State(handles): State<Handles>,
    Extension(caller): Extension<Caller>,
    Sent(asked): Sent<Rekey>,
) -> Result<Json<Rekeyed>, Refusal> {
    let Some(vault) = handles.vault.clone() else { return Err(BookFault::NoVault.into()) };
    let whole = tokio::task::spawn_blocking(move || -> Result<String, Refusal> {
        let source = source(&handles, asked)?;
        let id = vault.rekey(&source)?;
        let mut line = Line::of("vault");
        line.after(&json!({ "master_key_id": id.to_string() }));
        line.write(&caller, "vault.rekey", true);
        Ok(id.to_string())
    });
    let master_key_id = whole.await.map_err(|_| Refusal::Internal)??;
    let next =
        "set vault.master_key to the new key before the next start: the old one no longer opens the vault";
    Ok(Json(Rekeyed { master_key_id, next }))
}

fn source(handles: &Handles, asked: Rekey) -> Result<MasterKeySource, Refusal> {
    match (asked.master_key, asked.passphrase) {
        (Some(SecretInput::Plain(text)), None) => {
            reference(&text).map(MasterKeySource::Key).ok_or_else(|| takes("master_key"))
        }
        (Some(sealed), None) => given(handles, sealed),
        (None, Some(text)) => {
            let source = reference(&text).ok_or_else(|| takes("passphrase"))?;
            Ok(MasterKeySource::Passphrase(source, PassphraseCost::default()))
        }
        _ => Err(Refusal::field("master_key", "or passphrase is needed, and not both")),
    }
}

/// Never with the text: it may be the key itself.
fn takes(field: &str) -> Refusal {
    Refusal::field(
        field,
        "takes a reference on the gateway's machine, env:NAME or file:/path, never the key itself",
    )
}

fn reference(text: &str) -> Option<TextSource> {
    match text.split_once(':')? {
        ("env", name) if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty() => {
            Some(TextSource::Env(name.to_owned()))
        }
        ("file", path) if path.starts_with('/') => Some(TextSource::File(PathBuf::from(path))),
        _ => None,
    }
}

fn given(handles: &Handles, sealed: SecretInput) -> Result<MasterKeySource, Refusal> {
    let (place, name) = PLACE;
    let place: ConnectionId = place.parse().map_err(|fault| Refusal::name("id", &fault))?;
    let text = opened(&handles.book, &handles.gateway_id, &place, name, sealed)?;
    let bytes = STANDARD.decode(text.expose()).map(Zeroizing::new);
    let key = bytes.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    let key = key.map(|key| MasterKey::from_bytes(Zeroizing::new(key)));
    key.map(MasterKeySource::Given).ok_or_else(|| {
        Refusal::Told(Kind::MasterKeyInvalid, "a master key is the base64 of 32 random bytes".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn master_key_is_taken_by_reference_only() {
        assert_eq!(reference("env:NEW_KEY"), Some(TextSource::Env("NEW_KEY".into())));
        assert_eq!(reference("file:/run/key"), Some(TextSource::File("/run/key".into())));
        for wrong in ["", "bmV3", "env:", "env:a b", "file:key", "file:", "store", "cmd:ls"] {
            assert_eq!(reference(wrong), None, "{wrong}");
        }
    }
}
