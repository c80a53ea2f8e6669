//! As much of HTTP/1.1 as is needed to know where an answer ends.

use std::io::{self, ErrorKind};

/// An answer as it comes in.
pub struct Answer {
    bytes: Vec<u8>,
    filled: usize,
    /// Status and length, once the head is there.
    head: Option<(u16, usize)>,
    /// The length of the last complete answer.
    complete: usize,
}

impl Answer {
    pub fn new() -> Self {
        Self { bytes: vec![0; 16 * 1024], filled: 0, head: None, complete: 0 }
    }

    /// Where the next bytes go.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// The last complete answer, as long as nothing is read after it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.complete]).into_owned()
    }

    /// Takes in what was read. Gives the status when the answer is complete, and is then ready for the next one.
    pub fn take(&mut self, count: usize) -> io::Result<Option<u16>> {
        if count == 0 {
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the connection was closed before the answer's end",
            ));
        }
        self.filled += count;
        if self.head.is_none() {
            self.head = head(&self.bytes[..self.filled])?;
        }
        match self.head {
            Some((status, length)) if self.filled == length => {
                self.complete = length;
                self.filled = 0;
                self.head = None;
                Ok(Some(status))
            }
            Some((_, length)) if self.filled > length || length > self.bytes.len() => {
                Err(invalid("more came than one answer of at most 16 KiB"))
            }
            _ => Ok(None),
        }
    }
}

/// Status and whole length, where the head is complete.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let status = bytes.get(9..12).and_then(number).ok_or_else(|| invalid("no status"))?;
    let length = bytes[..end]
        .split(|byte| *byte == b'\n')
        .find_map(|line| {
            let name = line.get(..15).filter(|name| name.eq_ignore_ascii_case(b"content-length:"))?;
            number(line[name.len()..].trim_ascii())
        })
        .ok_or_else(|| invalid("no content-length"))?;
    let status = u16::try_from(status).map_err(|_| invalid("no status"))?;
    Ok(Some((status, end + 4 + length)))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
