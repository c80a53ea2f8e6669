//! What the kernel tells of a process: processor time and memory.

use std::time::Duration;

/// The kernel tells processor time in hundredths of a second, whatever its own tick is.
const TICKS_A_SECOND: u64 = 100;

#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// User and system time of all its threads.
    pub fn cpu(self) -> Result<Duration, String> {
        let text = self.file("stat")?;
        // The name may hold anything, so what follows is counted from its closing bracket: utime and stime are the
        // 14th and 15th fields.
        let fields: Vec<&str> = text.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let (user, system) =
            ticks(11).zip(ticks(12)).ok_or(format!("/proc/{}/stat is not as expected", self.0))?;
        Ok(Duration::from_millis((user + system) * 1000 / TICKS_A_SECOND))
    }

    /// What its threads of now have run, to the nanosecond; a thread that ends takes its share away.
    #[allow(dead_code, reason = "the load generator counts hundredths")]
    pub fn ran(self) -> Result<Duration, String> {
        let path = format!("/proc/{}/task", self.0);
        let threads = std::fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        let nanos = threads.flatten().filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Ok(Duration::from_nanos(nanos.sum()))
    }

    /// `VmRSS` or `VmHWM`, in KiB.
    pub fn memory_kib(self, name: &str) -> Result<u64, String> {
        let text = self.file("status")?;
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse().ok()
            })
            .ok_or(format!("/proc/{}/status has no {name}", self.0))
    }

    fn file(self, name: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{name}", self.0);
        std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}; has the process ended?"))
    }
}
