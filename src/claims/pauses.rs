//! How long to wait before the control plane is asked again.

use std::time::{Duration, Instant};

use super::fault::FeedFault;

/// The first try after a stream that had been open a while ended: gateways that lost the same control plane do not come
/// back as one herd.
const AFTER_A_CUT: Duration = Duration::from_secs(2);
/// The first of the pauses that double.
const FIRST: Duration = Duration::from_millis(200);
/// The longest while nobody answers: who comes back is found within 5 s, and until then nothing is burdened.
const OUT_OF_REACH: Duration = Duration::from_secs(4);
/// The longest where somebody answers, in the first minute.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest where somebody answers, and has not answered well for a minute.
const LATER: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// A stream that was open so long had worked.
const STEADY: Duration = Duration::from_secs(10);

/// The pauses between tries to open a stream: each lasts from nothing to a bound that doubles ("full jitter").
#[derive(Default)]
pub(super) struct Pauses {
    /// In a row.
    failures: u32,
    failing_since: Option<Instant>,
    open_since: Option<Instant>,
}

impl Pauses {
    /// The stream is open and has caught up.
    pub(super) fn opened(&mut self, now: Instant) {
        self.open_since = Some(now);
    }

    /// It failed now. How long the pause may be.
    fn bound(&mut self, fault: &FeedFault, now: Instant) -> Duration {
        let open = self.open_since.take().map(|since| now.saturating_duration_since(since));
        if open.is_some_and(|open| open >= STEADY) {
            *self = Self::default();
        }
        let since = *self.failing_since.get_or_insert(now);
        let first = if open.is_some() { AFTER_A_CUT } else { FIRST };
        let doubled = first.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        let longest = match now.saturating_duration_since(since) {
            _ if fault.is_out_of_reach() => OUT_OF_REACH,
            failing if failing < MINUTE => LONGEST,
            _ => LATER,
        };
        doubled.min(longest)
    }

    /// It failed now. How long to wait.
    pub(super) fn after(&mut self, fault: &FeedFault, now: Instant) -> Duration {
        self.bound(fault, now).mul_f64(fraction())
    }
}

/// From 0 to 1, at random, so that many gateways do not ask at the same moment; 1 if there is no randomness.
pub(super) fn fraction() -> f64 {
    let mut random = [0_u8; 4];
    if getrandom::fill(&mut random).is_err() {
        return 1.0;
    }
    f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::CallFault;
    use crate::clock::Clock;

    fn unreachable() -> FeedFault {
        CallFault::Unreachable { base: String::new(), cause: String::new() }.into()
    }

    /// The bounds of ten pauses, one second of failing between them.
    fn bounds(pauses: &mut Pauses, fault: &FeedFault, begin: Instant) -> Vec<u128> {
        (0..10).map(|n| pauses.bound(fault, begin + Duration::from_secs(n)).as_millis()).collect()
    }

    #[test]
    fn pauses_double_up_to_a_bound_that_is_short_while_nobody_answers() {
        let begin = Clock::system().instant();
        let doubling = [200, 400, 800, 1_600, 3_200];
        let unreached = bounds(&mut Pauses::default(), &unreachable(), begin);
        assert_eq!(unreached, [&doubling[..], &[4_000; 5]].concat());
        let mut pauses = Pauses::default();
        assert_eq!(bounds(&mut pauses, &FeedFault::NoEvents, begin), [&doubling[..], &[5_000; 5]].concat());
        assert_eq!(pauses.bound(&FeedFault::NoEvents, begin + MINUTE), LATER);
        assert_eq!(pauses.bound(&unreachable(), begin + MINUTE * 60), OUT_OF_REACH);
    }

    #[test]
    fn stream_that_had_worked_begins_anew_and_one_that_had_not_goes_on_doubling() {
        let begin = Clock::system().instant();
        let cut = FeedFault::Cut(String::new());
        let mut pauses = Pauses::default();
        bounds(&mut pauses, &cut, begin);
        pauses.opened(begin);
        assert_eq!(pauses.bound(&cut, begin + STEADY), AFTER_A_CUT);
        pauses.opened(begin + STEADY);
        assert_eq!(pauses.bound(&cut, begin + STEADY + FIRST), AFTER_A_CUT * 2);
        assert_eq!(pauses.bound(&cut, begin + STEADY + FIRST), FIRST * 4);
    }

    #[test]
    fn pauses_of_many_gateways_spread_over_the_whole_range() {
        let begin = Clock::system().instant();
        let cut = FeedFault::Cut(String::new());
        let first = |pauses: &mut Pauses| {
            pauses.opened(begin);
            pauses.after(&cut, begin + STEADY)
        };
        let later = |pauses: &mut Pauses| {
            bounds(pauses, &unreachable(), begin);
            pauses.after(&unreachable(), begin)
        };
        for (pause, longest) in
            [(&first as &dyn Fn(&mut Pauses) -> Duration, AFTER_A_CUT), (&later, OUT_OF_REACH)]
        {
            let mut tenths = [0_u32; 10];
            for _ in 0..1_000 {
                let part = pause(&mut Pauses::default()).div_duration_f64(longest);
                tenths[((part * 10.0) as usize).min(9)] += 1;
            }
            assert!(tenths.iter().all(|count| (50..200).contains(count)), "{longest:?}: {tenths:?}");
        }
    }
}
