//! Where log lines go: standard output, through a bounded queue, as JSON or as text.
//!
//! Lines of other crates are left out, but for two targets that speak of starting and stopping. HTTP and TLS libraries
//! print request heads, server names and clients' addresses in their warnings, which may hold what no log may show;
//! the decision log tells of every request instead.

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::decision;

/// Lines that may wait for standard output; a further one is dropped and counted.
const QUEUE_LINES: usize = 16 * 1024;
/// Targets of other crates that are shown, at WARN and above: they know of no request.
const OTHERS_SHOWN: [&str; 2] = ["pingora_core::server", "pingora_core::listeners"];

/// The admin room's audit log.
const AUDIT: &str = "sigilum::audit";

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line: `timestamp` (RFC 3339, UTC), `level`, `message`, the fields, `target`.
    #[default]
    Json,
    /// For people; in colour on a terminal.
    Text,
}

/// How log lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Their form.
    pub format: LogFormat,
    /// The least severe level shown. The decision log does not depend on it.
    pub level: Level,
}

/// Keeps logging alive. When it is dropped, what waits in the queue is written, for at most about a second.
#[derive(Debug)]
pub struct LogGuard {
    dropped: DroppedLines,
    _worker: WorkerGuard,
}

impl LogGuard {
    /// The counter of dropped lines, for [`super::Metrics::watch_log`].
    #[must_use]
    pub fn dropped(&self) -> DroppedLines {
        self.dropped.clone()
    }
}

/// The number of log lines that were dropped because standard output was too slow.
#[derive(Debug, Clone)]
pub struct DroppedLines(ErrorCounter);

impl DroppedLines {
    /// How many up to now.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::try_from(self.0.dropped_lines()).unwrap_or(u64::MAX)
    }
}

/// Starts logging to standard output through a bounded queue that never blocks a worker; lines that do not fit are
/// dropped and counted. Records of the `log` facade come too, under the same filter.
///
/// Called once, by the program. Where a subscriber already stands, it stays and this one is left out.
#[must_use]
pub fn start_logging(config: &LogConfig) -> LogGuard {
    let colour = io::stdout().is_terminal();
    let (subscriber, guard) = queued(config, io::stdout(), colour, QUEUE_LINES);
    if subscriber.try_init().is_err() {
        tracing::debug!("logging was started before; its settings stay");
    }
    guard
}

/// A subscriber whose lines go to `sink` through a queue of `lines`, and what keeps the queue running.
fn queued<W: Write + Send + 'static>(
    config: &LogConfig,
    sink: W,
    colour: bool,
    lines: usize,
) -> (impl Subscriber + Send + Sync + 'static, LogGuard) {
    let (writer, worker) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines).thread_name("log").finish(sink);
    let dropped = DroppedLines(writer.error_counter());
    (subscriber(config, writer, colour), LogGuard { dropped, _worker: worker })
}

/// A subscriber whose lines go to `writer`.
pub(super) fn subscriber<W>(
    config: &LogConfig,
    writer: W,
    colour: bool,
) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
        LogFormat::Text => fmt::layer().with_ansi(colour).with_writer(writer).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter(config.level)))
}

/// What is shown: our own lines at `level`, the decision log and the audit log always, of the others little.
fn filter(level: Level) -> Targets {
    let others = LevelFilter::from_level(level.min(Level::WARN));
    Targets::new()
        .with_default(LevelFilter::OFF)
        .with_target(env!("CARGO_PKG_NAME"), level)
        .with_target(decision::TARGET, Level::INFO)
        .with_target(AUDIT, Level::INFO)
        .with_targets(OTHERS_SHOWN.map(|target| (target, others)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Collects what is written.
    #[derive(Clone, Default)]
    pub(crate) struct Sheet(Arc<Mutex<Vec<u8>>>);

    impl Sheet {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sheet {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `speak` logs under `config`.
    pub(crate) fn logged(config: &LogConfig, speak: impl FnOnce()) -> String {
        let sheet = Sheet::default();
        let writer = sheet.clone();
        tracing::subscriber::with_default(subscriber(config, move || writer.clone(), false), speak);
        sheet.text()
    }

    fn json(level: Level) -> LogConfig {
        LogConfig { format: LogFormat::Json, level }
    }

    #[test]
    fn json_line_holds_time_level_target_message_and_fields() {
        let text = logged(&json(Level::INFO), || tracing::info!(port = 38100, "listening"));
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "listening");
        assert_eq!(line["port"], 38100);
        assert!(line["target"].as_str().unwrap().starts_with("sigilum::"));
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(timestamp.ends_with('Z') && timestamp.parse::<crate::clock::UnixTime>().is_ok());
    }

    #[test]
    fn text_line_has_no_colour_away_from_a_terminal() {
        let config = LogConfig { format: LogFormat::Text, level: Level::INFO };
        let text = logged(&config, || tracing::warn!("disk is full"));
        assert!(text.contains("WARN") && text.contains("disk is full") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn only_lines_of_the_level_and_of_known_targets_are_shown() {
        let text = logged(&json(Level::INFO), || {
            tracing::debug!("below the level");
            tracing::error!(target: "pingora_proxy", "GET /a?api_key=canary");
            tracing::error!(target: "pingora_core::apps::http_app", "buf: canary");
            tracing::warn!(target: "rustls::server::hs", "canary");
            tracing::info!(target: "pingora_core::server", "not severe enough");
            tracing::error!(target: "pingora_core::server", "cannot bind");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("cannot bind"));
    }

    /// Blocks in its first write until `go` speaks or its sender is dropped.
    struct Blocked {
        go: Receiver<()>,
        begun: std::sync::mpsc::SyncSender<()>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.try_send(());
            let _ = self.go.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_do_not_fit_into_the_queue_are_dropped_and_counted() {
        let (release, go) = sync_channel(0);
        let (begun, begins) = sync_channel(1);
        let (subscriber, guard) = queued(&json(Level::INFO), Blocked { go, begun }, false, 2);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("taken by the writer, which blocks");
            begins.recv().unwrap();
            for _ in 0..5 {
                tracing::info!("two of these fit");
            }
        });
        assert_eq!(guard.dropped().total(), 3);
        let metrics = super::super::Metrics::new();
        metrics.watch_log(guard.dropped());
        assert!(metrics.render().contains("_dropped_total 3\n"));
        assert!(metrics.render().contains("_dropped_total 3\n"), "counted twice");
        drop(release);
    }
}
