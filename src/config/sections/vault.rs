//! `vault` and `rotation`: the gateway's own store of secrets, and how old they may become.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DAY;
use crate::config::reader::{Reader, Section};
use crate::config::reference::{LITERAL, Referred};
use crate::policy::{RotationEnforcement, RotationPolicy};
use crate::vault::{MasterKeySource, PassphraseCost, TextSource, VaultOptions};

const TAKES: &str =
    "a reference to a key, such as env:GATEWAY_MASTER_KEY, file:/path or command:/path/to/helper";

/// Reads `vault`; `None`: this gateway has none. Where it is `usual`, on one machine for its user and without a file, there
/// is one by default, whose key is made beside it at the first start.
pub(in crate::config) fn vault(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    usual: bool,
    data_dir: &Path,
) -> Option<VaultOptions> {
    let section = root.section(reader, "vault");
    let key = source(reader, &section, "master_key");
    let passphrase = source(reader, &section, "passphrase");
    let anchor = section.directory(reader, "anchor");
    if let Some(anchor) = anchor.as_deref().filter(|anchor| anchor.starts_with(data_dir)) {
        let message = format!(
            "{} lies in data_dir, so an older copy of the whole would bring its own; keep it elsewhere",
            anchor.display()
        );
        section.error(reader, "anchor", message);
    }
    let given = section.has("master_key") || section.has("passphrase");
    if section.has("master_key") && section.has("passphrase") {
        section.error(reader, "passphrase", "stands beside master_key; leave one of them out");
    }
    let source = match (key, passphrase) {
        (Some(key), _) => MasterKeySource::Key(key),
        (None, Some(passphrase)) => MasterKeySource::Passphrase(passphrase, PassphraseCost::default()),
        (None, None) if usual && !given => MasterKeySource::Generated(data_dir.join("vault.key")),
        (None, None) => {
            if root.has("vault") && !given {
                section.need(
                    reader,
                    "master_key",
                    "is needed: where the master key is read from, such as env:GATEWAY_MASTER_KEY",
                );
            }
            return None;
        }
    };
    let options = VaultOptions::new(&data_dir.join("vault"), source);
    Some(match anchor {
        Some(anchor) => options.anchored_at(&anchor),
        None => options,
    })
}

/// `env:NAME`, `file:/path` or `command:/path/to/program argument …`.
fn source(reader: &mut Reader<'_>, section: &Section<'_>, key: &str) -> Option<TextSource> {
    let source = section.parsed(reader, key, TAKES, &parse)?;
    let source = match source {
        TextSource::File(path) => TextSource::File(reader.located(section.place_of(key), path)),
        other => other,
    };
    section.refer(reader, key, Referred::MasterKey(source.clone()));
    Some(source)
}

/// No sentence repeats the text, since what is no reference may be the key itself.
fn parse(text: &str) -> Result<TextSource, String> {
    let plain =
        |rest: &str| !rest.is_empty() && !rest.starts_with('~') && !rest.chars().any(char::is_control);
    match text.split_once(':') {
        Some(("env", name)) if is_variable(name) => Ok(TextSource::Env(name.to_owned())),
        Some(("file", path)) if plain(path) => Ok(TextSource::File(PathBuf::from(path))),
        Some(("command", line)) if plain(line) && line.starts_with('/') => {
            Ok(TextSource::Command(line.split_whitespace().map(OsString::from).collect()))
        }
        Some(("command", _)) => {
            Err("command: takes the absolute path of a program, and its arguments with blanks between"
                .to_owned())
        }
        Some(("env" | "file", _)) => Err(format!("takes {TAKES}")),
        _ => Err(LITERAL.to_owned()),
    }
}

fn is_variable(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Reads `rotation`.
pub(in crate::config) fn rotation(reader: &mut Reader<'_>, root: &Section<'_>) -> RotationPolicy {
    let section = root.section(reader, "rotation");
    let words = [
        ("off", RotationEnforcement::Off),
        ("warn", RotationEnforcement::Warn),
        ("block", RotationEnforcement::Block),
    ];
    RotationPolicy {
        enforcement: section.choice(reader, "enforcement", &words).unwrap_or_default(),
        grace: section.duration(reader, "grace", Duration::ZERO..=DAY * 3_650).unwrap_or_default(),
    }
}
