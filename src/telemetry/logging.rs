//! Where log lines go.
/// json | text
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat { /// one JSON object a line
    #[default] Json, /// for people
    Text }
/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig { /// format
    pub format: LogFormat, /// error | warn | info | debug | trace
    pub level: tracing::Level }
/// Flushes what is buffered when dropped.
#[derive(Debug)]
pub struct LogGuard { _private: () }
/// Starts logging to standard output through a bounded queue that never blocks a worker; lines that do not fit are dropped and counted.
#[must_use]
pub fn start_logging(_config: &LogConfig) -> LogGuard { unimplemented!() }
