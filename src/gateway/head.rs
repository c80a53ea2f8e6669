//! The raw head of an HTTP/1 request, checked before any parser reads it.
//!
//! What two parsers could read differently is refused here: what is verified must be what is forwarded.

use crate::protocol::is_authority;

/// What the head says of the message, needed to find its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framing {
    /// Bytes that follow the head; `None` where only the body itself tells (chunked, or an upgrade).
    pub(super) body_bytes: Option<u64>,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadFault {
    #[error(
        "the request line must be METHOD, one space, a path that begins with a slash, one space, HTTP/1.1"
    )]
    RequestLine,
    #[error("the method must be in upper-case letters")]
    Method,
    #[error("CONNECT is not served")]
    Connect,
    #[error(
        "the request target must be a path: it begins with a slash, has at most {TARGET_MAX_BYTES} bytes and holds no fragment and only characters that a URI may hold; encode the others in percent"
    )]
    Target,
    #[error("a line ends without carriage return and line feed, or holds a control character")]
    ControlCharacter,
    #[error("a header field has no valid name directly before its colon, or is folded over two lines")]
    FieldName,
    #[error("a header field is longer than {FIELD_MAX_BYTES} bytes")]
    FieldTooLong,
    #[error("there are more than {FIELDS_MAX} header fields")]
    TooManyFields,
    #[error("there must be exactly one Host header, holding one host and at the most a port")]
    Host,
    #[error("there must be at the most one Content-Length, of digits alone")]
    ContentLength,
    #[error("the only transfer coding understood is one `chunked`, without Content-Length, in HTTP/1.1")]
    TransferEncoding,
    #[error("request trailers are not forwarded; send these fields as headers")]
    Trailer,
    #[error("the only expectation understood is 100-continue")]
    Expect,
    #[error("a header name with an underscore stands for one that the gateway reads with a hyphen")]
    Shadow,
}

const FIELD_MAX_BYTES: usize = 16 * 1024;
const FIELDS_MAX: usize = 128;
const METHOD_MAX_BYTES: usize = 32;
/// What the `http` crate takes of a URI.
const TARGET_MAX_BYTES: usize = u16::MAX as usize - 1;

/// Checks a head that ends with its empty line.
///
/// # Errors
/// The first fault found.
pub(super) fn check(head: &[u8]) -> Result<Framing, HeadFault> {
    let body = head.strip_suffix(b"\r\n\r\n").ok_or(HeadFault::ControlCharacter)?;
    let mut lines = Lines(Some(body));
    let version_11 = request_line(lines.next().ok_or(HeadFault::RequestLine)?)?;
    let mut fields = Fields::default();
    for (count, line) in lines.enumerate() {
        if count >= FIELDS_MAX {
            return Err(HeadFault::TooManyFields);
        }
        let (name, value) = field(line)?;
        fields.take(name, value)?;
    }
    fields.framing(version_11)
}

/// Splits at CR LF; a CR or LF elsewhere stays in the line, where the check of its bytes finds it.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let line_feed = memchr::memchr_iter(b'\n', rest)
            .find(|at| at.checked_sub(1).and_then(|before| rest.get(before)) == Some(&b'\r'));
        match line_feed {
            Some(at) => {
                self.0 = rest.get(at + 1..);
                rest.get(..at - 1)
            }
            None => self.0.take(),
        }
    }
}

/// Gives whether the version is 1.1.
fn request_line(line: &[u8]) -> Result<bool, HeadFault> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadFault::RequestLine);
    };
    let version_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(HeadFault::RequestLine),
    };
    if !is_method(method) {
        return Err(HeadFault::Method);
    }
    if method == b"CONNECT" {
        return Err(HeadFault::Connect);
    }
    if is_target(target) { Ok(version_11) } else { Err(HeadFault::Target) }
}

/// Upper-case letters and hyphens: methods are case-sensitive (RFC 9110 §9.1), and no other one is in use.
pub(super) fn is_method(method: &[u8]) -> bool {
    (1..=METHOD_MAX_BYTES).contains(&method.len())
        && method.iter().all(|b| b.is_ascii_uppercase() || *b == b'-')
}

/// Origin form (RFC 9112 §3.2.1), byte for byte what will be signed and forwarded. What is no URI for Pingora is none
/// here: its own answer to one would be without an envelope.
pub(super) fn is_target(target: &[u8]) -> bool {
    target.first() == Some(&b'/')
        && target.len() <= TARGET_MAX_BYTES
        && target.iter().all(|b| b.is_ascii_graphic() && *b != b'#')
        && http::uri::PathAndQuery::try_from(target).is_ok()
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), HeadFault> {
    if line.len() > FIELD_MAX_BYTES {
        return Err(HeadFault::FieldTooLong);
    }
    let colon = memchr::memchr(b':', line).ok_or(HeadFault::FieldName)?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err(HeadFault::FieldName);
    }
    let value = value.get(1..).unwrap_or_default();
    // Without a way out of the loop it is looked through many bytes at a time.
    if value.iter().fold(false, |found, b| found | ((*b < 0x20) & (*b != b'\t')) | (*b == 0x7f)) {
        return Err(HeadFault::ControlCharacter);
    }
    Ok((name, value.trim_ascii()))
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[derive(Default)]
struct Fields {
    host: bool,
    content_length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadFault> {
        if name.contains(&b'_') && shadows(name) {
            return Err(HeadFault::Shadow);
        }
        if name.eq_ignore_ascii_case(b"host") {
            if self.host || !is_authority(value) {
                return Err(HeadFault::Host);
            }
            self.host = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.content_length.is_some() {
                return Err(HeadFault::ContentLength);
            }
            self.content_length = Some(digits(value).ok_or(HeadFault::ContentLength)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadFault::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"trailer") {
            return Err(HeadFault::Trailer);
        } else if name.eq_ignore_ascii_case(b"expect") && !is_expectation(value) {
            return Err(HeadFault::Expect);
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        Ok(())
    }

    fn framing(self, version_11: bool) -> Result<Framing, HeadFault> {
        if !self.host {
            return Err(HeadFault::Host);
        }
        if self.chunked && (self.content_length.is_some() || !version_11) {
            return Err(HeadFault::TransferEncoding);
        }
        let open_ended = self.chunked || self.upgrade;
        Ok(Framing { body_bytes: (!open_ended).then(|| self.content_length.unwrap_or(0)) })
    }
}

/// The one expectation that there is (RFC 9110 §10.1.1).
pub(super) fn is_expectation(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"100-continue")
}

fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// Whether an upstream that takes `_` for `-` would read this field as one that the gateway decides by.
pub(super) fn shadows(name: &[u8]) -> bool {
    let plain: Vec<u8> =
        name.iter().map(|b| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect();
    const EXACT: [&[u8]; 8] = [
        b"signature",
        b"signature-input",
        b"content-digest",
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"forwarded",
        b"connection",
    ];
    EXACT.contains(&plain.as_slice()) || plain.starts_with(b"sigilum-") || plain.starts_with(b"x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &str) -> Result<Framing, HeadFault> {
        check(head.as_bytes())
    }

    #[test]
    fn plain_heads_pass_and_tell_their_length() {
        let get = "GET /a?b=c HTTP/1.1\r\nHost: x:1\r\nAccept: */*\r\n\r\n";
        assert_eq!(of(get), Ok(Framing { body_bytes: Some(0) }));
        let post = "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(of(post), Ok(Framing { body_bytes: Some(12) }));
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n";
        assert_eq!(of(chunked), Ok(Framing { body_bytes: None }));
    }

    #[test]
    fn each_ambiguity_has_its_refusal() {
        use HeadFault as F;
        for (head, fault) in [
            ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", F::RequestLine),
            ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", F::RequestLine),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", F::RequestLine),
            ("GET /\r\nHost: x\r\n\r\n", F::RequestLine),
            ("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", F::RequestLine),
            ("get / HTTP/1.1\r\nHost: x\r\n\r\n", F::Method),
            ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", F::Connect),
            ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", F::Target),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", F::Target),
            ("GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", F::Target),
            ("GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", F::Target),
            ("GET /\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n", F::Target),
            ("GET /<x> HTTP/1.1\r\nHost: x\r\n\r\n", F::Target),
            ("GET /?a=\"b\" HTTP/1.1\r\nHost: x\r\n\r\n", F::Target),
            ("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", F::Target),
            ("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", F::ControlCharacter),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", F::ControlCharacter),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", F::ControlCharacter),
            ("GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", F::FieldName),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", F::FieldName),
            ("GET / HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n", F::FieldName),
            ("GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", F::FieldName),
            ("GET / HTTP/1.1\r\n\r\n", F::Host),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", F::Host),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", F::Host),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", F::Host),
            ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", F::Host),
            ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", F::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", F::Host),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
                F::ContentLength,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", F::ContentLength),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", F::ContentLength),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                F::TransferEncoding,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", F::TransferEncoding),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", F::TransferEncoding),
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", F::TransferEncoding),
            ("POST / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\n\r\n", F::Trailer),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", F::Expect),
            ("GET / HTTP/1.1\r\nHost: a\r\nSigilum_Namespace: x\r\n\r\n", F::Shadow),
            ("GET / HTTP/1.1\r\nHost: a\r\ncontent_length: 3\r\n\r\n", F::Shadow),
        ] {
            assert_eq!(of(head), Err(fault), "{head:?}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(FIELD_MAX_BYTES));
        assert_eq!(of(&long), Err(HeadFault::FieldTooLong));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX));
        assert_eq!(of(&many), Err(HeadFault::TooManyFields));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(head in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = check(&head);
        }
    }
}
