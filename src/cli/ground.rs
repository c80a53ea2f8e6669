//! What all parts of a serving process stand on: the services' threads, the word to stop, and the log.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::Failure;
use super::harden::keep_memory_private;
use crate::telemetry::{DroppedLines, LogConfig, LogGuard, start_logging};

/// The ground of a process that serves until it is told to stop.
pub(super) struct Ground {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    /// Last, so that it flushes what the others logged.
    log: LogGuard,
}

impl Ground {
    /// With this log, and so many threads for the services beside the data plane.
    pub(super) fn lay(log: &LogConfig, threads: usize) -> Result<Self, Failure> {
        let log = start_logging(log);
        keep_memory_private();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("services")
            .enable_all()
            .build()?;
        Ok(Self { runtime, stop: watch::Sender::new(false), log })
    }

    /// Where the services run.
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Holds `true` once everything is to stop.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Tells everything to stop.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Who tells everything to stop from elsewhere.
    pub(super) fn stopper(&self) -> watch::Sender<bool> {
        self.stop.clone()
    }

    /// Stops at the first of these signals.
    pub(super) fn stop_on(&self, kinds: &[SignalKind]) {
        let _runtime = self.runtime.enter();
        let signals: Vec<Signal> = kinds.iter().filter_map(|kind| signal(*kind).ok()).collect();
        if signals.len() < kinds.len() {
            tracing::error!("signals cannot be waited for; only SIGKILL stops this process");
        }
        for mut signal in signals {
            let stop = self.stop.clone();
            self.runtime.spawn(async move {
                if signal.recv().await.is_some() {
                    stop.send_replace(true);
                }
            });
        }
    }

    /// The counter of log lines that were dropped.
    pub(super) fn dropped_lines(&self) -> DroppedLines {
        self.log.dropped()
    }
}
