//! A vault in a directory of its own, and processes that work on it until they are killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use sigilum::secret::SecretBytes;
use sigilum::vault::{Batch, Kind, MasterKeySource, RecordKey, TextSource, Vault, VaultFault, VaultOptions};

pub struct Place {
    pub directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn vault(&self) -> PathBuf {
        self.directory.path().join("vault")
    }

    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("vault.key")
    }

    pub fn options(&self) -> VaultOptions {
        options(self.directory.path())
    }

    pub fn anchored(&self) -> VaultOptions {
        self.options().anchored_at(&self.directory.path().join("elsewhere/anchor"))
    }

    pub fn open(&self) -> Vault {
        self.try_open().unwrap_or_else(|fault| panic!("{fault}"))
    }

    pub fn try_open(&self) -> Result<Vault, VaultFault> {
        Vault::open(&self.options())
    }

    /// The fault of opening it, as the operator reads it.
    pub fn refusal(&self) -> String {
        refusal(&self.options()).replace(self.directory.path().to_str().unwrap(), "PLACE")
    }
}

pub fn options(directory: &Path) -> VaultOptions {
    VaultOptions::new(&directory.join("vault"), MasterKeySource::Generated(directory.join("vault.key")))
}

pub fn refusal(options: &VaultOptions) -> String {
    Vault::open(options).err().expect("the vault must not open").to_string()
}

pub fn key_in_file(path: &Path) -> MasterKeySource {
    MasterKeySource::Key(TextSource::File(path.to_owned()))
}

pub fn secret(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

pub fn key(owner: &str, name: &str) -> RecordKey {
    RecordKey::new(Kind::Secret, owner, name, 1).unwrap()
}

pub fn put(vault: &Vault, key: &RecordKey, text: &str) {
    vault.commit(Batch::new().put(key.clone(), secret(text))).unwrap();
}

pub fn text(vault: &Vault, key: &RecordKey) -> Option<String> {
    vault.get(key).unwrap().map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
}

/// Every record of a vault with its value.
pub fn everything(vault: &Vault) -> Vec<(RecordKey, String)> {
    [Kind::Connection, Kind::Secret, Kind::Variable]
        .into_iter()
        .flat_map(|kind| vault.list(kind, None))
        .map(|key| (key.clone(), text(vault, &key).unwrap()))
        .collect()
}

/// Copies a closed vault with its key, and its anchor where it has one. Holes stay holes: a fresh journal is one.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cp {} {}", from.display(), to.display());
}

/// A number below `bound`, evenly enough for a test.
pub fn below(bound: u64) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| crate::support::random()[i])) % bound
}

/// How often a loop runs: the variable, else `standard`.
pub fn rounds(variable: &str, standard: u32) -> u32 {
    std::env::var(variable).map_or(standard, |text| text.parse().expect("a number of rounds"))
}

/// The variable that tells a process of the tests' own which directory it works on.
const DIRECTORY: &str = "SIGILUM_VAULT_TEST_DIRECTORY";

/// A test of this binary, marked `ignore`, that runs as a process of its own. It is gone when this is dropped.
pub struct Worker {
    process: Child,
    pub input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    pub fn start(test: &str, directory: &Path) -> Self {
        Self::start_under(&[], test, directory)
    }

    /// Started by another program, which gets it as its last arguments.
    pub fn start_under(program: &[&str], test: &str, directory: &Path) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut words: Vec<&str> = program.to_vec();
        words.extend([this.to_str().unwrap(), "--ignored", "--exact", test, "--nocapture"]);
        let mut process = Command::new(words[0])
            .args(&words[1..])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, input, output: BufReader::new(output) }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The rest of the next line that begins with `word`; `None` when the process ends before.
    pub fn next(&mut self, word: &str) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(rest) = line.trim().strip_prefix(word) {
                return Some(rest.trim().to_owned());
            }
        }
    }

    /// Kills it as `kill -9` does, and gives everything that it still said. A line that was cut is not said.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Inside such a process: its directory.
pub fn worker_directory() -> PathBuf {
    PathBuf::from(std::env::var_os(DIRECTORY).expect("only another test runs this"))
}

/// Inside such a process: says a line at once.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}
