//! Changes: made on a blocking thread, in service when they are answered, and written down.

use std::time::Duration;

use super::Handles;
use super::access::Way;
use super::audit::{Caller, Line};
use super::refusal::{Kind, Refusal};
use crate::connections::{Book, BookFault, Drain};

/// How long an answer waits for requests that are about to send a replaced secret.
const DRAIN: Duration = Duration::from_secs(2);

impl Handles {
    /// Asks the book, off the threads that serve requests.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Book) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        asked(self.book.clone(), question).await
    }

    /// Makes a change: `work` does it, and tells the line what it was. Then the data plane takes it over, and the line is
    /// written. All of that happens also where the client is gone by then, or the time for the answer is over.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        caller: Caller,
        action: &'static str,
        work: impl FnOnce(&Book, &mut Line) -> Result<(T, Drain), BookFault> + Send + 'static,
    ) -> Result<T, Refusal> {
        let this = self.clone();
        let whole = tokio::spawn(async move {
            // A control plane changes less than who has admin access.
            let book = if caller.way == Way::Pairing { this.book.paired() } else { this.book.clone() };
            let done = asked(book, move |book| {
                let mut line = Line::default();
                work(book, &mut line).map(|(value, drain)| (value, drain, line))
            });
            let (value, drain, line) = done.await??;
            let applied = (this.apply)().await;
            let drained = drain.drained(DRAIN).await;
            line.write(&caller, action, drained);
            applied.map_err(|cause| {
                let sentence = format!("the change is stored, and the data plane cannot use it: {cause}");
                Refusal::Told(Kind::NotInService, sentence)
            })?;
            Ok(value)
        });
        whole.await.map_err(|_| Refusal::Internal)?
    }
}

async fn asked<T: Send + 'static>(
    book: Book,
    question: impl FnOnce(&Book) -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(move || question(&book)).await.map_err(|_| Refusal::Internal)
}
