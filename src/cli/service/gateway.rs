//! The connection of a service at its gateway: over the admin API of a running one, else in its vault.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::connection;
use super::super::connection::client::{Access, Client};
use super::offline::{Fallback, Shelf};
use super::{Exit, Failure, Io};
use crate::clock::Clock;
use crate::names::{ConnectionId, SecretName};
use crate::secret::SecretString;

/// How long a gateway may take to receive the claims of a service that it has just got the key of.
const CLAIMS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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

/// A connection as it is to be; of one that stands, what is not said stays.
pub(super) struct Wanted<'a> {
    pub(super) id: &'a ConnectionId,
    pub(super) stands: bool,
    pub(super) name: Option<&'a str>,
    pub(super) base_url: Option<&'a str>,
    pub(super) auth_mode: Option<AuthMode>,
    /// Whether the mode is another one than the connection has, whose header and prefix then go with it.
    pub(super) changes_mode: bool,
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
        secret: Option<SecretString>,
        io: &mut Io<'_>,
    ) -> Result<Value, Failure> {
        let (mut body, stands) = (wanted.to_json(), wanted.stands);
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

    /// Waits until a running gateway has received the service's claims, so that the next call is decided by them.
    /// Where they do not come in time: why not.
    pub(super) fn await_claims(&self, id: &ConnectionId) -> Option<String> {
        let Self::Running(client) = self else { return None };
        let clock = Clock::system();
        let until = clock.instant() + CLAIMS;
        loop {
            let known = match connection::service_key(client, id) {
                Ok(known) => known,
                Err(failure) => return Some(failure.sentence()),
            };
            let missing = missing_claims(&known)?;
            if clock.instant() >= until {
                return Some(missing);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Why the claims of a service are not received, where that is so; `known` is what the gateway tells of the service by its
/// key. A gateway that asks no control plane waits for none.
pub(in crate::cli) fn missing_claims(known: &Value) -> Option<String> {
    let claims = known.get("claims").filter(|claims| claims.is_object())?;
    let is = |name: &str| claims.get(name) == Some(&Value::Bool(true));
    let problem =
        claims.get("problem").and_then(Value::as_str).unwrap_or("the control plane was not heard yet");
    (!is("received") || !is("connected")).then(|| problem.to_owned())
}

impl Wanted<'_> {
    /// As the API takes it; null gives a field its default.
    fn to_json(&self) -> Map<String, Value> {
        let mut body = Map::from_iter([("auth_secret_key".to_owned(), json!(self.secret_key.as_str()))]);
        let said = [
            ("name", self.name),
            ("base_url", self.base_url),
            ("auth_mode", self.auth_mode.map(AuthMode::word)),
            ("auth_header_name", self.header),
            ("auth_prefix", self.prefix),
            ("id", Some(self.id.as_str()).filter(|_| !self.stands)),
        ];
        for (name, said) in said {
            let of_mode = matches!(name, "auth_header_name" | "auth_prefix");
            if said.is_some() || (of_mode && self.changes_mode) {
                body.insert(name.to_owned(), json!(said));
            }
        }
        body
    }
}
