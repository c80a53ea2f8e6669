//! A secret typed at a terminal: one line, and nothing of it is shown.

use std::io::{self, IsTerminal as _, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// What Ctrl-C sends.
const INTERRUPT: u8 = 3;

/// The terminal that standard input is.
#[derive(Debug)]
pub(super) struct Terminal(());

/// The terminal's settings, put back when it is dropped.
struct Hidden(Termios);

impl Terminal {
    pub(super) fn of_input() -> Option<Self> {
        io::stdin().is_terminal().then_some(Self(()))
    }

    /// Asks on `err`, and reads a line of `input`, `longest` bytes at the most; Ctrl-C gives it up.
    pub(super) fn ask(
        &self,
        prompt: &str,
        longest: usize,
        input: &mut dyn Read,
        err: &mut dyn Write,
    ) -> io::Result<Zeroizing<Vec<u8>>> {
        let hidden = Hidden::begin()?;
        write!(err, "{prompt}: ")?;
        err.flush()?;
        let line = line(input, longest);
        drop(hidden);
        writeln!(err)?;
        line
    }
}

impl Hidden {
    /// A signal would leave the terminal as it is now, so Ctrl-C ends the line instead of the process.
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(io::stdin(), OptionalActions::Drain, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // There is nothing else that could be done about it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// The bytes before the end of the line, or of the input.
fn line(input: &mut dyn Read, longest: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // With its room from the start it is never moved, and no copy of it stays behind.
    let mut line = Zeroizing::new(Vec::with_capacity(longest + 1));
    let mut byte = [0];
    while line.len() <= longest {
        match input.read(&mut byte)? {
            0 => break,
            _ if byte == *b"\n" => break,
            _ if byte == [INTERRUPT] => return Err(io::ErrorKind::Interrupted.into()),
            _ => line.extend(byte),
        }
    }
    Ok(line)
}
