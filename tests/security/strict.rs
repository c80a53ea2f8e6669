//! HTTP/1.1 requests read as the strictest upstream would: one reading, or a fault.

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Why no further byte can be read as a request.
type Fault = &'static str;

/// The whole requests of a connection, and whether a further one was begun and not ended.
pub fn requests(mut bytes: &[u8]) -> Result<(Vec<Request>, bool), Fault> {
    let mut whole = Vec::new();
    while !bytes.is_empty() {
        match request(bytes)? {
            Some((request, rest)) => {
                whole.push(request);
                bytes = rest;
            }
            None => return Ok((whole, true)),
        }
    }
    Ok((whole, false))
}

/// One request and what follows it; `None` where it is not whole.
fn request(bytes: &[u8]) -> Result<Option<(Request, &[u8])>, Fault> {
    let Some((head, rest)) = split(bytes, b"\r\n\r\n") else { return Ok(None) };
    // Values may hold bytes above ASCII (`obs-text`, RFC 9110 §5.5); each is read as one character.
    let head: String = head.iter().copied().map(char::from).collect();
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = line[..] else { return Err("the request line has no three parts") };
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        return Err("the method is no word");
    }
    if !target.starts_with('/') || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err("the target is no path");
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a field without colon")?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        {
            return Err("a field name is no token");
        }
        if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
            return Err("a field value holds a control character");
        }
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut request =
        Request { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() };
    if request.all("host").len() != 1 {
        return Err("not one Host");
    }
    let rest = match (&request.all("content-length")[..], &request.all("transfer-encoding")[..]) {
        ([], []) => Some(rest),
        ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "the length is no number")?;
            let body = rest.get(..length).map(<[u8]>::to_vec);
            body.map(|body| {
                request.body = body;
                &rest[length..]
            })
        }
        ([], ["chunked"]) => chunks(rest, &mut request.body)?,
        _ => return Err("the framing can be read in two ways"),
    };
    Ok(rest.map(|rest| (request, rest)))
}

/// What follows the last chunk; `None` where the body is not whole.
fn chunks<'a>(mut bytes: &'a [u8], body: &mut Vec<u8>) -> Result<Option<&'a [u8]>, Fault> {
    loop {
        let Some((line, rest)) = split(bytes, b"\r\n") else { return Ok(None) };
        if line.is_empty() || line.len() > 8 || !line.iter().all(u8::is_ascii_hexdigit) {
            return Err("a chunk size is no hexadecimal number");
        }
        let size = usize::from_str_radix(std::str::from_utf8(line).unwrap_or_default(), 16)
            .map_err(|_| "a chunk size is no number")?;
        let (Some(chunk), Some(end)) = (rest.get(..size), rest.get(size..size + 2)) else { return Ok(None) };
        if end != b"\r\n" {
            return Err("a chunk does not end, or the body has trailers");
        }
        body.extend_from_slice(chunk);
        bytes = &rest[size + 2..];
        if size == 0 {
            return Ok(Some(bytes));
        }
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let position = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..position], &bytes[position + at.len()..]))
}

#[test]
fn only_one_reading_is_taken() {
    let head = "POST /a HTTP/1.1\r\nhost: x\r\n";
    let whole = |framing: &str| requests(format!("{head}{framing}").as_bytes());
    let (read, begun) = whole("content-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nhost: x\r\n\r\nG").unwrap();
    assert_eq!((read.len(), read[0].body.as_slice(), begun), (2, &b"abc"[..], true));
    let (read, begun) = whole("transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n").unwrap();
    assert_eq!((read[0].body.as_slice(), begun), (&b"ab"[..], false));
    for faulty in [
        "content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        "content-length: +3\r\n\r\nabc",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n2;a\r\nab\r\n0\r\n\r\n",
        "a : b\r\n\r\n",
        "a: b\rc\r\n\r\n",
        "host: y\r\n\r\n",
        "\r\n\r\n\r\n",
    ] {
        assert!(whole(faulty).is_err(), "{faulty:?}");
    }
}
