//! Keys and passphrases by reference: from the environment, a file, or a command.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroize;

use super::key_fault::MasterKeyFault;
use crate::secret::SecretString;

/// Where a text comes from that is never written into a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextSource {
    /// An environment variable.
    Env(String),
    /// A file.
    File(PathBuf),
    /// What a command prints: the program and its arguments, run without a shell. It has 30 seconds.
    Command(Vec<OsString>),
}

/// A key and a passphrase are short; more than this is neither.
const LONGEST_TEXT_BYTES: u64 = 16 * 1024;
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

impl TextSource {
    /// Reads the text; white space around it is left out.
    pub(super) fn read(&self, what: &'static str) -> Result<SecretString, MasterKeyFault> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| MasterKeyFault::Env(name.clone(), what))?,
            Self::File(path) => std::fs::File::open(path)
                .and_then(read_text)
                .map_err(|cause| MasterKeyFault::File { path: path.clone(), what, cause })?,
            Self::Command(words) => run(words).map_err(|fault| MasterKeyFault::Command {
                program: words.first().map(|word| word.display().to_string()).unwrap_or_default(),
                what,
                fault,
            })?,
        };
        SecretString::new(text).map_err(|fault| MasterKeyFault::Unusable { place: self.to_string(), fault })
    }
}

impl fmt::Display for TextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Command(words) => {
                let program = words.first().map(|word| word.display().to_string()).unwrap_or_default();
                write!(f, "what the command {program} prints")
            }
        }
    }
}

fn read_text(from: impl Read) -> io::Result<String> {
    // With its room from the start, the text is never moved, and no copy of it stays behind.
    let mut text = String::with_capacity(LONGEST_TEXT_BYTES as usize + 1);
    let read = from.take(LONGEST_TEXT_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > LONGEST_TEXT_BYTES {
        text.zeroize();
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// What a command prints. Its standard error goes where ours goes: a key agent's complaint is the user's to read.
fn run(words: &[OsString]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|cause| format!("cannot be run: {cause}"))?;
    let output = child.stdout.take().ok_or("has no output")?;
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::Builder::new().name("vault-key".into()).spawn(move || {
        // Nobody waits any more where the time was over.
        let _ = sender.send(read_text(output));
    });
    let text = reader
        .map_err(|cause| format!("cannot be read: {cause}"))
        .and_then(|_| {
            receiver
                .recv_timeout(COMMAND_TIMEOUT)
                .map_err(|_| format!("did not end within {} s", COMMAND_TIMEOUT.as_secs()))
        })
        .and_then(|text| text.map_err(|cause| format!("cannot be read: {cause}")));
    if text.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|cause| format!("cannot be waited for: {cause}"))?;
    match text {
        Ok(text) if status.success() => Ok(text),
        Ok(mut text) => {
            text.zeroize();
            Err(format!("failed with {status}"))
        }
        fault => fault,
    }
}
