//! `sigilum vault`: the gateway's store of secrets.

mod rekey;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::gateway::usual_data_dir;
use super::passphrase::Passphrase;
use super::place::{Place, variable};
use super::{Exit, Failure, Io, Report, private};
use crate::config::{self, Mode, Settings};
use crate::vault::{Existing, PassphraseCost, RecordKey, Vault, VaultOptions};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Change the master key, also while the gateway runs
    Rekey(rekey::Args),
    /// Prove that nothing is lost, altered or from earlier; the gateway must not run
    Verify(Verify),
    /// Write every secret to one file, sealed under a passphrase; the gateway must not run
    Export(Export),
    /// Read such a file; the gateway must not run
    Import(Import),
}

/// Which vault.
#[derive(Debug, clap::Args)]
struct Where {
    /// The gateway's configuration; without it the defaults and the environment decide
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    at: Where,
    /// Go on with what is left of a damaged vault, and say what is gone
    #[arg(long)]
    accept_loss: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    at: Where,
    /// The file to write; it must not be there
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    #[command(flatten)]
    at: Where,
    /// The file to read
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// What becomes of records that are in both
    #[arg(long, value_enum, default_value_t = Both::Refuse)]
    existing: Both,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Both {
    /// The vault must be empty
    Refuse,
    /// Those of the vault stay
    Keep,
    /// Those of the file replace them
    Replace,
}

impl Where {
    /// The vault that the configuration names.
    fn options(&self) -> Result<VaultOptions, Failure> {
        let env = &config::process_environment;
        let settings = match &self.config {
            Some(file) => config::load_file(file, env)?,
            None => {
                let local = usual_data_dir(Place::here(None)?.mode());
                let local = local.as_deref().and_then(Path::to_str);
                let usual = |name: &str| {
                    variable(name).or_else(|| local.filter(|_| name == "GATEWAY_DATA_DIR").map(str::to_owned))
                };
                Settings::defaults(Mode::OssLocal, &usual)?
            }
        };
        settings.vault.ok_or_else(|| {
            Failure::from(anyhow::anyhow!("this configuration has no vault"))
                .hint("set vault.master_key, or the variable GATEWAY_MASTER_KEY")
        })
    }
}

/// Opens a vault that is there; opening would make it.
fn open(options: &VaultOptions) -> Result<Vault, Failure> {
    Ok(Vault::open(standing(options)?)?)
}

/// These, where there is a vault.
fn standing(options: &VaultOptions) -> Result<&VaultOptions, Failure> {
    let directory = options.directory();
    if directory.exists() {
        return Ok(options);
    }
    Err(Failure::from(anyhow::anyhow!("there is no vault at {}", directory.display())).hint(
        "name the gateway's configuration with --config FILE, or go to the directory of the local stack",
    ))
}

pub(super) fn run(command: &Command, io: &mut Io<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Rekey(args) => rekey::run(args, io),
        Command::Verify(args) if args.accept_loss => accept_loss(args, io),
        Command::Verify(args) => verify(args, io),
        Command::Export(args) => export(args, io),
        Command::Import(args) => import(args, io),
    }
}

fn verify(args: &Verify, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let options = args.at.options()?;
    let verified = Vault::verify(standing(&options)?)?;
    let whole = verified.unreadable.is_empty();
    let title = if whole { "The vault holds." } else { "The vault holds, but for records that do not open." };
    Report::new(title)
        .field("vault", options.directory().display().to_string())
        .field("records", verified.records)
        .field("writes", verified.writes)
        .field("unreadable", names(&verified.unreadable))
        .write(&mut io.out, args.at.json)?;
    Ok(if whole { Exit::Done } else { Exit::Failed })
}

fn accept_loss(args: &Verify, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let options = args.at.options()?;
    let losses = Vault::accept_loss(standing(&options)?)?;
    let title = if losses.is_none() { "Nothing is lost." } else { "The vault goes on with what is left." };
    Report::new(title)
        .field("vault", options.directory().display().to_string())
        .field("records", losses.records)
        .field("mended", names(&losses.mended))
        .field("gone", names(&losses.gone))
        .field("unproven", names(&losses.unproven))
        .field("unknown_writes", losses.unknown_writes)
        .write(&mut io.out, args.at.json)?;
    Ok(Exit::Done)
}

fn names(keys: &[RecordKey]) -> serde_json::Value {
    json!(keys.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn export(args: &Export, io: &mut Io<'_>) -> Result<Exit, Failure> {
    if args.out.exists() {
        let sentence = anyhow::anyhow!("{} is there already", args.out.display());
        return Err(Failure::from(sentence).hint("name another file, or remove it"));
    }
    let passphrase = args.passphrase.read(io)?;
    let vault = open(&args.at.options()?)?;
    let mut records = 0;
    private::create(&args.out, |file| {
        records = vault.export(file, &passphrase, PassphraseCost::default())?;
        Ok(())
    })?;
    Report::new("Vault exported.")
        .field("file", args.out.display().to_string())
        .field("records", records)
        .write(&mut io.out, args.at.json)?;
    Ok(Exit::Done)
}

fn import(args: &Import, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let passphrase = args.passphrase.read(io)?;
    let mut file = read(&args.file)?;
    let options = args.at.options()?;
    let existing = match args.existing {
        Both::Refuse => Existing::Refuse,
        Both::Keep => Existing::Keep,
        Both::Replace => Existing::Replace,
    };
    let imported = Vault::open(&options)?.import(&mut file, &passphrase, existing)?;
    Report::new("Vault imported.")
        .field("vault", options.directory().display().to_string())
        .field("added", imported.added)
        .field("replaced", imported.replaced)
        .field("kept", imported.kept)
        .write(&mut io.out, args.at.json)?;
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<std::fs::File, Failure> {
    Ok(std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?)
}
