//! `sigilum sign`: the signed headers alone.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::place::Place;
use super::signing::{Principal, signer, unsigned};
use super::{Exit, Failure, Global, Io, curl, quote, report};
use crate::protocol::SignedHeaders;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The request's method [default: GET, with a body POST]
    #[arg(long)]
    method: Option<String>,
    /// The request's URL, exactly as it will be sent
    #[arg(long)]
    url: String,
    /// The request's body, `-` for standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    #[command(flatten)]
    principal: Principal,
    /// How the headers are printed
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    header_format: Format,
    /// The same as --header-format json
    #[arg(long, conflicts_with = "header_format")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// `-H 'name: value' \` lines to paste behind curl
    Curl,
    /// `name: value` lines, which `curl -H @-` reads
    Lines,
    /// One JSON object
    Json,
}

pub(super) fn run(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let url = curl::absolute_url(&args.url)?;
    let body = match &args.body {
        Some(path) => curl::read_body(path, io.input)?,
        None => Vec::new(),
    };
    let signer = signer(&Place::here(None)?, global, &args.principal)?;
    let method = args.method.as_deref().unwrap_or(if args.body.is_some() { "POST" } else { "GET" });
    let headers = signer.sign(method, as_sent(&args.url, &url), &body).map_err(unsigned)?;
    let format = if args.json { Format::Json } else { args.header_format };
    write(&mut io.out, &headers, format)?;
    Ok(Exit::Done)
}

/// The URL as another client will send it: as typed, but for a path that was left out.
fn as_sent<'a>(typed: &'a str, parsed: &'a url::Url) -> &'a str {
    let after_scheme = typed.split_once("://").map_or("", |(_, rest)| rest);
    let ends_authority = after_scheme.find(['/', '?', '#']).and_then(|at| after_scheme.get(at..));
    if ends_authority.is_some_and(|rest| rest.starts_with('/')) { typed } else { parsed.as_str() }
}

fn write(out: &mut dyn Write, headers: &SignedHeaders, format: Format) -> io::Result<()> {
    let pairs =
        headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
    match format {
        Format::Json => {
            let object: Map<String, Value> =
                pairs.map(|(name, value)| (name.to_owned(), value.into_owned().into())).collect();
            report::write_json(out, &object)
        }
        Format::Lines => {
            for (name, value) in pairs {
                writeln!(out, "{name}: {value}")?;
            }
            Ok(())
        }
        Format::Curl => {
            let lines: Vec<String> = pairs
                .map(|(name, value)| format!("-H {}", quote::quote(&format!("{name}: {value}"))))
                .collect();
            writeln!(out, "{}", lines.join(" \\\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_signed_as_typed_and_gets_the_path_it_lacks() {
        for (typed, sent) in [
            ("http://gw.example/a'b?q='x'", "http://gw.example/a'b?q='x'"),
            ("http://gw.example", "http://gw.example/"),
            ("http://gw.example?x=/", "http://gw.example/?x=/"),
        ] {
            assert_eq!(as_sent(typed, &typed.parse().unwrap()), sent);
        }
    }
}
