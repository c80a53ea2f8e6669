//! `sigilum vault rekey`: another master key, on the files themselves or through the gateway that has them open.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::super::connection::client::{Access, Client, HEADING};
use super::super::place::Place;
use super::super::{Exit, Failure, Io, Report, private};
use super::{Where, open};
use crate::vault::{MasterKey, MasterKeySource, PassphraseCost, TextSource, Vault, VaultFault, VaultOptions};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("new").args(["new_key_file", "new_passphrase_file"]))]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    at: Where,
    /// The file with the new master key; made with a fresh one where it is not there [default: the vault's own key file
    /// is replaced, where it has one]
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// The file with a passphrase that the new master key is made of
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Where the admin API of the gateway is that has the vault open [default: the local stack's, else
    /// http://127.0.0.1:38101]
    #[arg(long, env = "GATEWAY_ADMIN_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING)]
    gateway_admin_url: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// The new key, where it lies, and where it belongs.
struct New {
    source: Source,
    /// The vault's own key file, which the new one takes the place of.
    replaces: Option<PathBuf>,
}

enum Source {
    Key(PathBuf),
    Passphrase(PathBuf),
}

/// Who changes the key: we, or the gateway that has the vault open.
enum Hands {
    Ours(Vault),
    Gateway(Box<Client>),
}

pub(super) fn run(args: &Args, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let options = args.at.options()?;
    let hands = hands(args, &options, io)?;
    let new = new(args, &options)?;
    let (id, online) = match &hands {
        Hands::Ours(vault) => (vault.rekey(&new.source())?.to_string(), false),
        Hands::Gateway(client) => (rekey_gateway(client, &new)?, true),
    };
    let mut report = Report::new("Master key changed.")
        .field("vault", options.directory().display().to_string())
        .field("master_key_id", id)
        .field("gateway_running", online);
    report = match (&new.replaces, &new.source) {
        (Some(own), Source::Key(file) | Source::Passphrase(file)) => {
            put_in_place(file, own)?;
            report.field("key_file", own.display().to_string())
        }
        (None, Source::Key(file)) => {
            report.field("next", format!("set vault.master_key: file:{}", file.display()))
        }
        (None, Source::Passphrase(file)) => {
            report.field("next", format!("set vault.passphrase: file:{}", file.display()))
        }
    };
    report.write(&mut io.out, args.at.json)?;
    Ok(Exit::Done)
}

/// Before any key is made: what cannot be done leaves nothing behind.
fn hands(args: &Args, options: &VaultOptions, io: &mut Io<'_>) -> Result<Hands, Failure> {
    match open(options) {
        Ok(vault) => return Ok(Hands::Ours(vault)),
        Err(failure) if failure.is(|fault: &VaultFault| matches!(fault, VaultFault::InUse { .. })) => {}
        Err(failure) => return Err(failure),
    }
    let url = Place::here(None)?.own_admin_url(args.gateway_admin_url.as_deref());
    let client = Client::new(&url, &args.access, io)?;
    let facts = client.get("/api/admin/gateway")?;
    let its = facts.pointer("/vault/directory").and_then(Value::as_str).unwrap_or_default();
    let same = |path: &Path| path.canonicalize().ok();
    if same(Path::new(its)) == same(options.directory()) {
        return Ok(Hands::Gateway(Box::new(client)));
    }
    let sentence = anyhow::anyhow!(
        "the vault {} is open in a gateway, and the one at {url} has another vault",
        options.directory().display()
    );
    Err(Failure::from(sentence).hint("name the right one with --gateway-admin-url URL"))
}

fn new(args: &Args, options: &VaultOptions) -> Result<New, Failure> {
    if let Some(file) = &args.new_passphrase_file {
        return Ok(New { source: Source::Passphrase(absolute(file)?), replaces: None });
    }
    if let Some(file) = &args.new_key_file {
        let file = absolute(file)?;
        if !file.exists() {
            make_key(&file)?;
        }
        return Ok(New { source: Source::Key(file), replaces: None });
    }
    let own = options.generated_key().ok_or_else(|| {
        Failure::usage("the configuration names the master key, so its successor must be named too")
            .hint("name a file with --new-key-file FILE; it is made where it is not there")
    })?;
    let own = absolute(own)?;
    let next = own.with_extension("key.next");
    if next.exists() {
        // It may be the key in force, so it is neither used nor replaced.
        let sentence = anyhow::anyhow!("{} is there: an earlier rekey was cut off", next.display());
        let hint = format!(
            "where the gateway does not start with {own}, it is the key in force: move it there; else remove it",
            own = own.display()
        );
        return Err(Failure::from(sentence).hint(hint));
    }
    make_key(&next)?;
    Ok(New { source: Source::Key(next), replaces: Some(own) })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path).with_context(|| format!("{}", path.display()))?)
}

fn make_key(file: &Path) -> Result<(), Failure> {
    let key = MasterKey::generate()?.to_base64();
    private::write(file, format!("{}\n", key.as_str()).as_bytes())
}

impl New {
    fn source(&self) -> MasterKeySource {
        match &self.source {
            Source::Key(file) => MasterKeySource::Key(TextSource::File(file.clone())),
            Source::Passphrase(file) => {
                MasterKeySource::Passphrase(TextSource::File(file.clone()), PassphraseCost::default())
            }
        }
    }
}

/// The gateway reads the file itself, so it must be on this machine.
fn rekey_gateway(client: &Client, new: &New) -> Result<String, Failure> {
    let body = match &new.source {
        Source::Key(file) => json!({ "master_key": format!("file:{}", file.display()) }),
        Source::Passphrase(file) => json!({ "passphrase": format!("file:{}", file.display()) }),
    };
    let answer = client.post("/api/admin/vault/rekey", &body)?;
    let id = answer.get("master_key_id").and_then(Value::as_str).map(str::to_owned);
    Ok(id.context("the gateway does not say which master key is in force")?)
}

fn put_in_place(next: &Path, own: &Path) -> Result<(), Failure> {
    let moved = std::fs::rename(next, own).and_then(|()| match own.parent() {
        Some(directory) => private::sync(directory),
        None => Ok(()),
    });
    Ok(moved.with_context(|| {
        format!("the new key is in force, and {} could not be moved to {}", next.display(), own.display())
    })?)
}
