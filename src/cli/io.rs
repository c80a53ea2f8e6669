//! What a command reads and writes.

use std::io::{self, Read, Write};

use super::terminal::Terminal;

/// The three streams of the process. Nothing is asked on them but for a secret that somebody is to type, and nothing is
/// coloured.
pub struct Io<'a> {
    /// Standard output.
    pub out: Output<'a>,
    /// The error output.
    pub err: &'a mut dyn Write,
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Where a person sits at standard input, their terminal.
    pub(super) terminal: Option<Terminal>,
}

impl<'a> Io<'a> {
    /// Of these streams.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, input: &'a mut dyn Read) -> Self {
        Self { out: Output { stream: out, gone: false }, err, input, terminal: None }
    }

    /// Where standard input is a terminal, secrets are asked for there and not shown while they are typed.
    #[must_use]
    pub fn on_terminal(self) -> Self {
        Self { terminal: Terminal::of_input(), ..self }
    }
}

/// Standard output, which remembers whether its reader has gone.
pub struct Output<'a> {
    stream: &'a mut dyn Write,
    gone: bool,
}

impl Output<'_> {
    /// Whether the reader has closed its end of the pipe.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    fn watch<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.gone |= matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl Write for Output<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let result = self.stream.write(part);
        self.watch(result)
    }

    /// In one piece: the log writes to the same output from a thread of its own, and must not come in between.
    fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(text.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.stream.flush();
        self.watch(result)
    }
}
