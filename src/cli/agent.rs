//! `sigilum agent`: the local signing proxy.

use std::future::pending;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use super::place::Place;
use super::quote::quote;
use super::signing::{Principal, signer};
use super::{Exit, Failure, Global, Io, Report};
use crate::agent::{Agent, AgentConfig, AgentFault, DEFAULT_MAX_BODY_BYTES, Target};
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:38200")]
    listen: SocketAddr,
    /// The gateway's URL [default: the local stack's, else http://127.0.0.1:38100]
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    /// Put this before every path, such as /proxy/openai
    #[arg(long, value_name = "PATH")]
    path_prefix: Option<String>,
    #[command(flatten)]
    principal: Principal,
    /// The largest body that is read and signed, such as 64MiB [default: 32MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_body: Option<usize>,
    /// Pass the client's own Authorization on; it is left out otherwise, as client libraries send a dummy
    #[arg(long)]
    keep_authorization: bool,
    /// Listen on an address that other machines reach: the agent signs for whoever reaches it
    #[arg(long)]
    allow_remote: bool,
    /// A further name by which clients call the agent, with --allow-remote
    #[arg(long, value_name = "NAME", requires = "allow_remote")]
    allow_host: Vec<String>,
    /// Trust the CAs in this PEM file for the gateway, in place of the system's
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let place = Place::here(None)?;
    let gateway = args.gateway.as_deref().unwrap_or_else(|| place.gateway_url());
    let target = Target::new(gateway, args.path_prefix.as_deref())
        .map_err(|fault| Failure::new(Exit::Usage, fault))?;
    let signer = signer(&place, global, &args.principal)?;
    let started = Report::new("").field("gateway", target.gateway().as_str().trim_end_matches('/'));
    let started = started
        .field("namespace", signer.identity().namespace().as_str())
        .field("subject", signer.subject())
        .field("key_id", signer.identity().key_id().to_string());
    let path = if args.path_prefix.is_some() { "/v1" } else { "/proxy/openai/v1" };
    let ca_pem = args.cacert.as_deref().map(super::curl::read_ca).transpose()?;
    let config = AgentConfig {
        listen: args.listen,
        target,
        max_body_bytes: args.max_body.unwrap_or(DEFAULT_MAX_BODY_BYTES),
        keep_authorization: args.keep_authorization,
        allow_remote: args.allow_remote,
        hosts: args.allow_host,
        ca_pem,
    };
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let agent = Agent::bind(config, signer, Clock::system()).await.map_err(|fault| match fault {
            AgentFault::Remote(_) => Failure::new(Exit::Usage, fault),
            _ => fault.into(),
        })?;
        // Before the line that says it listens: who reads it may send a signal at once.
        let stop = stop_signal()?;
        let url = format!("http://{}", agent.address());
        let base = format!("{url}{path}");
        let mut started = started.title(format!("Agent listening on {url}"));
        if args.json {
            started = started.field("listen", url).field("openai_base_url", base.as_str());
        }
        started.write(&mut io.out, args.json)?;
        if !args.json {
            writeln!(io.out, "For an OpenAI client library:")?;
            writeln!(io.out, "  export OPENAI_BASE_URL={} OPENAI_API_KEY=unused", quote(&base))?;
        }
        io.out.flush()?;
        if args.allow_remote {
            writeln!(io.err, "warning: whoever reaches this address is signed for")?;
        }
        agent.run(stop).await;
        Ok(Exit::Done)
    })
}

/// Warnings of the agent itself, for whoever watches it; other crates may show what no log may hold.
fn log_to_stderr() {
    let own = Targets::new().with_target(env!("CARGO_PKG_NAME"), LevelFilter::WARN);
    let layer =
        fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false).with_filter(own);
    // A subscriber that stands already serves as well.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

/// Done at the first Ctrl-C or SIGTERM.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let cannot_wait = "signals cannot be waited for";
    let mut interrupt = signal(SignalKind::interrupt()).context(cannot_wait)?;
    let mut terminate = signal(SignalKind::terminate()).context(cannot_wait)?;
    Ok(async move {
        let received = tokio::select! {
            received = interrupt.recv() => received,
            received = terminate.recv() => received,
        };
        if received.is_none() {
            // No signal can come any more; that is no reason to stop.
            pending::<()>().await;
        }
    })
}

/// `33554432`, `512KiB`, `32MiB`, `1GiB`.
fn size(text: &str) -> Result<usize, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes =
        digits.parse::<usize>().ok().zip(factor).and_then(|(count, factor)| count.checked_mul(factor));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "a size is a number and B, KiB, MiB or GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(size("32MiB"), Ok(32 * 1024 * 1024));
        assert_eq!(size("10"), Ok(10));
        for wrong in ["", "0", "MiB", "1.5MiB", "32MB", "-1", "99999999999999999999", "18014398509481984GiB"]
        {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
