//! A real PostgreSQL: a cluster of its own for each test, on a socket in its directory and on no port.
//!
//! `initdb` runs once; its result lies under `target` and is copied. A shell stands between the test and the server: it
//! stops the server and removes the directory when its standard input ends, so nothing is left of a test that was
//! killed either.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sigilum::control::store::DatabaseUrl;
use sigilum::secret::SecretString;
use tempfile::TempDir;

use super::eventually;

/// The database in the cluster, and its owner. The password is asked for nowhere, and must show up nowhere.
const USER: &str = "postgres";
pub const PASSWORD: &str = "correct-horse-battery-staple";

/// Stops the server when its input ends; removes the directory too where nobody said that it is still wanted.
const KEEPER: &str = r#"
directory=$1; shift
"$@" >>"$directory/log" 2>&1 </dev/null &
server=$!
trap '' INT TERM
read -r word
kill -QUIT "$server" 2>/dev/null
wait "$server"
[ "$word" = keep ] || rm -rf "$directory"
"#;

/// A running cluster with the empty database `postgres`.
pub struct Postgres {
    directory: TempDir,
    keeper: Option<Child>,
}

impl Postgres {
    /// Starts one.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("sigilum-pg-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        copy(&template(), &directory.path().join("data"));
        hand_over(directory.path());
        let mut this = Self { directory, keeper: None };
        this.resume();
        this
    }

    /// Starts the server again after [`Postgres::stop`], on what it holds.
    pub fn resume(&mut self) {
        assert!(self.keeper.is_none(), "it runs");
        let here = self.directory.path();
        let mut command = Command::new("sh");
        command.arg("-c").arg(KEEPER).arg("keeper").arg(here);
        as_user(&mut command, &bin("postgres"))
            .arg("-D")
            .arg(here.join("data"))
            .arg("-k")
            .arg(here)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "shared_buffers=8MB", "-c", "max_connections=60", "-c", "max_wal_size=64MB"]);
        command.current_dir("/").process_group(0).stdin(Stdio::piped());
        self.keeper = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        // The last line of the file says whether connections are taken.
        eventually("PostgreSQL to take connections", || {
            let state = fs::read_to_string(here.join("data/postmaster.pid")).ok()?;
            matches!(state.lines().nth(7)?.trim(), "ready" | "standby").then_some(())
        });
    }

    /// Stops the server as a crash does: every connection is cut. What was committed stays.
    pub fn stop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.stdin.take().unwrap().write_all(b"keep\n").unwrap();
            keeper.wait().unwrap();
        }
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The server's process.
    pub fn server(&self) -> u32 {
        let state = fs::read_to_string(self.directory.path().join("data/postmaster.pid")).unwrap();
        state.lines().next().unwrap().parse().unwrap()
    }

    /// Runs a statement.
    pub fn run(&self, statement: &'static str) {
        let url = self.url();
        on_a_runtime(async move {
            let mut one = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
            sqlx::query(statement).execute(&mut one).await.unwrap();
        });
    }

    /// The number that a query gives.
    pub fn number(&self, query: &'static str) -> i64 {
        let url = self.url();
        on_a_runtime(async move {
            let mut one = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
            sqlx::query_scalar(query).fetch_one(&mut one).await.unwrap()
        })
    }

    /// What the end of this process does, and nothing else.
    pub fn abandon(&mut self) {
        drop(self.keeper.take().unwrap().stdin.take());
    }

    /// The database's URL, with a password in it.
    pub fn url(&self) -> String {
        let socket = self.directory.path().to_str().unwrap();
        format!("postgres://{USER}:{PASSWORD}@localhost/postgres?host={socket}")
    }

    /// The same, as the store takes it.
    pub fn database(&self) -> DatabaseUrl {
        DatabaseUrl::Postgres(SecretString::new(self.url()).unwrap())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What `initdb` makes, once for this version of PostgreSQL and this target directory.
fn template() -> PathBuf {
    let initdb = bin("initdb");
    let version = initdb.iter().rev().nth(2).unwrap().to_str().unwrap().to_owned();
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres");
    fs::create_dir_all(&home).unwrap();
    let lock = fs::File::create(home.join("lock")).unwrap();
    lock.lock().unwrap();
    let template = home.join(version);
    if !template.exists() {
        let made = tempfile::Builder::new().prefix("sigilum-pg-").tempdir().unwrap();
        hand_over(made.path());
        let mut command = Command::new("env");
        as_user(&mut command, &initdb).arg("-D").arg(made.path().join("data")).args([
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
            "--wal-segsize=1",
        ]);
        let done = command.current_dir("/").output().unwrap();
        assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
        leave_one_database(&made.path().join("data"));
        let unfinished = home.join("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        copy(&made.path().join("data"), &unfinished);
        fs::rename(unfinished, &template).unwrap();
    }
    template
}

/// Removes the databases that others are copied from: two thirds of the files, and of the time to copy them.
fn leave_one_database(data: &Path) {
    let mut command = Command::new("env");
    as_user(&mut command, &bin("postgres")).args(["--single", "-F", "-D"]).arg(data).arg("postgres");
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = command.spawn().unwrap();
    let mut input = server.stdin.take().unwrap();
    for statement in [
        "UPDATE pg_database SET datistemplate = false",
        "DROP DATABASE template0",
        "DROP DATABASE template1",
        "CHECKPOINT",
    ] {
        writeln!(input, "{statement}").unwrap();
    }
    drop(input);
    let done = server.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && !said.contains("ERROR"), "postgres --single: {said}");
}

/// Debian keeps the server's programs of each version apart; the newest is taken.
fn bin(name: &str) -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed: tests/run installs it")
        .filter_map(|entry| entry.ok()?.path().into())
        .filter_map(|version: PathBuf| {
            let program = version.join("bin").join(name);
            let number = version.file_name()?.to_str()?.parse().ok()?;
            program.exists().then_some((number, program))
        })
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL's server is installed: tests/run installs it").1
}

/// Appends `program` to `command`, run by the user `postgres` where we are root: PostgreSQL refuses to be root.
fn as_user<'c>(command: &'c mut Command, program: &Path) -> &'c mut Command {
    if let Some((uid, gid)) = other_user() {
        command
            .arg("setpriv")
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .arg("--clear-groups");
    }
    command.arg(program)
}

/// Gives the directory and all in it to the server's user.
fn hand_over(directory: &Path) {
    if let Some((uid, gid)) = other_user() {
        let mut left = vec![directory.to_path_buf()];
        while let Some(path) = left.pop() {
            chown(&path, Some(uid), Some(gid)).unwrap();
            if path.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }
}

/// The user `postgres`, where we are root.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("there is a user postgres");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    Some((fields.next().unwrap(), fields.next().unwrap()))
}

/// Copies a directory. PostgreSQL wants its own closed to others.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
