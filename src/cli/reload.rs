//! The configuration read again while the gateway runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{Apply, ConfigFault, Reload, ReloadFault, Reloaded};
use crate::config::{self, Fault, Settings, Source};
use crate::connections::Book;
use crate::gateway::Routes;
use crate::names::Namespace;
use crate::telemetry::Metrics;

/// The file that the configuration is read from, and what was typed beside it.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) typed: Typed,
}

/// What was typed at the start: it goes before file and environment, and stays when they are read again.
#[derive(Debug, Clone, Default)]
pub(super) struct Typed {
    pub(super) namespace: Option<Namespace>,
    pub(super) home: Option<PathBuf>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) admin_listen: Option<SocketAddr>,
}

impl Typed {
    /// Puts it into the settings.
    pub(super) fn apply(self, settings: &mut Settings) {
        if self.namespace.is_some() {
            settings.identity.namespace = self.namespace;
        }
        if self.home.is_some() {
            settings.identity.home = self.home;
        }
        if let (Some(address), Some(first)) = (self.listen, settings.gateway.listeners.first_mut()) {
            first.address = address;
        }
        if let Some(address) = self.admin_listen {
            settings.admin.address = address;
        }
    }
}

/// The sections that count only at the start, each as it is running.
pub(super) struct Running(Vec<(&'static str, String)>);

impl Running {
    /// Of these settings. They hold secrets by reference alone, and so does what is kept of them.
    pub(super) fn of(settings: &Settings) -> Self {
        Self(vec![
            ("data_dir", settings.data_dir.display().to_string()),
            ("identity", format!("{:?}", settings.identity)),
            (
                "listeners, limits, trusted_proxies, verification, rotation, shutdown",
                format!("{:?}", settings.gateway),
            ),
            ("admin", format!("{:?}", settings.admin)),
            ("claims", format!("{:?}", settings.static_claims)),
            ("control_plane", format!("{:?} {:?} {:?}", settings.feed, settings.registrar, settings.usage)),
            ("replay", format!("{:?}", settings.replay)),
            ("vault", format!("{:?}", settings.vault)),
            (
                "telemetry",
                format!("{:?}", (&settings.log, settings.log_identities_plain, settings.log_proxy_requests)),
            ),
        ])
    }

    /// Those that are otherwise in `other`.
    fn differing(&self, other: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(own, other)| own != other).map(|((name, _), _)| (*name).to_owned()).collect()
    }
}

/// Reads `file` again when it is called: its connections are put into service, whole or not at all. One call at a time.
pub(super) fn reload(file: Option<ConfigFile>, running: Running, book: Book, apply: Apply) -> Reload {
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    let running = Arc::new(running);
    Arc::new(move || {
        let (turn, running) = (Arc::clone(&turn), Arc::clone(&running));
        let (file, book, apply) = (file.clone(), book.clone(), Arc::clone(&apply));
        async move {
            let _turn = turn.lock().await;
            let file = file.ok_or(ReloadFault::NoFile)?;
            let (settings, mut warnings) = tokio::task::spawn_blocking(move || read(file))
                .await
                .map_err(|_| ReloadFault::NotInService("the gateway is stopping".to_owned()))??;
            let restart_needed_for = running.differing(&Running::of(&settings));
            let connections = settings.connections.len();
            let put = tokio::task::spawn_blocking(move || {
                // Before anything changes: what cannot be put into service is refused whole.
                Routes::check(&settings.connections).map_err(|fault| fault.to_string())?;
                book.replace_configured(settings.connections);
                Ok(())
            });
            let put =
                put.await.map_err(|_| ReloadFault::NotInService("the gateway is stopping".to_owned()))?;
            put.map_err(ReloadFault::NotInService)?;
            apply().await.map_err(ReloadFault::NotInService)?;
            warnings.truncate(MOST_WARNINGS);
            Ok(Reloaded { connections, warnings, restart_needed_for })
        }
        .boxed()
    })
}

/// Reads the configuration again at each SIGHUP, and logs what came of it.
pub(super) async fn on_hangup(reload: Reload, metrics: Arc<Metrics>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!("SIGHUP cannot be waited for; `sigilum gateway reload` does the same");
        return;
    };
    while hangup.recv().await.is_some() {
        let read = reload().await;
        metrics.config_reload(read.is_ok());
        match read {
            Ok(Reloaded { connections, restart_needed_for, .. }) => {
                tracing::info!(connections, ?restart_needed_for, "the configuration was read again");
            }
            Err(ReloadFault::Invalid(faults)) => {
                for fault in faults.iter().take(MOST_WARNINGS) {
                    let ConfigFault { source, line, path, message, .. } = fault;
                    tracing::warn!(source, line, path, message, "the configuration is refused");
                }
            }
            Err(fault) => tracing::warn!(%fault, "the configuration was not read again"),
        }
    }
}

const MOST_WARNINGS: usize = 100;

/// The settings and what is worth a look, or every fault.
fn read(file: ConfigFile) -> Result<(Settings, Vec<ConfigFault>), ReloadFault> {
    let ConfigFile { path: file, typed } = file;
    let env = &config::process_environment;
    let shown = |faults: &[Fault]| -> Vec<ConfigFault> {
        let source = |fault: &Fault| match fault.source {
            Source::File => file.display().to_string(),
            Source::Environment => "environment".to_owned(),
        };
        let shown = faults.iter().map(|fault| ConfigFault {
            source: source(fault),
            line: fault.line,
            column: fault.column,
            path: fault.path.clone(),
            message: fault.message.clone(),
        });
        shown.collect()
    };
    let mut settings =
        config::load_file(&file, env).map_err(|faults| ReloadFault::Invalid(shown(faults.all())))?;
    typed.apply(&mut settings);
    let mut found = settings.warnings.clone();
    found.extend(settings.examine(env));
    if found.iter().any(Fault::is_failure) {
        return Err(ReloadFault::Invalid(shown(&found)));
    }
    Ok((settings, shown(&found)))
}
