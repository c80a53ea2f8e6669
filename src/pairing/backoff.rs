//! How long to wait before the next try: exponential, with full jitter, so that gateways which lost their control plane
//! together do not come back together.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The wait after so many failures in a row, one at least: anything up to 1 s, 2 s, 4 s … 60 s. `random` is any number.
pub(super) fn delay(failures: u32, random: u64) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let most = u64::try_from(doubled.min(LONGEST).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % (most + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_grows_to_a_minute_and_may_be_anything_below() {
        let most = |failures| delay(failures, most_of(failures));
        fn most_of(failures: u32) -> u64 {
            // The largest remainder there is.
            (0..=60_000).map(|random| delay(failures, random).as_millis() as u64).max().unwrap()
        }
        let longest: Vec<u64> = (1..=8).map(most_of).collect();
        assert_eq!(longest, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(most(3), Duration::from_secs(4));
        assert_eq!(delay(200, 60_000), Duration::from_secs(60));
        assert_eq!(delay(1, 0), Duration::ZERO);
    }
}
