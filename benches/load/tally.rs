//! What came back in one phase.

use std::collections::BTreeMap;
use std::time::Duration;

use super::histogram::Histogram;
use super::response::Answer;

#[derive(Clone)]
pub struct Tally {
    pub requests: u64,
    pub times: Histogram,
    pub elapsed: Duration,
    /// Answers other than 200, by status.
    refused: BTreeMap<u16, u64>,
    /// The first of them.
    refusal: Option<String>,
    /// The first fault of a connection.
    broken: Option<String>,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            requests: 0,
            times: Histogram::new(),
            elapsed: Duration::ZERO,
            refused: BTreeMap::new(),
            refusal: None,
            broken: None,
        }
    }

    pub fn answered(&mut self, status: u16, time: Duration, answer: &Answer) {
        self.requests += 1;
        self.times.record(time);
        if status != 200 {
            *self.refused.entry(status).or_default() += 1;
            self.refusal.get_or_insert_with(|| answer.text());
        }
    }

    pub fn broke(&mut self, what: &dyn std::fmt::Display) {
        self.broken.get_or_insert_with(|| what.to_string());
    }

    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.times.add(&other.times);
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
        if self.refusal.is_none() {
            self.refusal.clone_from(&other.refusal);
        }
        if let Some(what) = &other.broken {
            self.broke(what);
        }
    }

    /// Anything but 200 spoils the run: refusals are quicker than what is to be measured.
    pub fn all_well(self, system: &str) -> Result<Self, String> {
        if let Some(broken) = self.broken {
            return Err(format!("{system}: a connection broke: {broken}"));
        }
        if !self.refused.is_empty() {
            let first = self.refusal.unwrap_or_default();
            return Err(format!(
                "{system}: answers other than 200, by status: {:?}; the first:\n{first}",
                self.refused
            ));
        }
        Ok(self)
    }
}
