//! HTTP/1.1 messages read byte by byte, as a strict peer reads them: nothing is guessed or repaired.

use std::io::{self, Read, Write};

/// A byte stream: plain, or under TLS.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A message's first line and its headers, names as sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub first_line: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The values of `name`, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.headers, name)
    }

    /// The first value of `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// The values of `name` in `headers`, in order, whatever the case of the name.
pub fn all<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
}

/// How a body came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As its framing says.
    Complete,
    /// The connection ended before.
    Cut,
}

/// Reads messages from a stream and keeps what came too early for the next.
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// What came and is not yet taken.
    pub fn buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// The next head; `None` when the stream ends before it does.
    pub fn head(&mut self, stream: &mut dyn Read) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if self.fill(stream)? == 0 {
                return Ok(None);
            }
        };
        let bytes: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .map(|line| line.split_once(':').unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Ok(Some(Head { first_line, headers }))
    }

    /// Exactly `length` bytes into `body`, each piece as soon as it is there.
    pub fn exactly(
        &mut self,
        stream: &mut dyn Read,
        length: usize,
        body: &mut dyn FnMut(&[u8]),
    ) -> io::Result<End> {
        let mut left = length;
        loop {
            let take = left.min(self.buffer.len());
            if take > 0 {
                let piece: Vec<u8> = self.buffer.drain(..take).collect();
                body(&piece);
                left -= take;
            }
            if left == 0 {
                return Ok(End::Complete);
            }
            if self.fill(stream)? == 0 {
                return Ok(End::Cut);
            }
        }
    }

    /// The next chunk of a chunked body: empty at its end, `None` when the stream ends before it.
    pub fn chunk(&mut self, stream: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
        let Some(line) = self.line(stream)? else { return Ok(None) };
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is no chunk size")))?;
        let mut chunk = Vec::new();
        if self.exactly(stream, size, &mut |piece| chunk.extend_from_slice(piece))? == End::Cut {
            return Ok(None);
        }
        if size > 0 {
            return Ok(self.line(stream)?.map(|_| chunk));
        }
        // The trailer section ends with an empty line.
        loop {
            match self.line(stream)? {
                None => return Ok(None),
                Some(line) if line.is_empty() => return Ok(Some(chunk)),
                Some(_) => {}
            }
        }
    }

    /// All chunks into `body`.
    pub fn chunks(&mut self, stream: &mut dyn Read, body: &mut dyn FnMut(&[u8])) -> io::Result<End> {
        loop {
            match self.chunk(stream)? {
                None => return Ok(End::Cut),
                Some(chunk) if chunk.is_empty() => return Ok(End::Complete),
                Some(chunk) => body(&chunk),
            }
        }
    }

    /// The next bytes, whatever they are; empty at the end of the stream.
    pub fn some(&mut self, stream: &mut dyn Read) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill(stream)?;
        }
        Ok(self.buffered())
    }

    fn line(&mut self, stream: &mut dyn Read) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let bytes: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&bytes[..at]).into_owned()));
            }
            if self.fill(stream)? == 0 {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self, stream: &mut dyn Read) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let count = match stream.read(&mut piece) {
            // A peer that closes TLS without a word, or resets, has ended the stream all the same.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
            {
                0
            }
            other => other?,
        };
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }
}

/// One chunk of a chunked body; the last one for an empty `data`.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
