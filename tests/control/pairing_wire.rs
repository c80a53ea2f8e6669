//! A recorder on a line: it passes everything on and keeps every byte, both ways. And the search for a secret in bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// One direction of one connection.
type Kept = Arc<Mutex<Vec<u8>>>;

/// The recorder, gone with its lines when dropped.
pub struct Wire {
    address: SocketAddr,
    kept: Arc<Mutex<Vec<Kept>>>,
    _runtime: Runtime,
}

impl Wire {
    /// In front of the server at `to`.
    pub fn before(to: SocketAddr) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, kept) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Kept>>>::default());
        let all = Arc::clone(&kept);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (up, down) = (Kept::default(), Kept::default());
                all.lock().unwrap().extend([Arc::clone(&up), Arc::clone(&down)]);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(to).await else { return };
                    let (near, far) = (client.into_split(), server.into_split());
                    tokio::join!(carry(near.0, far.1, &up), carry(far.0, near.1, &down));
                });
            }
        });
        Self { address, kept, _runtime: runtime }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every byte so far; behind those of a WebSocket's client once more what its messages say, since they are masked
    /// (RFC 6455 §5.3).
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for stream in self.kept.lock().unwrap().iter() {
            let stream = stream.lock().unwrap();
            all.extend_from_slice(&stream);
            all.push(b'\n');
            if stream.starts_with(b"GET /v1/gateway/pairing/connect") {
                all.extend(unmasked(&stream));
            }
        }
        all
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, kept: &Kept) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        kept.lock().unwrap().extend_from_slice(&piece[..count]);
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// The payloads of a client's frames, one after the other.
fn unmasked(stream: &[u8]) -> Vec<u8> {
    let head = stream.windows(4).position(|part| part == b"\r\n\r\n").map_or(stream.len(), |at| at + 4);
    let (mut rest, mut said) = (&stream[head..], Vec::new());
    while let [_, second, behind @ ..] = rest {
        assert!(second & 0x80 != 0, "a client's frame is masked");
        let (length, behind) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([behind[0], behind[1]])), &behind[2..]),
            127 => (u64::from_be_bytes(behind[..8].try_into().unwrap()) as usize, &behind[8..]),
            short => (usize::from(short), behind),
        };
        let (mask, payload) = behind.split_at(4);
        let length = length.min(payload.len());
        said.extend(payload[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        said.push(b'\n');
        rest = &payload[length..];
    }
    said
}

/// The forms in which bytes may hold a text: as it is, escaped in JSON, percent-encoded, in hexadecimal, and in base64
/// wherever it begins in what was encoded.
pub fn forms(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let percent = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let encoded: String = bytes.iter().map(percent).collect();
    let lower = encoded.replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d");
    let mut forms = vec![
        text.to_owned(),
        text.replace('/', "\\/"),
        url::form_urlencoded::byte_serialize(bytes).collect(),
        encoded,
        lower,
        hex.to_uppercase(),
        hex,
    ];
    for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let whole = [&b"---"[..before], bytes].concat();
            let inside = (before * 8).div_ceil(6)..whole.len() * 8 / 6;
            forms.push(alphabet.encode(&whole)[inside].to_owned());
        }
    }
    forms
}

/// The form of `text` that stands in `bytes`, if any does.
pub fn found(bytes: &[u8], text: &str) -> Option<String> {
    let stands = |form: &String| memchr::memmem::find(bytes, form.as_bytes()).is_some();
    forms(text).into_iter().find(stands)
}

#[test]
fn search_finds_a_text_in_every_form_and_nothing_where_it_is_not() {
    let text = "sk-canary/4711+pairing=z";
    let around = |form: &str| format!("…{{\"a\":\"{form}\"}}…").into_bytes();
    for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in ["", "a", "ab", "abc"] {
            assert!(found(&around(&alphabet.encode(format!("{before}{text}d"))), text).is_some(), "{before}");
        }
    }
    for form in
        ["sk-canary\\/4711+pairing=z", "sk-canary%2F4711%2Bpairing%3Dz", "sk-canary%2f4711%2bpairing%3dz"]
    {
        assert!(found(&around(form), text).is_some(), "{form}");
    }
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(found(&around(&hex), text).is_some() && found(&around(&hex.to_uppercase()), text).is_some());
    assert_eq!(found(&around("sk-canary/4712+pairing=z"), text), None);
}
