//! One kept connection that asks and waits for the answer.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::response::Answer;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    answer: Answer,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, answer: Answer::new() }
    }

    /// Sends a request and gives the status of its answer. It connects where it has to.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.write_all(request)?;
        let status = loop {
            let count = stream.read(self.answer.room())?;
            if let Some(status) = self.answer.take(count)? {
                break status;
            }
        };
        if !self.text().to_ascii_lowercase().contains("\r\nconnection: close\r\n") {
            self.stream = Some(stream);
        }
        Ok(status)
    }

    /// The last answer.
    pub fn text(&self) -> String {
        self.answer.text()
    }

    fn connect(&mut self) -> io::Result<TcpStream> {
        // What came of an answer that broke off is of no use.
        self.answer = Answer::new();
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// When an owner asked for a decision, and when it was answered.
pub struct Decided {
    pub asked: Instant,
    pub answered: Instant,
}

/// `approve` or `revoke`, by the owner who holds this token.
pub fn decide(client: &mut Client, token: &str, claim: &str, decision: &str) -> Result<Decided, String> {
    let request = format!(
        "POST /v1/claims/{claim}/{decision} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n",
        client.address
    );
    let asked = Instant::now();
    let status = client.ask(request.as_bytes()).map_err(|error| format!("{decision}: {error}"))?;
    let answered = Instant::now();
    if status == 200 {
        Ok(Decided { asked, answered })
    } else {
        Err(format!("{decision}: {}", client.text()))
    }
}

/// The whole text of what a GET on a connection of its own brings, with its head.
pub fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
