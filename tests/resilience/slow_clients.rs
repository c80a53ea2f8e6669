//! Clients that say too little, too late: each is let go, and told where it can be told.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::security::stage::{Stage, assert_refused};
use crate::support::PATIENCE;
use crate::support::certs::Authority;
use crate::support::raw::RawClient;

/// A stage that waits for a head half a second.
fn hasty() -> Stage {
    Stage::with(|setup| setup.set("limits.header_timeout", "500ms"))
}

#[test]
fn dripping_head_is_told_that_its_time_is_over() {
    let stage = hasty();
    let head = stage.get("/slow").to_bytes();
    let mut client = stage.connect();
    // Never silent for long, and never at an end.
    for byte in &head[..head.len() - 4] {
        if client.try_send(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_refused("a dripping head", &mut client, 408, "REQUEST_TIMEOUT");
    stage.upstream.assert_zero_bytes();
    stage.assert_sound();
}

#[test]
fn head_that_stops_half_way_is_told_so_on_a_kept_connection_too() {
    let stage = hasty();
    let mut client = stage.connect();
    client.send(stage.get("/whole").to_bytes());
    assert_eq!(client.response().status, 200);
    client.send("GET /proxy/echo/half HTTP/1.1\r\nhost: x\r\n");
    assert_refused("half a head", &mut client, 408, "REQUEST_TIMEOUT");
    // A preface that never comes to its end is no different.
    let mut client = stage.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM");
    assert_refused("half a preface", &mut client, 408, "REQUEST_TIMEOUT");
    assert_eq!(stage.forwarded().len(), 1);
}

#[test]
fn silent_connection_is_closed_without_a_word() {
    let stage = hasty();
    stage.connect().assert_closed();
    stage.assert_sound();
}

#[test]
fn handshake_that_does_not_come_to_its_end_is_closed() {
    let authority = Authority::new();
    let files = authority.server("gateway", &["localhost"]);
    let stage = Stage::with(|setup| {
        setup.set("limits.header_timeout", "500ms").set(
            "listeners",
            serde_json::json!([
                { "address": "127.0.0.1:0" },
                { "address": "127.0.0.1:0", "tls": { "certificates": [{ "cert": files.cert, "key": files.key }] } },
            ]),
        )
    });
    let address = stage.gateway.urls()[1].trim_start_matches("https://").parse().unwrap();
    // Nothing at all; the beginning of a hello; and what is no TLS, which may be told so in TLS's own way.
    RawClient::connect(address).assert_closed();
    let mut begun = RawClient::connect(address);
    begun.send([0x16, 3, 1, 0, 200, 1, 0]);
    begun.assert_closed();
    let mut plain = RawClient::connect(address);
    plain.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(!plain.rest().starts_with(b"HTTP/"));
    // Under TLS the deadline of the head holds as well.
    let mut dripping =
        RawClient::connect_tls(address, authority.client_config(None, &[]), "localhost").unwrap();
    dripping.send("GET /health HTTP/1.1\r\n");
    assert_refused("half a head under TLS", &mut dripping, 408, "REQUEST_TIMEOUT");
    // And for HTTP/2 that was agreed on and never begins.
    let mut silent =
        RawClient::connect_tls(address, authority.client_config(None, &["h2"]), "localhost").unwrap();
    silent.assert_closed();
    stage.assert_sound();
}

#[test]
fn body_below_the_least_rate_is_given_up() {
    // Bodies may stall for ten seconds before their rate counts, so this takes as long.
    let stage = Stage::with(|setup| setup.set("limits.body.min_rate", "1GiB"));
    let body = "x".repeat(1_000);
    let signed = stage.agent.post(stage.gateway.url(), "/proxy/echo/slow", &body);
    let counted = signed.head("content-length: 1000\r\n");
    let chunked = stage
        .agent
        .post(stage.gateway.url(), "/proxy/echo/slow", &body)
        .head("transfer-encoding: chunked\r\n");
    let dripping: Vec<_> = [(counted, &b"x"[..]), (chunked, b"1\r\nx\r\n")]
        .into_iter()
        .map(|(head, drip)| {
            let mut wire = TcpStream::connect(stage.gateway.address()).unwrap();
            wire.write_all(&head).unwrap();
            let mut hand = wire.try_clone().unwrap();
            std::thread::spawn(move || {
                while hand.write_all(drip).is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            wire
        })
        .collect();
    for mut wire in dripping {
        wire.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        // The end may be a reset, since the client goes on.
        let _ = wire.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("\"code\":\"REQUEST_TIMEOUT\""), "{answer}");
    }
    assert_eq!(stage.forwarded(), []);
    stage.assert_sound();
}

#[test]
fn waiting_clients_hold_nobody_up() {
    let stage = Stage::new();
    let mut waiting: Vec<RawClient> = Vec::new();
    for number in 0..200 {
        let mut client = stage.connect();
        match number % 3 {
            0 => {}
            1 => client.send("GET /proxy/echo/x HTTP/1.1\r\nhost: x\r\n"),
            _ => client.send(
                stage.agent.post(stage.gateway.url(), "/proxy/echo/x", "abc").head("content-length: 3\r\n"),
            ),
        }
        waiting.push(client);
    }
    stage.assert_sound();
    assert_eq!(stage.forwarded().len(), 1);
}
