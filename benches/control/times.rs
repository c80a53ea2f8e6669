//! Times of several rounds, and their table.

use std::time::{Duration, Instant};

/// Times in milliseconds.
#[derive(Default)]
pub struct Times(Vec<f64>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
    }

    /// From `earlier` to `later`; below zero where it was the other way round.
    pub fn push_between(&mut self, earlier: Instant, later: Instant) {
        match later.checked_duration_since(earlier) {
            Some(time) => self.push(time),
            None => self.0.push((earlier - later).as_secs_f64() * -1e3),
        }
    }

    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// The time that this share of all does not exceed.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = ((sorted.len() as f64 * share).ceil() as usize).max(1) - 1;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

pub fn head(title: &str) {
    println!("{title:<74}{:>10}{:>10}{:>10}", "p50", "p99", "max");
}

pub fn row(name: &str, times: &Times) {
    println!("{name:<74}{:>10.1}{:>10.1}{:>10.1}", times.median(), times.quantile(0.99), times.max());
}
