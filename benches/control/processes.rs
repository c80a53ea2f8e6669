//! The processes that are measured: control planes and gateways, gone with what holds them.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::get;
use super::fill::{JWT_SECRET, SERVICE, SERVICE_KEY};
use super::flags::Flags;
use super::process::Process;

/// Until a process is ready.
const PATIENCE: Duration = Duration::from_secs(120);
/// Not a secret of anything: base64 of 32 bytes.
const SEALING_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Where everything lies, and the binary that is measured.
pub struct Place {
    pub dir: PathBuf,
    sigilum: PathBuf,
}

impl Place {
    pub fn read(flags: &Flags) -> Result<Self, String> {
        Ok(Self { dir: flags.needed("--dir")?.into(), sigilum: flags.needed("--sigilum")?.into() })
    }

    /// Starts a control plane on this database.
    pub fn control_plane(&self, name: &str, database: &str) -> Result<Running, String> {
        let [address] = free_addresses()?;
        let mut command = self.command(name)?;
        command.args(["api", "start"]).envs([
            ("DATABASE_URL", database),
            ("JWT_SECRET", JWT_SECRET),
            ("SIGILUM_API_SEALING_KEY", SEALING_KEY),
            ("SIGILUM_API_LISTEN", &address.to_string()),
            ("SIGILUM_ENVIRONMENT", "test"),
        ]);
        self.start(name, command, address, address)
    }

    /// Starts a gateway that hears of claims from `control` and sends requests to `upstream`.
    pub fn gateway(&self, name: &str, control: &Running, upstream: SocketAddr) -> Result<Running, String> {
        let [address, admin] = free_addresses()?;
        let mut command = self.command(name)?;
        let home = self.dir.join(name);
        let config = format!(
            "mode: oss-local\n\
             data_dir: data\n\
             identity: {{ namespace: bench-{name}, home: home }}\n\
             listeners: [{{ address: \"{address}\" }}]\n\
             admin: {{ address: \"{admin}\" }}\n\
             limits: {{ threads: 1 }}\n\
             telemetry: {{ log: {{ level: warn, proxy_requests: false }} }}\n\
             control_plane:\n  \
               url: \"http://{}\"\n  \
               service_api_key: env:BENCH_SERVICE_KEY\n  \
               auto_register_claims: false\n\
             providers:\n  \
               - {{ id: {SERVICE}, base_url: \"http://{upstream}\", auth: {{ mode: bearer, secret: env:BENCH_SECRET }} }}\n",
            control.address
        );
        fs::write(home.join("gateway.yaml"), config).map_err(|error| format!("{name}: {error}"))?;
        command.args(["gateway", "start", "--config", "gateway.yaml"]);
        command.envs([
            ("BENCH_SERVICE_KEY", SERVICE_KEY),
            ("BENCH_SECRET", "a-secret-of-some-length-0123456789"),
        ]);
        self.start(name, command, address, admin)
    }

    /// In a directory of its own, without anything of our environment.
    fn command(&self, name: &str) -> Result<Command, String> {
        let home = self.dir.join(name);
        fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        let log = File::create(home.join("log")).map_err(|error| format!("{}: {error}", home.display()))?;
        let mut command = Command::new(&self.sigilum);
        command.env_clear().current_dir(&home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    fn start(
        &self,
        name: &str,
        mut command: Command,
        address: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Running, String> {
        let began = Instant::now();
        let child = command.spawn().map_err(|error| format!("{}: {error}", self.sigilum.display()))?;
        let process = Process(child.id());
        let mut running = Running { child, process, address, admin, ready_after: Duration::ZERO };
        // Whoever ends us from outside finds here what else is to be ended.
        let pids = OpenOptions::new().create(true).append(true).open(self.dir.join("pids"));
        pids.and_then(|mut file| writeln!(file, "{}", process.0))
            .map_err(|error| format!("pids: {error}"))?;
        while !get(address, "/health/ready").is_ok_and(|text| text.starts_with("HTTP/1.1 200")) {
            let ended = running.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.dir.join(name).join("log")).unwrap_or_default();
                return Err(format!("{name} is not ready; it wrote:\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        running.ready_after = began.elapsed();
        Ok(running)
    }
}

/// A process that is ready. It is killed when dropped.
pub struct Running {
    child: Child,
    pub process: Process,
    pub address: SocketAddr,
    admin: SocketAddr,
    /// From its start until it said so.
    pub ready_after: Duration,
}

impl Running {
    /// Waits until the gateway says that it knows so many approved claims: its metrics follow within a second or so.
    pub fn knows(&self, claims: usize) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let text = get(self.admin, "/metrics").map_err(|error| format!("/metrics: {error}"))?;
            let known: Option<usize> = text
                .lines()
                .find_map(|line| line.strip_prefix("sigilum_gateway_claims_entries ")?.trim().parse().ok());
            if known == Some(claims) {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(5) {
                return Err(format!("a gateway of {claims} claims knows {known:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All are open at once, so that none comes twice.
fn free_addresses<const N: usize>() -> Result<[SocketAddr; N], String> {
    let open: [Option<TcpListener>; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").ok());
    let found = open.each_ref().map(|listener| listener.as_ref().and_then(|open| open.local_addr().ok()));
    if found.contains(&None) { Err("no free port".to_owned()) } else { Ok(found.map(Option::unwrap)) }
}
