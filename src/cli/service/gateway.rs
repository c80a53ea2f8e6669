//! The connection of a service at its gateway: over the admin API of a running one, else in its vault.

use serde_json::{Map, Value, json};

use super::super::connection;
use super::super::connection::client::{Access, Client};
use super::offline::{Fallback, Shelf};
use super::{Exit, Failure, Io};
use crate::names::{ConnectionId, SecretName};
use crate::secret::SecretString;

/// How the secret goes to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum AuthMode {
    /// As `Authorization: Bearer …`
    Bearer,
    /// In a header of its own
    HeaderKey,
    /// As a parameter of the query
    QueryParam,
}

/// A connection as it is to be.
pub(super) struct Wanted<'a> {
    pub(super) id: &'a ConnectionId,
    pub(super) name: &'a str,
    pub(super) base_url: &'a str,
    pub(super) auth_mode: AuthMode,
    pub(super) header: Option<&'a str>,
    pub(super) prefix: Option<&'a str>,
    pub(super) secret_key: &'a SecretName,
}

/// Where connections are written.
pub(super) enum Gateway {
    /// A gateway that runs.
    Running(Box<Client>),
    /// The vault of one that does not.
    Stopped(Shelf),
}

impl AuthMode {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::HeaderKey => "header_key",
            Self::QueryParam => "query_param",
        }
    }

    /// The name of the secret where none is said.
    pub(super) fn secret_key(self) -> &'static str {
        match self {
            Self::Bearer => "access_token",
            Self::HeaderKey | Self::QueryParam => "api_key",
        }
    }
}

impl Gateway {
    /// The gateway that answers at `url`; where none does, the vault of `fallback`, if one is named.
    pub(super) fn find(
        url: &str,
        access: &Access,
        fallback: &Fallback,
        io: &mut Io<'_>,
    ) -> Result<Self, Failure> {
        let client = Client::new(url, access, io)?;
        match (client.get("/api/admin/gateway"), fallback.data_dir()) {
            (Ok(_), _) => Ok(Self::Running(Box::new(client))),
            (Err(failure), Some(data_dir)) if failure.exit() == Exit::NotReachable => {
                fallback.open(&data_dir, io).map(Self::Stopped)
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// The connection of this id, where there is one.
    pub(super) fn view(&self, id: &ConnectionId) -> Result<Option<Value>, Failure> {
        match self {
            Self::Running(client) => connection::find(client, id),
            Self::Stopped(shelf) => shelf.view(id),
        }
    }

    /// Makes the connection, or changes the one that stands; gives it as it is then. Without a secret it keeps what it
    /// has.
    pub(super) fn put(
        &self,
        wanted: &Wanted<'_>,
        stands: bool,
        secret: Option<SecretString>,
        io: &mut Io<'_>,
    ) -> Result<Value, Failure> {
        let mut body = wanted.to_json(stands);
        if let Some(secret) = secret {
            let secrets = match self {
                Self::Running(client) => {
                    connection::on_its_way(client, wanted.id, wanted.secret_key, secret, io)?
                }
                Self::Stopped(_) => Map::from_iter([(wanted.secret_key.to_string(), json!(secret.expose()))]),
            };
            body.insert("secrets".to_owned(), secrets.into());
        }
        match self {
            Self::Running(client) => connection::put(client, wanted.id, stands, &body.into()),
            Self::Stopped(shelf) => shelf.put(wanted.id, stands, body.into()),
        }
    }

    /// Gives the gateway the service's key at the control plane.
    pub(super) fn put_service_key(
        &self,
        id: &ConnectionId,
        key: SecretString,
        io: &mut Io<'_>,
    ) -> Result<(), Failure> {
        match self {
            Self::Running(client) => connection::put_service_key(client, id, key, io),
            Self::Stopped(shelf) => shelf.put_service_key(id, key),
        }
    }
}

impl Wanted<'_> {
    /// As the API takes it. Of a connection that stands, what is not said gets its default.
    fn to_json(&self, stands: bool) -> Map<String, Value> {
        let mut body = Map::from_iter([
            ("name".to_owned(), json!(self.name)),
            ("base_url".to_owned(), json!(self.base_url)),
            ("auth_mode".to_owned(), json!(self.auth_mode.word())),
            ("auth_secret_key".to_owned(), json!(self.secret_key.as_str())),
        ]);
        for (name, said) in [("auth_header_name", self.header), ("auth_prefix", self.prefix)] {
            if said.is_some() || stands {
                body.insert(name.to_owned(), json!(said));
            }
        }
        if !stands {
            body.insert("id".to_owned(), json!(self.id.as_str()));
        }
        body
    }
}
