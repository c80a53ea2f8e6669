//! `sigilum curl`: a signed request, sent and printed as curl would.

mod data;
mod request;
mod transfer;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use url::Url;

use super::place::Place;
use super::signing::{Principal, signer};
use super::{Exit, Failure, Global, Io};
use crate::agent::{Target, client};
use data::Data;

/// A body is held in memory to be signed; the gateway takes far less.
const MAX_BODY_BYTES: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The URL; http:// where no scheme is given
    url: String,
    /// The method [default: GET, or POST with data]
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<String>,
    #[command(flatten)]
    data: Data,
    /// A header: 'Name: value'; 'Name:' leaves a default one out, 'Name;' sends it empty
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Print the answer's status line and headers before its body
    #[arg(short = 'i', long)]
    include: bool,
    /// Ask with HEAD, and print the answer's status line and headers
    #[arg(short = 'I', long, conflicts_with_all = data::IDS)]
    head: bool,
    /// Write the answer to this file, `-` for standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Say nothing of faults
    #[arg(short = 's', long)]
    silent: bool,
    /// Say what failed even with --silent
    #[arg(short = 'S', long)]
    show_error: bool,
    /// Fail on a status of 400 and above, and leave the answer's body out
    #[arg(short = 'f', long)]
    fail: bool,
    /// Print the heads of request and answer to the error output
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Taken for curl's sake: the answer is never held back
    #[arg(short = 'N', long)]
    no_buffer: bool,
    /// Refused: a server that anybody can be must not be given a signed request
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Refused: a redirect needs a signature of its own
    #[arg(short = 'L', long)]
    location: bool,
    /// Trust the CAs in this PEM file, in place of the system's
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Give up when the whole took so long, in seconds
    #[arg(short = 'm', long, value_name = "SECONDS", value_parser = transfer::seconds)]
    max_time: Option<std::time::Duration>,
    #[command(flatten)]
    principal: Principal,
}

pub(super) fn run(args: Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    if args.insecure {
        return Err(Failure::usage(
            "-k is refused: a server that anybody can be must not be given a signed request",
        )
        .hint("name the CA that the server's certificate comes from: --cacert FILE"));
    }
    if args.location {
        return Err(Failure::usage(
            "-L is refused: the signature holds for one URL, and a redirect needs its own",
        )
        .hint("look at the Location header with -i, and sign a request to it"));
    }
    let quiet = args.silent && !args.show_error;
    let url = absolute_url(&args.url)?;
    let prepared = request::prepare(&args, url, io.input)?;
    let signer = signer(&Place::here(None)?, global, &args.principal)?;
    let ca_pem = args.cacert.as_deref().map(read_ca).transpose()?;
    let client = client(prepared.url(), ca_pem.as_deref(), false)?;
    let signed = request::sign(prepared, &signer)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(transfer::run(&args, &client, signed, io)).map_err(|failure| failure.silent(quiet))
}

/// `text` as an absolute URL that a signed request can go to.
pub(super) fn absolute_url(text: &str) -> Result<Url, Failure> {
    let wrong = |sentence: String| {
        Failure::usage(sentence).hint("write it as http://127.0.0.1:38100/proxy/openai/v1/models")
    };
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url =
        Url::parse(&with_scheme).map_err(|fault| wrong(format!("{text:?} is not a URL: {fault}")))?;
    url.set_fragment(None);
    // The parts that no signed request has are those that no gateway's URL has.
    let mut origin = url.clone();
    origin.set_query(None);
    Target::new(origin.as_str(), None).map_err(|fault| wrong(fault.to_string()))?;
    url.as_str().parse::<http::Uri>().map_err(|fault| wrong(format!("{text:?} cannot be sent: {fault}")))?;
    Ok(url)
}

/// The bytes of `path`, `-` for standard input.
pub(super) fn read_body(path: &Path, input: &mut dyn Read) -> Result<Vec<u8>, Failure> {
    let cannot_read = || format!("the body cannot be read from {}", path.display());
    let mut body = Vec::new();
    let read = if path.as_os_str() == "-" {
        input.take(MAX_BODY_BYTES + 1).read_to_end(&mut body)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BODY_BYTES + 1).read_to_end(&mut body))
    };
    let read = read.with_context(cannot_read)?;
    if read as u64 > MAX_BODY_BYTES {
        return Err(anyhow::anyhow!("the body is larger than {MAX_BODY_BYTES} bytes").into());
    }
    Ok(body)
}

/// The bytes of a CA file.
pub(super) fn read_ca(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(std::fs::read(path).with_context(|| format!("the CA file {} cannot be read", path.display()))?)
}
