//! HTTP/2 frames written by hand, for what no well-behaved client can send (RFC 9113 §4, RFC 7541 §6.2.2).

use crate::support::raw::RawClient;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A whole frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as a literal that enters no table.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

/// A header block of these fields.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_ref(), value.as_ref())).collect()
}

/// A string without Huffman coding, its length as an integer with a prefix of seven bits.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let mut length = bytes.len();
    if length < 127 {
        coded.push(length as u8);
    } else {
        coded.push(127);
        length -= 127;
        while length >= 128 {
            coded.push((length % 128) as u8 | 128);
            length /= 128;
        }
        coded.push(length as u8);
    }
    coded.extend_from_slice(bytes);
    coded
}

/// A frame that came.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it is the head of an answer with status 200, which every encoder writes as one byte.
    pub fn is_ok(&self) -> bool {
        self.kind == HEADERS && self.payload.first() == Some(&0x88)
    }
}

/// A connection whose preface and settings are sent.
pub fn open(mut client: RawClient) -> RawClient {
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    client
}

/// The next frame; `None` when the connection has ended.
pub fn next(client: &mut RawClient) -> Option<Frame> {
    let head = client.exactly(9);
    let [a, b, c, kind, flags, stream @ ..]: [u8; 9] = head.try_into().ok()?;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let stream = u32::from_be_bytes(stream);
    let payload = client.exactly(length);
    (payload.len() == length).then_some(Frame { kind, flags, stream, payload })
}

/// Reads until stream 1 is answered or reset, or the connection is ended; gives what decided it.
pub fn outcome(client: &mut RawClient) -> Option<Frame> {
    loop {
        let frame = next(client)?;
        let decides = matches!(frame.kind, HEADERS | RST_STREAM) && frame.stream == 1 || frame.kind == GOAWAY;
        if decides {
            return Some(frame);
        }
    }
}
