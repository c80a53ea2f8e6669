//! A secret typed at a terminal: one line, and nothing of it is shown.

use std::io::{self, IsTerminal as _, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// What Ctrl-C sends.
const INTERRUPT: u8 = 3;
/// A terminal cuts a line at so many bytes, and does not say so.
const CUT: usize = 4_095;
/// How long the rest of what was pasted is waited for, in tenths of a second.
const REST: u8 = 2;
/// The most that is read of such a rest, in bytes.
const LONGEST_REST: u64 = 1024 * 1024;

/// The terminal that standard input is.
#[derive(Debug)]
pub(super) struct Terminal {
    settings: Arc<Settings>,
    /// Whether a thread puts the settings back at a signal.
    watched: bool,
}

/// The terminal's settings, to be put back; `None`: they are what they were.
#[derive(Debug, Default)]
struct Settings(Mutex<Option<Termios>>);

/// Puts the settings back when it is dropped.
struct Hidden<'a>(&'a Settings);

impl Terminal {
    pub(super) fn of_input() -> Option<Self> {
        io::stdin().is_terminal().then(|| Self { settings: Arc::default(), watched: false })
    }

    /// Asks on `err`, and reads a line of `input`; Ctrl-C gives it up. What is more than a line, or may be less than was
    /// typed, is refused, and the shell gets nothing of it.
    pub(super) fn ask(
        &mut self,
        prompt: &str,
        input: &mut dyn Read,
        err: &mut dyn Write,
    ) -> io::Result<Zeroizing<Vec<u8>>> {
        if !self.watched {
            put_back_at_signals(Arc::clone(&self.settings))?;
            self.watched = true;
        }
        let hidden = Hidden::begin(&self.settings)?;
        write!(err, "{prompt}: ")?;
        err.flush()?;
        let line = line(input).and_then(|line| {
            hidden.take_parts_of_lines()?;
            match io::copy(&mut input.take(LONGEST_REST), &mut io::sink())? {
                _ if line.len() == CUT => {
                    Err(io::Error::other("the line is longer than a terminal takes; use a file or a pipe"))
                }
                0 => Ok(line),
                _ => Err(io::Error::other("more than one line was typed; use a file or a pipe")),
            }
        });
        drop(hidden);
        writeln!(err)?;
        line
    }
}

impl Settings {
    fn lock(&self) -> MutexGuard<'_, Option<Termios>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was typed and not read goes, so that the shell runs nothing of it.
fn put_back(settings: &mut Option<Termios>) {
    if let Some(before) = settings.take() {
        // There is nothing else that could be done about it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }
}

impl<'a> Hidden<'a> {
    /// Ctrl-C ends the line instead of the process.
    fn begin(settings: &'a Settings) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        let mut kept = settings.lock();
        tcsetattr(io::stdin(), OptionalActions::Drain, &hidden)?;
        *kept = Some(before);
        drop(kept);
        Ok(Self(settings))
    }

    /// From now on a read gives also what no end of a line has come behind, and nothing where nothing comes for a while.
    fn take_parts_of_lines(&self) -> io::Result<()> {
        // As long as they are locked, no signal puts the settings back.
        let kept = self.0.lock();
        let mut raw = tcgetattr(io::stdin())?;
        raw.local_modes.remove(LocalModes::ICANON);
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = REST;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        drop(kept);
        Ok(())
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        put_back(&mut self.0.lock());
    }
}

/// Has a signal that ends the process put the terminal's settings back before.
fn put_back_at_signals(settings: Arc<Settings>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let kind = runtime.block_on(async {
            tokio::select! {
                _ = hangup.recv() => SignalKind::hangup(),
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            }
        });
        // Locked until the end, so that nothing is hidden again.
        let mut kept = settings.lock();
        put_back(&mut kept);
        // As a shell tells of a process that a signal has ended.
        std::process::exit(128 + kind.as_raw_value());
    })?;
    Ok(())
}

/// The bytes before the end of the line, or of the input, and no more than a whole line has.
fn line(input: &mut dyn Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // With its room from the start it is never moved, and no copy of it stays behind.
    let mut line = Zeroizing::new(Vec::with_capacity(CUT));
    let mut byte = [0];
    while line.len() < CUT {
        match input.read(&mut byte)? {
            0 => break,
            _ if byte == *b"\n" => break,
            _ if byte == [INTERRUPT] => return Err(io::ErrorKind::Interrupted.into()),
            _ => line.extend(byte),
        }
    }
    Ok(line)
}
