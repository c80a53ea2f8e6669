//! What a task says of the database, which may fail it again and again.

use super::store::StoreFault;

/// Says when something begins to fail, and when it works again; not each failure between.
pub(super) struct Health {
    fails: &'static str,
    works: &'static str,
    failing: bool,
}

impl Health {
    /// Of what works as yet. `fails` and `works` are the sentences.
    pub(super) fn new(fails: &'static str, works: &'static str) -> Self {
        Self { fails, works, failing: false }
    }

    /// Takes note of one attempt.
    pub(super) fn note<T>(&mut self, outcome: &Result<T, StoreFault>) {
        match outcome {
            Err(fault) if !self.failing => tracing::warn!(%fault, "{}", self.fails),
            Ok(_) if self.failing => tracing::info!("{}", self.works),
            _ => {}
        }
        self.failing = outcome.is_err();
    }
}
