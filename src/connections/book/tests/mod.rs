//! The book over a real vault in a temporary directory.

mod configured;
mod connections;
mod keys;
mod paired;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::clock::UnixTime;
use crate::connections::{
    Auth, ConnectionPatch, Endpoint, NewConnection, NewVariable, Place, Rotation, SecretSource, TestOutcome,
};
use crate::protocol::sealed::Destination;
use crate::secret::SecretString;
use crate::vault::{MasterKey, MasterKeySource, VaultOptions};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// A directory with a vault, opened as often as a test likes.
struct Room {
    directory: TempDir,
    clock: Clock,
}

impl Room {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: Clock::fixed(NOW) }
    }

    fn vault(&self) -> Vault {
        let key = MasterKeySource::Given(MasterKey::from_bytes(Zeroizing::new([1; 32])));
        Vault::open(&VaultOptions::new(&self.directory.path().join("vault"), key)).unwrap()
    }

    fn book(&self, configured: Vec<Connection>) -> Book {
        Book::open(configured, Some(self.vault()), self.clock.clone()).unwrap().of_gateway("acme")
    }

    fn later(&self, by: Duration) {
        self.clock.set(self.clock.now().plus(by));
    }
}

fn new(json: &str) -> NewConnection {
    serde_json::from_str(json).unwrap()
}

fn patch(json: &str) -> ConnectionPatch {
    serde_json::from_str(json).unwrap()
}

fn rotation(json: &str) -> Rotation {
    serde_json::from_str(json).unwrap()
}

fn variable(key: &str, value: &str) -> NewVariable {
    NewVariable { key: key.into(), value: value.to_owned().into(), created_by_subject: None }
}

fn id(text: &str) -> ConnectionId {
    text.parse().unwrap()
}

const OPENAI: &str =
    r#"{"id":"openai","base_url":"https://api.openai.com","secrets":{"api_key":"sk-canary-1"}}"#;

fn openai(book: &Book) {
    book.create(new(OPENAI)).unwrap();
}

fn live(book: &Book, name: &str) -> Arc<LiveConnection> {
    book.live().into_iter().find(|live| live.config().id.as_str() == name).unwrap()
}

/// What a request of the connection carries, or why none does.
fn injected(live: &LiveConnection) -> Result<String, String> {
    let shown = |place: &Place| match place {
        Place::Header(name, value) => format!("{name}: {}", value.to_str().unwrap()),
        Place::Query(_, pair) => pair.expose().to_owned(),
        Place::Path(part) => part.expose().to_owned(),
    };
    Ok(live.credential()?.map_or_else(String::new, |credential| shown(credential.place())))
}

/// A connection of the YAML.
fn configured(name: &str, secret: SecretSource) -> Connection {
    let mut connection = Connection::named(id(name));
    connection.endpoints = vec![Endpoint { url: "https://yaml.example".parse().unwrap(), weight: 1 }];
    connection.auth = Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() };
    connection.secret = Some(secret);
    connection
}
