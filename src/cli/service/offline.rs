//! The vault of a gateway that does not run.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::connection::client::HEADING;
use super::super::connection::secrets::warn_of_typed;
use super::super::place::variable;
use super::{Failure, Io};
use crate::clock::Clock;
use crate::connections::{Book, BookFault, ConnectionPatch, NewConnection};
use crate::names::ConnectionId;
use crate::secret::SecretString;
use crate::vault::{MasterKey, MasterKeySource, TextSource, Vault, VaultFault, VaultOptions};

const MASTER_KEY_VARIABLE: &str = "GATEWAY_MASTER_KEY";

/// Where the vault is, should no gateway answer.
#[derive(Debug, clap::Args)]
pub(super) struct Fallback {
    /// The data directory of the gateway, whose vault is written where no gateway answers [default: GATEWAY_DATA_DIR]
    #[arg(long, value_name = "DIR", help_heading = HEADING)]
    gateway_data_dir: Option<PathBuf>,
    /// The vault's master key, where other users and the shell's history see it [default: GATEWAY_MASTER_KEY, else the
    /// key file in the data directory]
    #[arg(long, value_name = "KEY", help_heading = HEADING)]
    gateway_master_key: Option<String>,
}

/// The connections in a vault that no gateway has open.
pub(super) struct Shelf(Book);

impl Fallback {
    /// The data directory, where one is named.
    pub(super) fn data_dir(&self) -> Option<PathBuf> {
        self.gateway_data_dir.clone().or_else(|| variable("GATEWAY_DATA_DIR").map(PathBuf::from))
    }

    /// Whether one of its flags is said.
    pub(super) fn is_said(&self) -> bool {
        self.gateway_data_dir.is_some() || self.gateway_master_key.is_some()
    }

    /// Opens the vault in `data_dir`; a vault that is not there is not made, since that could be a slip of the pen.
    pub(super) fn open(&self, data_dir: &Path, io: &mut Io<'_>) -> Result<Shelf, Failure> {
        let directory = data_dir.join("vault");
        if !directory.exists() {
            let sentence =
                anyhow::anyhow!("no gateway answers, and there is no vault at {}", directory.display());
            return Err(Failure::from(sentence).hint("start the gateway with `sigilum gateway start`"));
        }
        let options = VaultOptions::new(&directory, self.master_key(data_dir, io)?);
        let vault = Vault::open(&options).map_err(|fault| match fault {
            fault @ VaultFault::InUse { .. } => Failure::from(fault)
                .hint("a gateway runs on it: name its admin API with --gateway-admin-url URL"),
            fault => fault.into(),
        })?;
        Ok(Shelf(Book::open(Vec::new(), Some(vault), Clock::system())?))
    }

    fn master_key(&self, data_dir: &Path, io: &mut Io<'_>) -> Result<MasterKeySource, Failure> {
        if let Some(typed) = &self.gateway_master_key {
            warn_of_typed(io)?;
            let bytes = BASE64_STANDARD.decode(typed.trim()).map(Zeroizing::new).ok();
            let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()).map(Zeroizing::new);
            let key =
                key.ok_or_else(|| Failure::usage("--gateway-master-key takes the base64 of 32 bytes"))?;
            return Ok(MasterKeySource::Given(MasterKey::from_bytes(key)));
        }
        Ok(match variable(MASTER_KEY_VARIABLE) {
            Some(_) => MasterKeySource::Key(TextSource::Env(MASTER_KEY_VARIABLE.to_owned())),
            None => MasterKeySource::Generated(data_dir.join("vault.key")),
        })
    }
}

impl Shelf {
    pub(super) fn view(&self, id: &ConnectionId) -> Result<Option<Value>, Failure> {
        match self.0.connection(id) {
            Ok(view) => Ok(Some(serde_json::to_value(view)?)),
            Err(BookFault::NotFound(_)) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    pub(super) fn put(&self, id: &ConnectionId, stands: bool, body: Value) -> Result<Value, Failure> {
        let view = if stands {
            // No request is under way that could still use what was replaced.
            self.0.update(id, serde_json::from_value::<ConnectionPatch>(body)?)?.now
        } else {
            self.0.create(serde_json::from_value::<NewConnection>(body)?)?
        };
        Ok(serde_json::to_value(view)?)
    }

    pub(super) fn put_service_key(&self, id: &ConnectionId, key: SecretString) -> Result<(), Failure> {
        self.0.set_service_key(id, key)?;
        Ok(())
    }
}
