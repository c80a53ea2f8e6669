//! How long to wait before the next try: exponential, with full jitter, so that gateways which lost their control plane
//! together do not come back together.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
/// Owners' commands wait for a control plane that comes back.
const LONGEST_AWAY: Duration = Duration::from_secs(5);
const LONGEST_REFUSED: Duration = Duration::from_secs(60);

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The control plane was not there, or not well.
    Away,
    /// It was there, and did not want this gateway.
    Refused,
}

/// The tries that failed in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// In the same way.
    last: Option<(Failure, u32)>,
}

impl Backoff {
    /// Begins anew.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// The wait after one more failure: anything up to 1 s, 2 s, 4 s, 5 s, and after refusals on to 60 s. `random` is any
    /// number.
    pub(super) fn wait(&mut self, failure: Failure, random: u64) -> Duration {
        let before = self.last.filter(|(last, _)| *last == failure).map_or(0, |(_, count)| count);
        self.last = Some((failure, before.saturating_add(1)));
        let longest = match failure {
            Failure::Away => LONGEST_AWAY,
            Failure::Refused => LONGEST_REFUSED,
        };
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
        let most = u64::try_from(doubled.min(longest).as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(random % (most + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest waits that there may be, one after the other.
    fn longest(failure: Failure, tries: usize) -> Vec<u64> {
        let mut backoff = Backoff::default();
        let mut most = || {
            let before = backoff.last;
            let waits = (0..=60_000).map(|random| {
                backoff.last = before;
                backoff.wait(failure, random).as_millis() as u64
            });
            waits.max().unwrap()
        };
        (0..tries).map(|_| most()).collect()
    }

    #[test]
    fn wait_grows_to_a_minute_where_it_was_refused_and_to_five_seconds_where_nobody_was_there() {
        assert_eq!(
            longest(Failure::Refused, 8),
            [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
        );
        assert_eq!(longest(Failure::Away, 5), [1_000, 2_000, 4_000, 5_000, 5_000]);
    }

    #[test]
    fn wait_may_be_none_and_its_growth_ends() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(Failure::Refused, 0), Duration::ZERO);
        backoff.last = Some((Failure::Refused, u32::MAX));
        assert_eq!(backoff.wait(Failure::Refused, 60_000), Duration::from_secs(60));
    }

    #[test]
    fn failure_of_the_other_kind_is_a_first_one() {
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.wait(Failure::Away, 0);
        }
        assert_eq!(backoff.wait(Failure::Refused, 1_001), Duration::ZERO);
        backoff.wait(Failure::Refused, 0);
        backoff.forget();
        assert_eq!(backoff.wait(Failure::Refused, 1_001), Duration::ZERO);
    }
}
