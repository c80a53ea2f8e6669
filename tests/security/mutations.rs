//! Signed requests spoiled at random: never a fault of the gateway's own, and nothing forwarded that it did not allow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::stage::Stage;

/// One change of a request's bytes.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// A header line stands once more, somewhere else.
    Repeat(Index, Index),
    /// A header line is taken away.
    Drop(Index),
    /// Two header lines change places.
    Swap(Index, Index),
    Cut(Index),
}

fn token() -> impl Strategy<Value = Vec<u8>> {
    let words: [&[u8]; 16] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b":",
        b"\t",
        b"%00",
        b"%2e%2e/",
        b"transfer-encoding: chunked\r\n",
        b"content-length: 5\r\n",
        b"0\r\n\r\n",
        b"upgrade: websocket\r\nconnection: upgrade\r\n",
        b"expect: 100-continue\r\n",
        b"GET /proxy/echo/x HTTP/1.1\r\nhost: x\r\n\r\n",
    ];
    prop_oneof![
        prop::sample::select(words.map(<[u8]>::to_vec).to_vec()),
        prop::collection::vec(any::<u8>(), 1..6),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), token()).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), 1..40_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at(), at()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        at().prop_map(Mutation::Drop),
        (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        at().prop_map(Mutation::Cut),
    ]
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Set(at, byte) => bytes[at.index(length)] = *byte,
            Self::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..(at + count).min(length));
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Repeat(..) | Self::Drop(_) | Self::Swap(..) => {
                let text = std::mem::take(bytes);
                let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
                let count = lines.len();
                match self {
                    Self::Repeat(from, to) => lines.insert(to.index(count), lines[from.index(count)]),
                    Self::Drop(at) => {
                        lines.remove(at.index(count));
                    }
                    Self::Swap(a, b) => lines.swap(a.index(count), b.index(count)),
                    _ => {}
                }
                *bytes = lines.concat();
            }
        }
    }
}

/// The statuses of all answers to these bytes. Where the gateway waits for more, the client ends its side.
fn statuses(stage: &Stage, bytes: &[u8]) -> Vec<u16> {
    let mut wire = TcpStream::connect(stage.gateway.address()).unwrap();
    // The gateway may have refused and closed before all is written.
    let _ = wire.write_all(bytes);
    wire.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut answer, mut ended) = (Vec::new(), false);
    loop {
        let mut room = [0; 4096];
        match wire.read(&mut room) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&room[..count]),
            // No more came for a while: whatever is missing is not going to come.
            Err(error) if !ended && error.kind() == std::io::ErrorKind::WouldBlock => {
                let _ = wire.shutdown(Shutdown::Write);
                wire.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
                ended = true;
            }
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the connection does not end");
                break;
            }
        }
    }
    let text = String::from_utf8_lossy(&answer);
    // The echo quotes what it got, with its line ends escaped: a status line begins a line only where it is one.
    text.split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|rest| rest.get(..4)?.strip_suffix(' ')?.parse().ok())
        .collect()
}

#[test]
fn random_changes_of_a_signed_request_harm_nothing() {
    let stage = Stage::new();
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let requests = (prop::collection::vec(mutation(), 1..4), 0..3_u8);
    let ran = TestRunner::new(config).run(&requests, |(mutations, kind)| {
        let url = stage.gateway.url();
        let mut bytes = match kind {
            0 => stage.get("/mutated?a=b").to_bytes(),
            1 => stage.agent.post(url, "/proxy/echo/mutated", "{\"a\":1}").to_bytes(),
            _ => stage.agent.post(url, "/proxy/echo/mutated", "{\"a\":1}").to_chunked_bytes(3),
        };
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        bytes.extend_from_slice(&stage.last("/behind").to_bytes());
        for status in statuses(&stage, &bytes) {
            prop_assert!(status < 500, "{status} for {:?}", String::from_utf8_lossy(&bytes));
        }
        Ok(())
    });
    ran.unwrap_or_else(|fault| panic!("{fault}"));
    stage.assert_sound();
    assert!(
        stage.assert_only_allowed_was_forwarded().len() > 1,
        "no spoiled request passed: nothing was tried"
    );
}
