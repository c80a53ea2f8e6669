//! Secrets from the environment, files and standard input, and sealed on their way to a gateway elsewhere.

use std::collections::BTreeMap;
use std::io::{self, Read};

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::super::{Failure, Io};
use super::client::Client;
use crate::names::{ConnectionId, SecretName};
use crate::protocol::sealed::{Destination, SealingPublicKey};
use crate::secret::SecretString;

const HEADING: &str = "Secrets";
const LONGEST_BYTES: usize = 64 * 1024;

/// Where secrets come from.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SecretArgs {
    /// Take a secret from an environment variable
    #[arg(long, value_name = "KEY=NAME", help_heading = HEADING)]
    secret_env: Vec<String>,
    /// Take a secret from a file
    #[arg(long, value_name = "KEY=FILE", help_heading = HEADING)]
    secret_file: Vec<String>,
    /// Take a secret from standard input
    #[arg(long, value_name = "KEY", help_heading = HEADING)]
    secret_stdin: Option<String>,
    /// Refer to a shared credential variable of the gateway
    #[arg(long, value_name = "KEY=VARIABLE", help_heading = HEADING)]
    secret_variable: Vec<String>,
    /// Give a secret on the command line, where other users and the shell's history see it
    #[arg(long, value_name = "KEY=VALUE", help_heading = HEADING)]
    secret: Vec<String>,
    #[command(flatten)]
    sealing: Sealing,
}

/// To whom secrets are sealed.
#[derive(Debug, Default, clap::Args)]
pub(in crate::cli) struct Sealing {
    /// Seal secrets also to a gateway on this machine
    #[arg(long, help_heading = HEADING)]
    seal: bool,
    /// The gateway's sealing key as you know it, `x25519:…`; another one is refused
    #[arg(long, value_name = "KEY", help_heading = HEADING)]
    sealing_key: Option<String>,
}

/// One secret on its way.
enum Found {
    Value(SecretString),
    Variable(String),
}

/// Secrets by name.
pub(super) struct Secrets(BTreeMap<SecretName, Found>);

impl SecretArgs {
    /// Reads all of them. No fault repeats a value.
    pub(super) fn read(&self, io: &mut Io<'_>) -> Result<Secrets, Failure> {
        let mut found = Secrets(BTreeMap::new());
        for argument in &self.secret_env {
            let (key, name) = pair(argument, "--secret-env", "KEY=NAME")?;
            found.add(key, Found::Value(from_env(name)?))?;
        }
        for argument in &self.secret_file {
            let (key, path) = pair(argument, "--secret-file", "KEY=FILE")?;
            found.add(key, Found::Value(from_file(path)?))?;
        }
        if let Some(key) = &self.secret_stdin {
            found.add(key, Found::Value(from_input(&format!("Secret {key}"), io)?))?;
        }
        for argument in &self.secret_variable {
            let (key, variable) = pair(argument, "--secret-variable", "KEY=VARIABLE")?;
            found.add(key, Found::Variable(variable.to_owned()))?;
        }
        for argument in &self.secret {
            let (key, value) = pair(argument, "--secret", "KEY=VALUE")?;
            warn_of_typed(io)?;
            found.add(key, Found::Value(SecretString::new(value.to_owned())?))?;
        }
        Ok(found)
    }

    pub(super) fn sealing(&self) -> &Sealing {
        &self.sealing
    }
}

/// Says what typing a secret does.
pub(in crate::cli) fn warn_of_typed(io: &mut Io<'_>) -> Result<(), Failure> {
    writeln!(
        io.err,
        "warning: a secret on the command line is seen by other users and kept in the shell's history; use an environment variable or a file"
    )?;
    Ok(())
}

fn pair<'a>(argument: &'a str, flag: &str, form: &str) -> Result<(&'a str, &'a str), Failure> {
    argument.split_once('=').ok_or_else(|| Failure::usage(format!("{flag} takes {form}")))
}

/// A secret from an environment variable.
pub(in crate::cli) fn from_env(name: &str) -> Result<SecretString, Failure> {
    let text = std::env::var(name)
        .map_err(|_| Failure::usage(format!("the environment variable {name:?} is not set")))?;
    Ok(SecretString::new(text).with_context(|| format!("the environment variable {name:?}"))?)
}

/// A secret from a file.
pub(in crate::cli) fn from_file(path: &str) -> Result<SecretString, Failure> {
    let read = std::fs::File::open(path).and_then(|mut file| whole(&mut file));
    let bytes = read.with_context(|| format!("the file {path:?} cannot be read"))?;
    secret(&bytes).with_context(|| format!("the file {path:?}")).map_err(Into::into)
}

/// A secret from standard input: all of it, or, where that is a terminal, a line that is asked for as `what`.
pub(in crate::cli) fn from_input(what: &str, io: &mut Io<'_>) -> Result<SecretString, Failure> {
    let read = match &mut io.terminal {
        Some(terminal) => terminal.ask(what, io.input, io.err),
        None => whole(io.input),
    };
    let bytes = read.context("the secret cannot be read from standard input")?;
    secret(&bytes).context("standard input").map_err(Into::into)
}

/// All that `from` gives, and no more than one byte beyond the longest secret.
fn whole(from: &mut dyn Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // With its room from the start it is never moved, and no copy of it stays behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_BYTES + 1));
    from.take(LONGEST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn secret(bytes: &[u8]) -> Result<SecretString, anyhow::Error> {
    anyhow::ensure!(bytes.len() <= LONGEST_BYTES, "it is longer than 64 KiB, and no secret is");
    let text = std::str::from_utf8(bytes).context("it is not UTF-8")?;
    Ok(SecretString::new(text.to_owned())?)
}

impl Secrets {
    /// One secret alone.
    pub(super) fn one(name: &SecretName, value: SecretString) -> Self {
        Self(BTreeMap::from([(name.clone(), Found::Value(value))]))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, key: &str, found: Found) -> Result<(), Failure> {
        let name: SecretName = key.parse().map_err(Failure::usage)?;
        match self.0.insert(name, found) {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!("the secret {key} is given twice"))),
        }
    }

    /// As the API takes them: sealed where the gateway is elsewhere.
    pub(super) fn to_json(
        &self,
        client: &Client,
        connection: &ConnectionId,
        sealing: &Sealing,
        io: &mut Io<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let sealed = client.is_remote() || sealing.seal || sealing.sealing_key.is_some();
        let values = self.0.values().any(|found| matches!(found, Found::Value(_)));
        let gateway = if sealed && values { Some(Gateway::ask(client, sealing, io)?) } else { None };
        let mut json = Map::new();
        for (name, found) in &self.0 {
            let value = match (found, &gateway) {
                (Found::Variable(variable), _) => json!(format!("{{{{{variable}}}}}")),
                (Found::Value(secret), Some(gateway)) => gateway.seal(connection, name, secret)?,
                (Found::Value(secret), None) => json!(secret.expose()),
            };
            json.insert(name.to_string(), value);
        }
        Ok(json)
    }
}

/// What a secret is sealed for.
struct Gateway {
    id: String,
    key: SealingPublicKey,
}

impl Gateway {
    fn ask(client: &Client, sealing: &Sealing, io: &mut Io<'_>) -> Result<Self, Failure> {
        let facts = client.get("/api/admin/gateway")?;
        let text = |pointer: &str| facts.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let id = text("/id").context("the gateway does not say its id")?;
        let told = text("/sealing_key/public_key")
            .context("the gateway has no sealing key; it needs a vault: set vault.master_key")?;
        let key: SealingPublicKey = told.parse()?;
        match &sealing.sealing_key {
            Some(known) if known.parse::<SealingPublicKey>()? != key => {
                let fault = anyhow::anyhow!(
                    "the gateway says that its sealing key is {key}, which is not the one given"
                );
                return Err(Failure::from(fault).hint("nothing was sent; ask the gateway's operator"));
            }
            None if client.is_unproven() => writeln!(
                io.err,
                "warning: the gateway's sealing key came over plain HTTP and may be another's; pass --sealing-key, or use https"
            )?,
            _ => {}
        }
        Ok(Self { id, key })
    }

    fn seal(
        &self,
        connection: &ConnectionId,
        name: &SecretName,
        secret: &SecretString,
    ) -> Result<Value, Failure> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())
            .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
        let destination = Destination { gateway_id: &self.id, connection: Some(connection), secret: name };
        let sealed = self.key.seal(secret.expose(), destination, seed)?;
        Ok(json!({ "sealed": sealed }))
    }
}
