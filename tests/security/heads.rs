//! Heads that two parsers could read differently: refused before anything of them is forwarded, wherever they stand on
//! a connection and however they are cut into packets. Every one carries a signature under which it could pass.

use std::time::Duration;

use super::stage::{Stage, assert_refused};

/// A request in parts, so that one of them can be spoiled.
#[derive(Clone)]
struct Parts {
    line: Vec<u8>,
    host: Vec<u8>,
    signed: Vec<u8>,
    rest: Vec<u8>,
    body: Vec<u8>,
}

impl Parts {
    fn bytes(&self) -> Vec<u8> {
        [&self.line[..], b"\r\n", &self.host, &self.signed, &self.rest, b"\r\n", &self.body].concat()
    }
}

/// A faulty request and its name.
struct Case {
    name: String,
    bytes: Vec<u8>,
    status: u16,
}

impl Case {
    fn new(what: &str, fault: &[u8], bytes: Vec<u8>) -> Self {
        let mut shown = String::from_utf8_lossy(fault).into_owned();
        shown.truncate(shown.floor_char_boundary(60));
        Self { name: format!("{what} {shown:?}"), bytes, status: 400 }
    }

    fn code(&self) -> &'static str {
        if self.status == 405 { "METHOD_NOT_ALLOWED" } else { "REQUEST_INVALID" }
    }
}

const TARGET: &str = "/proxy/echo/v1";

/// A request that would pass, were it not spoiled.
fn good(stage: &Stage, body: &str) -> Parts {
    let (url, text) = (stage.gateway.url(), |lines: String| lines.into_bytes());
    let method = if body.is_empty() { "GET" } else { "POST" };
    let draft = stage.agent.request(method, url, TARGET);
    let signed = if body.is_empty() { draft.sign() } else { draft.body(body).sign() };
    let signed: String = signed.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    Parts {
        line: text(format!("{method} {TARGET} HTTP/1.1")),
        host: text(format!("host: {}\r\n", stage.authority())),
        signed: text(signed),
        rest: Vec::new(),
        body: text(body.to_owned()),
    }
}

fn request_lines(stage: &Stage) -> Vec<Case> {
    let absolute = format!("GET {}{TARGET} HTTP/1.1", stage.gateway.url());
    let authority = format!("GET {} HTTP/1.1", stage.authority());
    let lines: [&[u8]; 45] = [
        b"GET  /proxy/echo/v1 HTTP/1.1",
        b"GET /proxy/echo/v1  HTTP/1.1",
        b"GET /proxy/echo/v1 HTTP/1.1 ",
        b" GET /proxy/echo/v1 HTTP/1.1",
        b"GET\t/proxy/echo/v1\tHTTP/1.1",
        b"GET /proxy/echo/v1\tHTTP/1.1",
        b"GET\x0b/proxy/echo/v1 HTTP/1.1",
        b"get /proxy/echo/v1 HTTP/1.1",
        b"Get /proxy/echo/v1 HTTP/1.1",
        b"G\x00ET /proxy/echo/v1 HTTP/1.1",
        b"GET: /proxy/echo/v1 HTTP/1.1",
        b"G@T /proxy/echo/v1 HTTP/1.1",
        b" /proxy/echo/v1 HTTP/1.1",
        b"\xffGET /proxy/echo/v1 HTTP/1.1",
        b"GETGETGETGETGETGETGETGETGETGETGETGET /proxy/echo/v1 HTTP/1.1",
        b"GET /proxy/echo/v1",
        b"GET /proxy/echo/v1 ",
        b"GET",
        b"",
        b"GET /proxy/echo/v1 HTTP/0.9",
        b"GET /proxy/echo/v1 HTTP/1.2",
        b"GET /proxy/echo/v1 HTTP/2.0",
        b"GET /proxy/echo/v1 HTTP/2",
        b"GET /proxy/echo/v1 HTTP/1",
        b"GET /proxy/echo/v1 HTTP/01.1",
        b"GET /proxy/echo/v1 HTTP/1.10",
        b"GET /proxy/echo/v1 http/1.1",
        b"GET /proxy/echo/v1 ICAP/1.1",
        b"GET /proxy/echo/v1 HTTP/1.1 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET  HTTP/1.1",
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET proxy/echo/v1 HTTP/1.1",
        b"GET ?a HTTP/1.1",
        b"GET /proxy/echo/v1#a HTTP/1.1",
        b"GET /proxy/echo/a b HTTP/1.1",
        b"GET /proxy/echo/a\tb HTTP/1.1",
        b"GET /proxy/echo/a\x00b HTTP/1.1",
        b"GET /proxy/echo/a\x01b HTTP/1.1",
        b"GET /proxy/echo/a\x7fb HTTP/1.1",
        b"GET /proxy/echo/\xc3\xa9 HTTP/1.1",
        b"GET /proxy/echo/\xff HTTP/1.1",
        b"GET /proxy/echo/v1?\x0ba HTTP/1.1",
        b"GET /proxy/echo/v1\r HTTP/1.1",
    ];
    let formed = [absolute.as_bytes(), authority.as_bytes()];
    let mut cases: Vec<Case> = lines
        .into_iter()
        .chain(formed)
        .map(|line| Case::new("request line", line, Parts { line: line.to_vec(), ..good(stage, "") }.bytes()))
        .collect();
    let connect = format!("CONNECT {} HTTP/1.1", stage.authority());
    let bytes = Parts { line: connect.clone().into_bytes(), ..good(stage, "") }.bytes();
    cases.push(Case { status: 405, ..Case::new("request line", connect.as_bytes(), bytes) });
    cases
}

fn hosts(stage: &Stage) -> Vec<Case> {
    let own = stage.authority();
    [
        String::new(),
        "host:\r\n".into(),
        "host: \t\r\n".into(),
        format!("host: {own}\r\nhost: {own}\r\n"),
        format!("host: {own}\r\nHost: other.example\r\n"),
        format!("host: {own}, {own}\r\n"),
        format!("host: {own} other.example\r\n"),
        format!("host: user@{own}\r\n"),
        format!("host: {own}/proxy\r\n"),
        format!("host: http://{own}\r\n"),
        format!("host: {own}\\\r\n"),
        format!("host: {own}?\r\n"),
        "host: 127.0.0.1:\r\n".into(),
        "host: 127.0.0.1:http\r\n".into(),
        "host: 127.0.0.1:123456\r\n".into(),
        "host: 127.0.0.1:80:80\r\n".into(),
        "host: [::1\r\n".into(),
        "host: [::1]80\r\n".into(),
        "host: [v1.x]\r\n".into(),
        "host: ex\u{e4}mple\r\n".into(),
        format!("host : {own}\r\n"),
        format!("host:\r\n {own}\r\n"),
        format!("host: {own}\0\r\n"),
    ]
    .into_iter()
    .map(|host| {
        let bytes = Parts { host: host.clone().into_bytes(), ..good(stage, "") }.bytes();
        Case::new("host", host.as_bytes(), bytes)
    })
    .collect()
}

fn framings(stage: &Stage) -> Vec<Case> {
    let fields: [&[u8]; 50] = [
        b"content-length: 3\r\ncontent-length: 3\r\n",
        b"content-length: 3\r\nContent-Length: 4\r\n",
        b"content-length: 3, 3\r\n",
        b"content-length: 3,3\r\n",
        b"content-length: +3\r\n",
        b"content-length: -3\r\n",
        b"content-length: 0x3\r\n",
        b"content-length: 3 3\r\n",
        b"content-length: 3;a\r\n",
        b"content-length: 3.0\r\n",
        b"content-length: \"3\"\r\n",
        b"content-length:\r\n",
        b"content-length: three\r\n",
        b"content-length: \xef\xbc\x93\r\n",
        b"content-length: 18446744073709551616\r\n",
        b"content-length: 3\x00\r\n",
        b"content-length: \x0b3\r\n",
        b"content-length : 3\r\n",
        b"content-length\t: 3\r\n",
        b" content-length: 3\r\n",
        b"content-length: 3\r\ncontent-length : 5\r\n",
        b"content_length: 3\r\ncontent-length: 3\r\n",
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        b"transfer-encoding: chunked, chunked\r\n",
        b"transfer-encoding: chunked,chunked\r\n",
        b"transfer-encoding: chunked,\r\n",
        b"transfer-encoding: ,chunked\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"transfer-encoding: gzip\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"transfer-encoding: chunked, gzip\r\n",
        b"transfer-encoding: identity\r\n",
        b"transfer-encoding: identity, chunked\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding: chunkedx\r\n",
        b"transfer-encoding: \x0bchunked\r\n",
        b"transfer-encoding: chunked\x00\r\n",
        b"transfer-encoding: chunked\x0c\r\n",
        b"transfer-encoding: \x80chunked\r\n",
        b"transfer-encoding: chunked;a=b\r\n",
        b"transfer-encoding: \"chunked\"\r\n",
        b"transfer-encoding: 'chunked'\r\n",
        b"transfer-encoding:\r\n chunked\r\n",
        b"transfer-encoding:\r\n",
        b"transfer-encoding : chunked\r\n",
        b"transfer_encoding: chunked\r\n",
        b"x: y\rtransfer-encoding: chunked\r\n",
        b"x: y\ntransfer-encoding: chunked\r\n",
    ];
    let mut cases: Vec<Case> = fields
        .into_iter()
        .map(|rest| Case::new("framing", rest, Parts { rest: rest.to_vec(), ..good(stage, "abc") }.bytes()))
        .collect();
    let mut old = good(stage, "abc");
    old.line = format!("POST {TARGET} HTTP/1.0").into_bytes();
    old.rest = b"transfer-encoding: chunked\r\n".to_vec();
    old.body = b"3\r\nabc\r\n0\r\n\r\n".to_vec();
    cases.push(Case::new("framing", b"transfer-encoding in HTTP/1.0", old.bytes()));
    cases
}

fn fields(stage: &Stage) -> Vec<Case> {
    let fields: [&[u8]; 32] = [
        b"x : y\r\n",
        b"x\t: y\r\n",
        b": y\r\n",
        b" : y\r\n",
        b"no colon\r\n",
        b"nocolon\r\n",
        b"x y: z\r\n",
        b"x(y): z\r\n",
        b"x\x00: y\r\n",
        b"x\xc3\xa9: y\r\n",
        b"\x01x: y\r\n",
        b"\rx: y\r\n",
        b"x: y\r\n z\r\n",
        b"x: y\r\n\tz\r\n",
        b"x: y\rz\r\n",
        b"x: y\r\r\n",
        b"x: y\x00\r\n",
        b"x: \x01y\r\n",
        b"x: y\x7f\r\n",
        b"x: y\nz: a\r\n",
        b"x: y\n\r\n",
        b"trailer: x\r\n",
        b"expect: 200-ok\r\n",
        b"expect: 100-continue, x\r\n",
        b"sigilum_namespace: bob\r\n",
        b"Sigilum-Agent_Key: x\r\n",
        b"SIGILUM_SUBJECT: x\r\n",
        b"signature_input: x\r\n",
        b"content_digest: x\r\n",
        b"x_forwarded_host: x\r\n",
        b"X-Forwarded_Proto: x\r\n",
        b"sigilum_: x\r\n",
    ];
    let case =
        |what, shown: &[u8], rest: Vec<u8>| Case::new(what, shown, Parts { rest, ..good(stage, "") }.bytes());
    let mut cases: Vec<Case> = fields.into_iter().map(|rest| case("field", rest, rest.to_vec())).collect();
    let long = format!("x: {}\r\n", "y".repeat(16 * 1024));
    let name = format!("{}: y\r\n", "x".repeat(16 * 1024));
    let many: String = (0..128).map(|n| format!("x-{n}: y\r\n")).collect();
    let large: String = (0..5).map(|n| format!("x-{n}: {}\r\n", "y".repeat(15 * 1024))).collect();
    for (shown, rest) in [
        ("a value too long", long),
        ("a name too long", name),
        ("too many", many),
        ("larger than the whole head may be", large),
    ] {
        cases.push(case("field", shown.as_bytes(), rest.into_bytes()));
    }
    let target = format!("GET {TARGET}?{} HTTP/1.1", "a".repeat(65 * 1024));
    let bytes = Parts { line: target.into_bytes(), ..good(stage, "") }.bytes();
    cases.push(Case::new("request line", b"longer than the whole head may be", bytes));
    cases
}

fn line_ends(stage: &Stage) -> Vec<Case> {
    let text = |parts: Parts| String::from_utf8(parts.bytes()).unwrap();
    let right = text(good(stage, ""));
    [
        ("leading CR LF", format!("\r\n{}", text(good(stage, "")))),
        ("leading LF", format!("\n{}", text(good(stage, "")))),
        ("leading empty lines", format!("\r\n\r\n{}", text(good(stage, "")))),
        ("leading space line", format!(" \r\n{}", text(good(stage, "")))),
        ("leading byte order mark", format!("\u{feff}{}", text(good(stage, "")))),
        ("LF alone", text(good(stage, "")).replace("\r\n", "\n")),
        ("LF after the request line", right.replacen("\r\n", "\n", 1)),
        ("LF before the end", format!("{}\n\r\n", right.trim_end())),
        ("LF at the end", format!("{}\r\n\n", right.trim_end())),
        ("CR CR LF", right.replacen("\r\n", "\r\r\n", 1)),
        ("CR alone, then an end", format!("{}\r\n\r\n", right.trim_end().replace("\r\n", "\r"))),
    ]
    .into_iter()
    .map(|(what, bytes)| Case::new("line ends:", what.as_bytes(), bytes.into_bytes()))
    .collect()
}

fn all(stage: &Stage) -> Vec<Case> {
    [request_lines, hosts, framings, fields, line_ends].iter().flat_map(|of| of(stage)).collect()
}

#[test]
fn unspoiled_heads_pass() {
    let stage = Stage::new();
    for (body, rest) in [("", ""), ("abc", "content-length: 3\r\n")] {
        let mut client = stage.connect();
        client.send(Parts { rest: rest.into(), ..good(&stage, body) }.bytes());
        assert_eq!(client.response().status, 200);
    }
    let chunked = Parts {
        rest: b"transfer-encoding: chunked\r\n".to_vec(),
        body: b"3\r\nabc\r\n0\r\n\r\n".to_vec(),
        ..good(&stage, "abc")
    };
    let mut client = stage.connect();
    client.send(chunked.bytes());
    assert_eq!(client.response().status, 200);
    assert_eq!(stage.forwarded().len(), 3);
}

#[test]
fn ambiguous_head_is_refused_and_never_forwarded() {
    let stage = Stage::new();
    for case in all(&stage) {
        let mut client = stage.connect();
        client.send(&case.bytes);
        assert_refused(&case.name, &mut client, case.status, case.code());
    }
    stage.upstream.assert_zero_bytes();
    stage.assert_sound();
}

#[test]
fn ambiguous_head_behind_a_good_request_is_refused_alone() {
    let stage = Stage::new();
    let cases = all(&stage);
    for (index, case) in cases.iter().enumerate() {
        let first = stage.get(&format!("/first-{index}")).to_bytes();
        let mut client = stage.connect();
        // Half of them pipelined in one packet, half sent once the answer is there.
        if index % 2 == 0 {
            client.send([&first[..], &case.bytes].concat());
            assert_eq!(client.response().status, 200, "{}", case.name);
        } else {
            client.send(first);
            assert_eq!(client.response().status, 200, "{}", case.name);
            client.send(&case.bytes);
        }
        assert_refused(&case.name, &mut client, case.status, case.code());
    }
    let forwarded = stage.forwarded();
    assert_eq!(forwarded.len(), cases.len());
    assert!(forwarded.iter().all(|request| request.target.starts_with("/first-")));
    stage.assert_sound();
}

/// One of each kind.
fn few(stage: &Stage) -> Vec<Case> {
    let mut few: Vec<Case> = Vec::new();
    for part in [
        "HTTP/1.1 HTTP/1.1",
        "host \"\"",
        "content-length: 3\\r\\ntransfer-encoding",
        "\\u{b}chunked",
        "x: y\\r\\n z",
        "sigilum_namespace",
        "LF alone",
        "leading CR LF",
        "CR CR LF",
    ] {
        few.push(
            all(stage).into_iter().find(|case| case.name.contains(part)).unwrap_or_else(|| panic!("{part}")),
        );
    }
    few
}

#[test]
fn ambiguous_head_sent_byte_by_byte_is_refused_as_a_whole_one() {
    let stage = Stage::new();
    for case in few(&stage) {
        let mut client = stage.connect();
        client.send_byte_by_byte(&case.bytes, Duration::from_micros(50));
        assert_refused(&case.name, &mut client, case.status, case.code());
    }
    stage.upstream.assert_zero_bytes();
    let mut client = stage.connect();
    client.send_byte_by_byte(&good(&stage, "").bytes(), Duration::from_micros(50));
    assert_eq!(client.response().status, 200);
    stage.assert_sound();
}

#[test]
fn ambiguous_head_cut_anywhere_is_refused_as_a_whole_one() {
    let stage = Stage::new();
    let host = stage.authority();
    for head in [
        format!("GET / HTTP/1.1\r\nhost: {host}\r\nhost: {host}\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("\r\nGET / HTTP/1.1\r\nhost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {host}\r\nx: y\rz\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n".to_owned(),
    ] {
        for at in 1..head.len() {
            let (before, after) = head.as_bytes().split_at(at);
            let mut client = stage.connect();
            client.send_split(&[before, after], Duration::from_micros(300));
            assert_refused(&format!("{head:?} cut at {at}"), &mut client, 400, "REQUEST_INVALID");
        }
    }
    let right = format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n");
    for at in 1..right.len() {
        let (before, after) = right.as_bytes().split_at(at);
        let mut client = stage.connect();
        client.send_split(&[before, after], Duration::from_micros(300));
        assert_eq!(client.response().status, 200, "cut at {at}");
    }
    stage.upstream.assert_zero_bytes();
}

#[test]
fn preface_of_http2_behind_a_request_is_no_change_of_protocol() {
    let stage = Stage::new();
    let mut client = stage.connect();
    client.send([&stage.get("/one").to_bytes()[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].concat());
    assert_eq!(client.response().status, 200);
    assert_refused("a late preface", &mut client, 400, "REQUEST_INVALID");
}

#[test]
fn bytes_behind_a_request_of_open_end_never_become_a_request_unchecked() {
    let stage = Stage::new();
    let smuggled = format!("GET {TARGET}/smuggled HTTP/1.1\r\nhost: {}\r\n\r\n", stage.authority());
    let chunked = |path: &str| {
        let signed = stage.agent.post(stage.gateway.url(), &format!("/proxy/echo{path}"), "abc");
        signed.to_chunked_bytes(2)
    };
    let upgrade = |path: &str, connection: &str| {
        let signed = stage.get(path).also("upgrade", "websocket");
        if connection.is_empty() {
            signed.to_bytes()
        } else {
            signed.also("connection", connection).to_bytes()
        }
    };
    for first in [
        chunked("/chunked"),
        upgrade("/asked", "upgrade"),
        upgrade("/not-asked", ""),
        upgrade("/kept", "keep-alive"),
        upgrade("/closed", "close"),
    ] {
        let mut client = stage.connect();
        client.send([&first[..], smuggled.as_bytes()].concat());
        // The first may be answered; what follows may be refused for its missing signature, or not at all.
        let mut statuses = Vec::new();
        while let Some(answer) = client.try_response() {
            statuses.push(answer.status);
            if statuses.len() == 2 {
                break;
            }
        }
        assert!(statuses.iter().skip(1).all(|status| *status == 400 || *status == 403), "{statuses:?}");
    }
    stage.assert_sound();
    for request in stage.forwarded() {
        assert!(!request.target.contains("smuggled"), "{request:?}");
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(!body.contains("smuggled"), "{request:?}");
    }
    assert!(!String::from_utf8_lossy(&stage.upstream.received()).contains("smuggled"));
}
