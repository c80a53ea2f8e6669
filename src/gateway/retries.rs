//! Retries, kept to a share of the requests.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::connections::Retries;

/// Keeps retries to a share of the requests, so that a failing upstream is not struck twice as hard.
#[derive(Debug)]
pub(super) struct RetryBudget {
    limits: Retries,
    requests: AtomicU64,
    retries: AtomicU64,
}

/// Retries that are always left, and the number of requests after which the past weighs half.
const BUDGET_FLOOR: u64 = 10;
const BUDGET_HORIZON: u64 = 1_000;

impl RetryBudget {
    pub(super) fn new(limits: Retries) -> Self {
        Self { limits, requests: AtomicU64::new(0), retries: AtomicU64::new(0) }
    }

    pub(super) fn count_request(&self) {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= BUDGET_HORIZON {
            self.requests.store(BUDGET_HORIZON / 2, Ordering::Relaxed);
            self.retries.store(self.retries.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
    }

    /// Whether an attempt may follow `attempts` of them; if so it is counted.
    pub(super) fn allows(&self, attempts: usize) -> bool {
        if attempts >= self.limits.attempts {
            return false;
        }
        let share = self.requests.load(Ordering::Relaxed) * u64::from(self.limits.budget_percent) / 100;
        let left = self.retries.load(Ordering::Relaxed) < share.max(BUDGET_FLOOR);
        if left {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_with_attempts_and_with_the_budget() {
        let budget = RetryBudget::new(Retries { attempts: 2, budget_percent: 20 });
        assert!(!budget.allows(2));
        let made = (0..100).filter(|_| budget.allows(1)).count();
        assert_eq!(made as u64, BUDGET_FLOOR);
        (0..100).for_each(|_| budget.count_request());
        assert!(budget.allows(1));
    }
}
