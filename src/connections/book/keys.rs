//! What the book keeps besides connections: the gateway's sealing key, services' API keys, the catalog.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::records::{Records, catalog_key, sealing_key, service_key};
use super::{Book, BookFault, Shelf};
use crate::connections::{Catalog, ServiceKeyView};
use crate::names::{ConnectionId, SecretName};
use crate::protocol::sealed::{Destination, Sealed, SealingKey, SealingPublicKey};
use crate::secret::{SecretBytes, SecretString};
use crate::vault::{Batch, Vault, VaultFault};

/// Characters of a service's API key that are shown, and how long it must be for that.
const KEY_SHOWN: usize = 8;
const KEY_LEAST: usize = 24;

impl Book {
    /// Stores a catalog in place of the present one, once [`Catalog::from_json`] has read it.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::Catalog`], and the vault's.
    pub fn set_catalog(&self, catalog: Catalog) -> Result<Arc<Catalog>, BookFault> {
        let shelf = &self.0;
        let bytes = SecretBytes::new(catalog.to_json()?);
        let key = catalog_key().map_err(VaultFault::from)?;
        shelf.vault()?.commit(Batch::new().put(key, bytes))?;
        let catalog = Arc::new(catalog);
        shelf.edit(|page| page.stored_catalog = Some(Arc::clone(&catalog)));
        Ok(catalog)
    }

    /// Whether a service has an API key of its own at the control plane.
    ///
    /// # Errors
    /// [`BookFault::NotFound`].
    pub fn service_key_view(&self, id: &ConnectionId) -> Result<ServiceKeyView, BookFault> {
        self.0.view(id)?;
        let key = self.service_key(id);
        let long = key.as_ref().filter(|key| key.expose().chars().count() >= KEY_LEAST);
        Ok(ServiceKeyView {
            has_key: key.is_some(),
            key_prefix: long.map(|key| key.expose().chars().take(KEY_SHOWN).collect()),
        })
    }

    /// Sets a service's API key.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NotFound`], and the vault's.
    pub fn set_service_key(&self, id: &ConnectionId, key: SecretString) -> Result<ServiceKeyView, BookFault> {
        let shelf = &self.0;
        shelf.view(id)?;
        let value = SecretBytes::new(key.expose().as_bytes().to_vec());
        let address = service_key(id).map_err(VaultFault::from)?;
        shelf.vault()?.commit(Batch::new().put(address, value))?;
        self.service_key_view(id)
    }

    /// A service's API key; `None` where it has none, or it does not authenticate.
    #[must_use]
    pub fn service_key(&self, id: &ConnectionId) -> Option<SecretString> {
        let records = Records(self.0.vault.as_ref()?);
        match records.bytes(&service_key(id).ok()?) {
            Ok(bytes) => SecretString::new(String::from_utf8(bytes?.expose().to_vec()).ok()?).ok(),
            Err(fault) => {
                tracing::error!(%fault, "a service's API key cannot be read");
                None
            }
        }
    }

    /// The public key that secrets are sealed to; `None` without a vault. `id()` is its `gateway_key_id`, `to_string()`
    /// its text.
    #[must_use]
    pub fn sealing_public(&self) -> Option<SealingPublicKey> {
        self.0.sealing.as_ref().map(SealingKey::public)
    }

    /// Opens a secret that was sealed to this gateway. [`SecretInput`](crate::connections::SecretInput) does it by
    /// itself.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::Sealed`], [`BookFault::Secret`].
    pub fn open_sealed(
        &self,
        sealed: &Sealed,
        gateway_id: &str,
        connection: &ConnectionId,
        secret: &SecretName,
    ) -> Result<SecretString, BookFault> {
        let mut text = self.unseal(sealed, gateway_id, Some(connection), secret)?;
        SecretString::new(std::mem::take(&mut *text))
            .map_err(|fault| BookFault::Secret { name: secret.clone(), fault })
    }
}

impl Shelf {
    /// The id that secrets are sealed for.
    pub(super) fn gateway_id(&self) -> Result<&str, BookFault> {
        self.gateway_id.get().map(String::as_str).ok_or(BookFault::NoGatewayId)
    }
}

impl Book {
    /// Opens a sealed secret, as whose hand the book is in may have it opened.
    pub(super) fn unseal(
        &self,
        sealed: &Sealed,
        gateway_id: &str,
        connection: Option<&ConnectionId>,
        secret: &SecretName,
    ) -> Result<Zeroizing<String>, BookFault> {
        let key = self.0.sealing.as_ref().ok_or(BookFault::NoVault)?;
        let text = key
            .open(sealed, Destination { gateway_id, connection, secret })
            .map_err(|fault| BookFault::Sealed { name: secret.to_string(), fault })?;
        self.admit(sealed, secret, &text)?;
        Ok(text)
    }
}

/// The gateway's sealing key, made where there is none. One that does not authenticate is replaced: what was sealed to
/// it and is still on its way is refused, and its sender fetches the new one.
pub(super) fn sealing(vault: &Vault) -> Result<SealingKey, BookFault> {
    let address = sealing_key().map_err(VaultFault::from)?;
    let stored = match vault.get(&address) {
        Ok(bytes) => bytes,
        Err(fault) => {
            tracing::error!(%fault, "the gateway's sealing key cannot be read, so a new one is made");
            None
        }
    };
    let mut key = Zeroizing::new([0; 32]);
    if let Some(bytes) = stored
        && let Ok(bytes) = <&[u8; 32]>::try_from(bytes.expose())
    {
        key.copy_from_slice(bytes);
        return Ok(SealingKey::from_bytes(key));
    }
    getrandom::fill(key.as_mut_slice()).map_err(|_| BookFault::NoRandom)?;
    vault.commit(Batch::new().put(address, SecretBytes::new(key.to_vec())))?;
    Ok(SealingKey::from_bytes(key))
}

/// The catalog that was stored. One that cannot be read leaves the built-in one.
pub(super) fn stored_catalog(vault: &Vault) -> Option<Arc<Catalog>> {
    let bytes = match vault.get(&catalog_key().ok()?) {
        Ok(bytes) => bytes?,
        Err(fault) => {
            tracing::error!(%fault, "the stored service catalog cannot be read");
            return None;
        }
    };
    match Catalog::from_json(bytes.expose()) {
        Ok(catalog) => Some(Arc::new(catalog)),
        Err(fault) => {
            tracing::error!(%fault, "the stored service catalog is not one");
            None
        }
    }
}
