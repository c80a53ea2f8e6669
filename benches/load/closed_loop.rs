//! As fast as possible: so many connections, each of which sends its next request when it has the answer to the last.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::requests::Pool;
use super::response::Answer;
use super::tally::Tally;

/// One phase. It ends with its time, or with the requests where none may be `repeated`.
pub struct Phase<'p> {
    pub address: SocketAddr,
    pub connections: usize,
    pub time: Duration,
    pub pool: &'p Pool,
    pub repeated: bool,
}

impl Phase<'_> {
    /// Runs it on this thread alone. `next` is the number of the next request, before and after.
    pub fn run(&self, next: &mut usize) -> Tally {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let (tally, shared) = (RefCell::new(Tally::new()), Cell::new(*next));
        runtime.block_on(async {
            let opened = join_all((0..self.connections).map(|_| TcpStream::connect(self.address))).await;
            let began = Instant::now();
            join_all(opened.into_iter().map(async |opened| {
                let served = match opened {
                    Ok(stream) => self.connection(stream, began + self.time, &shared, &tally).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = served {
                    tally.borrow_mut().broke(&error);
                }
            }))
            .await;
            tally.borrow_mut().elapsed = began.elapsed();
        });
        *next = shared.get();
        tally.into_inner()
    }

    async fn connection(
        &self,
        mut stream: TcpStream,
        end: Instant,
        next: &Cell<usize>,
        tally: &RefCell<Tally>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut request, mut answer) = (Vec::with_capacity(4096), Answer::new());
        let mut sent = Instant::now();
        while sent < end && (self.repeated || next.get() < self.pool.len()) {
            self.pool.put(next.replace(next.get() + 1) % self.pool.len(), &mut request);
            stream.write_all(&request).await?;
            let status = loop {
                let count = stream.read(answer.room()).await?;
                if let Some(status) = answer.take(count)? {
                    break status;
                }
            };
            let now = Instant::now();
            tally.borrow_mut().answered(status, now - sent, &answer);
            sent = now;
        }
        Ok(())
    }
}
