//! The request that the arguments ask for.

use std::io::Read;

use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::{Args, Exit, Failure};
use crate::agent::Signer;

/// All of a request but its signature.
pub(super) struct Prepared {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Prepared {
    /// Where it goes.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }
}

/// Makes the request, its body read.
pub(super) fn prepare(args: &Args, url: Url, input: &mut dyn Read) -> Result<Prepared, Failure> {
    let method = match &args.method {
        Some(name) => Method::from_bytes(name.as_bytes())
            .map_err(|_| Failure::usage(format!("{name:?} is not a method; write it as GET or POST")))?,
        None if args.head => Method::HEAD,
        None if args.data.is_given() => Method::POST,
        None => Method::GET,
    };
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sigilum/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if args.data.is_json() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    } else if args.data.is_given() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    add_typed(&mut headers, &args.headers)?;
    Ok(Prepared { method, url, headers, body: args.data.body(input)? })
}

/// Signs it over the URL that is sent.
pub(super) fn sign(prepared: Prepared, signer: &Signer) -> Result<reqwest::Request, Failure> {
    let signature = signer.sign(prepared.method.as_str(), prepared.url.as_str(), &prepared.body)?;
    let mut request = reqwest::Request::new(prepared.method, prepared.url);
    *request.headers_mut() = prepared.headers;
    request.headers_mut().extend(signature);
    if !prepared.body.is_empty() {
        *request.body_mut() = Some(prepared.body.into());
    }
    Ok(request)
}

/// The headers as typed: the first of a name takes a default's place, further ones stand beside it.
fn add_typed(headers: &mut HeaderMap, typed: &[String]) -> Result<(), Failure> {
    let mut seen: Vec<HeaderName> = Vec::new();
    for line in typed {
        let (name, value) = match line.split_once(':') {
            Some((name, value)) => (name, Some(value.trim()).filter(|value| !value.is_empty())),
            None => (line.strip_suffix(';').unwrap_or_default(), Some("")),
        };
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| Failure::usage("a header is written as 'Name: value'"))?;
        refuse_ours(&name)?;
        if !seen.contains(&name) {
            headers.remove(&name);
            seen.push(name.clone());
        }
        if let Some(value) = value {
            let value = HeaderValue::from_str(value).map_err(|fault| {
                Failure::new(Exit::Usage, fault).hint(format!("look at the value of {name}"))
            })?;
            headers.append(name, value);
        }
    }
    Ok(())
}

fn refuse_ours(name: &HeaderName) -> Result<(), Failure> {
    let signed = matches!(name.as_str(), "signature" | "signature-input" | "content-digest");
    if signed || name.as_str().starts_with("sigilum-") {
        return Err(Failure::usage(format!("{name} is made by the signer; leave it out")));
    }
    match *name {
        HOST => Err(Failure::usage("host is signed as a part of the URL").hint("put the name into the URL")),
        CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | UPGRADE => {
            Err(Failure::usage(format!("{name} belongs to the connection, not to the request; leave it out")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(lines: &[&str]) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        add_typed(&mut headers, &lines.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(headers)
    }

    #[test]
    fn typed_header_takes_the_place_of_a_default_one() {
        assert_eq!(typed(&["Accept: text/plain"]).unwrap().get_all(ACCEPT).iter().count(), 1);
        assert!(typed(&["Accept:"]).unwrap().is_empty());
        assert_eq!(typed(&["X-Empty;"]).unwrap().get("x-empty").unwrap(), "");
        assert_eq!(typed(&["X-A: 1", "X-A: 2"]).unwrap().get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn headers_of_the_signer_and_of_the_connection_are_refused() {
        for line in ["Signature: x", "sigilum-subject: x", "Host: x", "content-length: 1", "no header", ": x"]
        {
            assert!(typed(&[line]).is_err(), "{line}");
        }
    }
}
