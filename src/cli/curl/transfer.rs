//! Sends the request and prints the answer as it comes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http::header::{AUTHORIZATION, COOKIE, HOST, PROXY_AUTHORIZATION};
use http::{HeaderMap, StatusCode, Version};

use super::{Args, Exit, Failure, Io};
use crate::agent::root_cause;

/// A positive number of seconds, such as `2.5`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "a number of seconds above 0, such as 2.5".to_owned())
}

/// Sends `request`. Any answer is a success, unless `--fail` says otherwise.
pub(super) async fn run(
    args: &Args,
    client: &reqwest::Client,
    mut request: reqwest::Request,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    if args.verbose {
        show_request(io.err, &request)?;
    }
    *request.timeout_mut() = args.max_time;
    let origin = request.url().origin().ascii_serialization();
    let answer = client.execute(request).await.map_err(|error| unreachable(&origin, &error))?;
    if args.verbose {
        show_head(io.err, "< ", "\n", &answer)?;
    }
    let status = answer.status();
    let refused = args.fail && status.as_u16() >= 400;
    let shows_head = args.include || args.head;
    if refused && !shows_head {
        return Err(refusal(status));
    }
    let to_file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let mut file = to_file.map(create).transpose()?;
    let out: &mut dyn Write = match &mut file {
        Some(file) => file,
        None => &mut io.out,
    };
    if shows_head {
        show_head(out, "", "\r\n", &answer)?;
        out.flush()?;
    }
    if refused {
        return Err(refusal(status));
    }
    stream(answer, out).await?;
    Ok(Exit::Done)
}

/// Each part is written out before the next one is waited for.
async fn stream(mut answer: reqwest::Response, out: &mut dyn Write) -> Result<(), Failure> {
    loop {
        let part = answer.chunk().await;
        match part.map_err(|error| anyhow::anyhow!("the answer broke off: {}", cause(&error)))? {
            None => return Ok(()),
            Some(part) => {
                out.write_all(&part)?;
                out.flush()?;
            }
        }
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    Ok(File::create(path).with_context(|| format!("the answer cannot be written to {}", path.display()))?)
}

fn refusal(status: StatusCode) -> Failure {
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NotAuthorized,
        _ => Exit::Failed,
    };
    Failure::new(exit, anyhow::anyhow!("the server answered {status}"))
        .hint("leave --fail out to see what it says")
}

fn unreachable(origin: &str, error: &reqwest::Error) -> Failure {
    Failure::new(Exit::NotReachable, anyhow::anyhow!("{origin} cannot be reached: {}", cause(error)))
}

fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() { "it took too long".to_owned() } else { root_cause(error) }
}

fn show_request(err: &mut dyn Write, request: &reqwest::Request) -> io::Result<()> {
    let url = request.url();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    // With TLS the version is agreed on later.
    let version = if url.scheme() == "http" { " HTTP/1.1" } else { "" };
    writeln!(err, "> {} {}{query}{version}", request.method(), url.path())?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    writeln!(err, "> {HOST}: {}{port}", url.host_str().unwrap_or_default())?;
    show_headers(err, "> ", "\n", request.headers())?;
    if let Some(body) = request.body().and_then(reqwest::Body::as_bytes) {
        writeln!(err, "> content-length: {}", body.len())?;
    }
    writeln!(err, ">")
}

fn show_head(out: &mut dyn Write, mark: &str, end: &str, answer: &reqwest::Response) -> io::Result<()> {
    let status = answer.status();
    let version = match answer.version() {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    let reason = status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    write!(out, "{mark}{version} {}{reason}{end}", status.as_u16())?;
    show_headers(out, mark, end, answer.headers())?;
    write!(out, "{}{end}", mark.trim_end())
}

fn show_headers(out: &mut dyn Write, mark: &str, end: &str, headers: &HeaderMap) -> io::Result<()> {
    for (name, value) in headers {
        write!(out, "{mark}{name}: ")?;
        // What lets another in does not belong on a screen or in a log that it is pasted into.
        if matches!(*name, AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE) {
            write!(out, "[redacted]{end}")?;
        } else {
            out.write_all(value.as_bytes())?;
            write!(out, "{end}")?;
        }
    }
    Ok(())
}
