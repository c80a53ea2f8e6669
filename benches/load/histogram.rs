//! Times in log-linear buckets: 64 to each power of two, so a quantile is at most 1.6 % too high.

use std::time::Duration;

const FINE: u32 = 6;
const BUCKETS: usize = (64 - FINE as usize + 1) << FINE;

#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }

    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The time that this share of all times does not exceed; zero where there is none.
    pub fn quantile(&self, share: f64) -> Duration {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return Duration::from_nanos(upper_end(index));
            }
        }
        Duration::ZERO
    }
}

fn bucket(nanos: u64) -> usize {
    let shift = (64 - nanos.leading_zeros()).saturating_sub(FINE + 1);
    ((shift as usize) << FINE) + usize::try_from(nanos >> shift).unwrap()
}

/// The greatest time of a bucket.
fn upper_end(index: usize) -> u64 {
    let shift = (index >> FINE).saturating_sub(1);
    let first = (index - (shift << FINE)) as u64;
    ((first + 1) << shift) - 1
}
