//! Hostile HTTP/2: what it says in another way than HTTP/1 must not pass in another way either.

use std::collections::BTreeSet;

use super::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame,
};
use super::stage::Stage;
use crate::support::h2_client::H2Client;
use crate::support::raw::RawClient;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

const TARGET: &str = "/proxy/echo/v1";

/// A signed request's fields, in order.
fn good(stage: &Stage, body: Option<&str>) -> Fields {
    let method = if body.is_some() { "POST" } else { "GET" };
    let draft = stage.agent.request(method, stage.gateway.url(), TARGET);
    let signed =
        body.map_or_else(|| stage.agent.get(stage.gateway.url(), TARGET), |body| draft.body(body).sign());
    let pseudo = [
        (":method", method.to_owned()),
        (":scheme", "http".to_owned()),
        (":path", TARGET.to_owned()),
        (":authority", stage.authority()),
    ];
    let pseudo = pseudo.into_iter().map(|(name, value)| (name.to_owned(), value));
    pseudo.chain(signed.headers).map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect()
}

fn set(mut fields: Fields, name: &str, value: &[u8]) -> Fields {
    fields.iter_mut().find(|(n, _)| n == name.as_bytes()).unwrap().1 = value.to_vec();
    fields
}

fn without(mut fields: Fields, name: &str) -> Fields {
    fields.retain(|(n, _)| n != name.as_bytes());
    fields
}

fn with(mut fields: Fields, name: &[u8], value: &[u8]) -> Fields {
    fields.push((name.to_vec(), value.to_vec()));
    fields
}

/// The frames of a request on stream 1.
fn request(fields: &Fields, body: Option<&[u8]>) -> Vec<u8> {
    let end = if body.is_none() { END_STREAM } else { 0 };
    let head = frame(HEADERS, END_HEADERS | end, 1, &block(fields));
    let body = body.map_or_else(Vec::new, |body| frame(DATA, END_STREAM, 1, body));
    [head, body].concat()
}

fn outcome(stage: &Stage, bytes: &[u8]) -> Option<Frame> {
    let mut client = frames::open(stage.connect());
    client.send(bytes);
    frames::outcome(&mut client)
}

#[test]
fn frames_written_by_hand_pass_when_they_are_right() {
    let stage = Stage::new();
    assert!(outcome(&stage, &request(&good(&stage, None), None)).unwrap().is_ok());
    let fields = with(good(&stage, Some("abc")), b"content-length", b"3");
    assert!(outcome(&stage, &request(&fields, Some(b"abc"))).unwrap().is_ok());
    assert!(outcome(&stage, &request(&good(&stage, Some("abc")), Some(b"abc"))).unwrap().is_ok());
    assert_eq!(stage.forwarded().len(), 3);
}

/// Fields that no request may have.
fn hostile_fields(stage: &Stage) -> Vec<(String, Fields)> {
    let named: [(&[u8], &[u8]); 39] = [
        (b"Upper", b"x"),
        (b"", b"x"),
        (b"with space", b"x"),
        (b"with:colon", b"x"),
        (b"with\r\nbreak", b"x"),
        (b"with\0nul", b"x"),
        (b"n\xc3\xa4me", b"x"),
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"connection", b"keep-alive"),
        (b"connection", b"upgrade"),
        (b"proxy-connection", b"keep-alive"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip"),
        (b"trailer", b"x"),
        (b"host", b"other.example"),
        (b"host", b""),
        (b"host", b"a, b"),
        (b"sigilum_namespace", b"bob"),
        (b"sigilum_agent_key", b"x"),
        (b"sigilum-agent_cert", b"x"),
        (b"signature_input", b"x"),
        (b"content_digest", b"x"),
        (b"content_length", b"3"),
        (b"transfer_encoding", b"chunked"),
        (b"x_forwarded_host", b"x"),
        (b":path", b"/proxy/echo/other"),
        (b":method", b"DELETE"),
        (b":authority", b"other.example"),
        (b":scheme", b"https"),
        (b":status", b"200"),
        (b":protocol", b"websocket"),
        (b":unknown", b"x"),
        (b"expect", b"more"),
    ];
    let mut cases: Vec<(String, Fields)> = named
        .into_iter()
        .map(|(name, value)| {
            (
                format!("{:?}", (String::from_utf8_lossy(name), String::from_utf8_lossy(value))),
                with(good(stage, None), name, value),
            )
        })
        .collect();
    for name in [":method", ":scheme", ":path", ":authority"] {
        cases.push((format!("no {name}"), without(good(stage, None), name)));
        let mut twice = good(stage, None);
        let again = twice.iter().find(|(n, _)| n == name.as_bytes()).unwrap().clone();
        twice.insert(1, again);
        cases.push((format!("{name} twice"), twice));
        let mut late = good(stage, None);
        let at = late.iter().position(|(n, _)| n == name.as_bytes()).unwrap();
        let moved = late.remove(at);
        late.push(moved);
        cases.push((format!("{name} behind the fields"), late));
    }
    cases
}

/// Pseudo-fields with values that no request may have.
fn hostile_values(stage: &Stage) -> Vec<(String, Fields)> {
    let absolute = format!("{}{TARGET}", stage.gateway.url());
    let userinfo = format!("user@{}", stage.authority());
    let list = format!("{0}, {0}", stage.authority());
    let values: [(&str, &[u8]); 25] = [
        (":path", b""),
        (":path", b"*"),
        (":path", b"proxy/echo/v1"),
        (":path", absolute.as_bytes()),
        (":path", b"/proxy/echo/a b"),
        (":path", b"/proxy/echo/a\tb"),
        (":path", b"/proxy/echo/a\0b"),
        (":path", b"/proxy/echo/a\r\nx: y"),
        (":path", b"/proxy/echo/\xc3\xa9"),
        (":path", b"/proxy/echo/v1 HTTP/1.1\r\nx: y\r\n\r\n"),
        (":method", b"CONNECT"),
        (":method", b"TRACE"),
        (":method", b""),
        (":method", b"get"),
        (":method", b"G T"),
        (":method", b"GET / HTTP/1.1\r\nx: y\r\n\r\nGET"),
        (":authority", b""),
        (":authority", userinfo.as_bytes()),
        (":authority", list.as_bytes()),
        (":authority", b"a b"),
        (":authority", b"a/b"),
        (":authority", b"a\r\nx: y"),
        (":authority", b"[::1"),
        (":scheme", b"http\r\nx: y"),
        (":scheme", b"http://x/?"),
    ];
    values
        .into_iter()
        .map(|(name, value)| {
            let what = format!("{:?}", (name, String::from_utf8_lossy(value)));
            (what, set(good(stage, None), name, value))
        })
        .collect()
}

#[test]
fn head_that_no_request_may_have_is_refused_and_never_forwarded() {
    let stage = Stage::new();
    let mut passed = BTreeSet::new();
    for (what, fields) in hostile_fields(&stage).into_iter().chain(hostile_values(&stage)) {
        if outcome(&stage, &request(&fields, None)).is_some_and(|frame| frame.is_ok()) {
            passed.insert(what);
        }
    }
    assert_eq!(passed, BTreeSet::new());
    stage.upstream.assert_zero_bytes();
    stage.assert_sound();
}

#[test]
fn body_of_another_length_than_declared_never_becomes_a_request() {
    let stage = Stage::new();
    for (length, body) in [
        ("3", "abcde"),
        ("5", "abc"),
        ("0", "abc"),
        ("3", ""),
        ("+3", "abc"),
        ("3, 3", "abc"),
        ("3 ", "abcd"),
        ("-3", "abc"),
        ("", "abc"),
        ("0x3", "abc"),
        ("18446744073709551616", "abc"),
        ("65537", "abc"),
    ] {
        let fields = with(good(&stage, Some(body)), b"content-length", length.as_bytes());
        let outcome = outcome(&stage, &request(&fields, Some(body.as_bytes())));
        assert!(!outcome.is_some_and(|frame| frame.is_ok()), "{length:?} for {body:?}");
    }
    for (first, second) in [("3", "3"), ("3", "4")] {
        let fields = with(good(&stage, Some("abc")), b"content-length", first.as_bytes());
        let fields = with(fields, b"content-length", second.as_bytes());
        assert!(!outcome(&stage, &request(&fields, Some(b"abc"))).is_some_and(|frame| frame.is_ok()));
    }
    assert_eq!(stage.forwarded(), []);
    stage.assert_sound();
}

#[test]
fn header_list_beyond_the_limit_is_refused() {
    let stage = Stage::new();
    let client = H2Client::connect(stage.gateway.address());
    let large = "y".repeat(15_000);
    let mut signed = stage.get("/large");
    for number in 0..6 {
        signed = signed.also(&format!("x-{number}"), &large);
    }
    if let Ok(answer) = client.request(signed.to_h2(), None) {
        assert!((400..500).contains(&answer.status), "{}", answer.status);
    }
    stage.upstream.assert_zero_bytes();
    stage.assert_sound();
}

#[test]
fn endless_continuation_ends_the_connection() {
    let stage = Stage::new();
    let mut client = frames::open(stage.connect());
    client.send(frame(HEADERS, END_STREAM, 1, &block(&good(&stage, None))));
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", "y".repeat(8_000))]));
    // 160 MB, were they taken.
    for _ in 0..20_000 {
        if client.try_send(&more).is_err() {
            break;
        }
    }
    assert!(client.try_send(&more).is_err() || frames::outcome(&mut client).is_none_or(|f| f.kind == GOAWAY));
    stage.upstream.assert_zero_bytes();
    stage.assert_sound();
}

#[test]
fn streams_opened_and_reset_at_once_wear_nothing_out() {
    let stage = Stage::new();
    let mut client = frames::open(stage.connect());
    let fields = good(&stage, None);
    let block = block(&fields);
    let mut sent = 0;
    for number in 0..5_000_u32 {
        let stream = 2 * number + 1;
        let pair = [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ];
        if client.try_send(&pair.concat()).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent > 0);
    drop(client);
    stage.assert_sound();
    stage.gateway.wait_for_metric("sigilum_gateway_requests_in_flight", 0.0);
    // The signature was the same each time: the first may have passed, no other.
    let copies = stage.forwarded().iter().filter(|request| request.target == "/v1").count();
    assert!(copies <= 1, "{copies}");
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_others_answered() {
    let stage = Stage::new();
    let mut client = frames::open(stage.connect());
    let health = |stream| {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/health"), (":authority", "x")];
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
    };
    let opened: Vec<u8> = (0..400).flat_map(|number| health(2 * number + 1)).collect();
    client.send(opened);
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 400 {
        match frames::next(&mut client) {
            Some(frame) if frame.is_ok() => answered += 1,
            Some(frame) if frame.kind == RST_STREAM => refused += 1,
            Some(frame) if frame.kind == GOAWAY => break,
            Some(_) => {}
            None => break,
        }
    }
    assert!(answered > 0);
    stage.assert_sound();
}

#[test]
fn frames_out_of_order_end_the_connection_and_nothing_else() {
    let stage = Stage::new();
    let head = block(&good(&stage, None));
    let cases: [(&str, Vec<u8>); 16] = [
        ("data on an idle stream", frame(DATA, END_STREAM, 1, b"abc")),
        ("data on stream 0", frame(DATA, END_STREAM, 0, b"abc")),
        ("a head on stream 0", frame(HEADERS, END_HEADERS | END_STREAM, 0, &head)),
        ("a head on an even stream", frame(HEADERS, END_HEADERS | END_STREAM, 2, &head)),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &head)),
        ("a ping within a head", [frame(HEADERS, END_STREAM, 1, &head), frame(PING, 0, 0, &[0; 8])].concat()),
        ("a ping of 7 bytes", frame(PING, 0, 0, &[0; 7])),
        ("settings of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("a window of 0 more", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window beyond its limit", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)),
        ("a reset of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("padding longer than the frame", frame(HEADERS, END_HEADERS | END_STREAM | 8, 1, &[200, 1, 2])),
        ("an index of no table", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0xff, 0x0f])),
        (
            "a string longer than the block",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0, 0x7f, 0xff, 0x0f]),
        ),
        ("a frame larger than agreed", frame(DATA, 0, 1, &vec![0; 20_000])),
    ];
    for (what, bytes) in cases {
        let mut client = frames::open(stage.connect());
        client.send(bytes);
        let end = frames::outcome(&mut client);
        assert!(end.is_none_or(|frame| frame.kind == GOAWAY || frame.kind == RST_STREAM), "{what}");
    }
    stage.upstream.assert_zero_bytes();
    stage.assert_sound();
}

#[test]
fn floods_of_small_frames_leave_the_gateway_serving() {
    let stage = Stage::new();
    let floods: [Vec<u8>; 4] = [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(200, 0, 0, b"unknown"),
    ];
    let mut clients: Vec<RawClient> = Vec::new();
    for flood in floods {
        let mut client = frames::open(stage.connect());
        for _ in 0..200 {
            if client.try_send(&flood.repeat(50)).is_err() {
                break;
            }
        }
        clients.push(client);
    }
    stage.assert_sound();
}

#[test]
fn trailers_of_a_request_are_not_forwarded() {
    let stage = Stage::new();
    let fields = good(&stage, Some("abc"));
    let mut client = frames::open(stage.connect());
    client.send(
        [
            frame(HEADERS, END_HEADERS, 1, &block(&fields)),
            frame(DATA, 0, 1, b"abc"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("authorization", "Bearer evil")])),
        ]
        .concat(),
    );
    frames::outcome(&mut client);
    stage.assert_sound();
    assert!(!String::from_utf8_lossy(&stage.upstream.received()).contains("evil"));
}

#[test]
fn answered_ping_shows_that_the_frames_are_read() {
    let stage = Stage::new();
    let mut client = frames::open(stage.connect());
    client.send(frame(PING, 0, 0, b"whatever"));
    let answer = loop {
        let frame = frames::next(&mut client).expect("the connection goes on");
        if frame.kind == PING {
            break frame;
        }
    };
    assert_eq!((answer.flags, answer.payload.as_slice()), (ACK, &b"whatever"[..]));
}
