//! At a fixed rate, whatever the answers do. A time counts from the moment when the request was to be sent, also where
//! no connection was free then: so a stall is counted for all the requests that it kept waiting.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::requests::Pool;
use super::response::Answer;
use super::tally::Tally;

/// One phase: the requests of the pool from `first` to before `last`, one after the other at this rate.
pub struct Phase<'p> {
    pub address: SocketAddr,
    pub connections: usize,
    pub rate: u32,
    pub pool: &'p Pool,
    pub first: usize,
    pub last: usize,
}

impl Phase<'_> {
    pub fn run(&self) -> Tally {
        // Else the kernel wakes a sleeper up to 50 µs late, to wake several at once. New threads inherit it.
        let _ = std::fs::write("/proc/self/timerslack_ns", "1");
        let next = AtomicUsize::new(self.first);
        let began = Instant::now() + Duration::from_millis(50);
        let mut all = Tally::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.connections).map(|_| scope.spawn(|| self.connection(&next, began))).collect();
            for thread in threads {
                all.add(&thread.join().unwrap());
            }
        });
        all.elapsed = began.elapsed();
        all
    }

    fn connection(&self, next: &AtomicUsize, began: Instant) -> Tally {
        let mut tally = Tally::new();
        if let Err(error) = self.exchange(next, began, &mut tally) {
            tally.broke(&error);
        }
        tally
    }

    fn exchange(&self, next: &AtomicUsize, began: Instant, tally: &mut Tally) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (mut request, mut answer) = (Vec::with_capacity(4096), Answer::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.last {
                return Ok(());
            }
            self.pool.put(number, &mut request);
            let due = began + self.after(number - self.first);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            stream.write_all(&request)?;
            let status = loop {
                let count = stream.read(answer.room())?;
                if let Some(status) = answer.take(count)? {
                    break status;
                }
            };
            tally.answered(status, due.elapsed(), &answer);
        }
    }

    fn after(&self, requests: usize) -> Duration {
        Duration::from_nanos(requests as u64 * 1_000_000_000 / u64::from(self.rate))
    }
}
