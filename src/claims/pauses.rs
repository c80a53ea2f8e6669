//! How long to wait before the control plane is asked again.

use std::time::{Duration, Instant};

use super::fault::FeedFault;
use super::state::FeedFailure;

/// The first try after a stream that had been open a while ended: gateways that lost the same control plane do not come
/// back as one herd.
const AFTER_A_CUT: Duration = Duration::from_secs(2);
/// The first of the pauses that double.
const FIRST: Duration = Duration::from_millis(200);
/// The longest while nobody answers, or who does is in trouble: who comes back is found within 5 s, and until then little
/// is burdened.
pub(super) const OUT_OF_REACH: Duration = Duration::from_secs(4);
/// The longest where the control plane refuses, in the first minute.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest where it has refused for a minute.
const LATER: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// A stream that was open so long had worked.
const STEADY: Duration = Duration::from_secs(10);
/// At least this last part of the bound is left to chance, however long the control plane wants to be left alone: all were
/// told the same.
const SPREAD_FROM: f64 = 0.75;

/// The pauses between tries: each lasts from nothing to a bound that doubles ("full jitter"). Where the control plane says
/// when to come back, it lasts as long as that, but no longer than the bound allows, and ends at random after it.
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

    /// A poll went well.
    pub(super) fn polled(&mut self) {
        *self = Self::default();
    }

    /// It failed now, or the stream ended. How long to wait.
    pub(super) fn after(&mut self, fault: &FeedFault, now: Instant) -> Duration {
        let open = self.open_since.take().map(|since| now.saturating_duration_since(since));
        if open.is_some_and(|open| open >= STEADY) {
            *self = Self::default();
        }
        at_random(self.range(if open.is_some() { AFTER_A_CUT } else { FIRST }, fault, now))
    }

    /// Another stream could not be opened now, beside one that goes on. How long to wait.
    pub(super) fn beside(&mut self, fault: &FeedFault, now: Instant) -> Duration {
        let from_before = |open: Instant| self.failing_since.is_some_and(|failing| failing <= open);
        let steady = |open: Instant| now.saturating_duration_since(open) >= STEADY;
        if self.open_since.is_some_and(|open| steady(open) && from_before(open)) {
            (self.failures, self.failing_since) = (0, None);
        }
        at_random(self.range(FIRST, fault, now))
    }

    /// How long the pause is at least and at most.
    fn range(&mut self, first: Duration, fault: &FeedFault, now: Instant) -> (Duration, Duration) {
        let since = *self.failing_since.get_or_insert(now);
        let doubled = first.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        let longest = match now.saturating_duration_since(since) {
            _ if fault.failure() == FeedFailure::Unreachable => OUT_OF_REACH,
            failing if failing < MINUTE => LONGEST,
            _ => LATER,
        };
        match fault.retry_after() {
            Some(wanted) => (wanted.min(longest.mul_f64(SPREAD_FROM)), longest),
            None => (Duration::ZERO, doubled.min(longest)),
        }
    }
}

fn at_random((least, most): (Duration, Duration)) -> Duration {
    least + most.saturating_sub(least).mul_f64(fraction())
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
    use http::StatusCode;

    use super::*;
    use crate::claims::CallFault;
    use crate::clock::Clock;

    fn unreachable() -> FeedFault {
        CallFault::Unreachable { base: String::new(), cause: String::new() }.into()
    }

    fn answer(status: StatusCode, retry_after: Option<u64>) -> FeedFault {
        FeedFault::StreamStatus { status, code: None, retry_after: retry_after.map(Duration::from_secs) }
    }

    fn bound(pauses: &mut Pauses, fault: &FeedFault, now: Instant) -> Duration {
        pauses.range(FIRST, fault, now).1
    }

    /// The bounds of ten pauses, one second of failing between them.
    fn bounds(pauses: &mut Pauses, fault: &FeedFault, begin: Instant) -> Vec<u128> {
        (0..10).map(|n| bound(pauses, fault, begin + Duration::from_secs(n)).as_millis()).collect()
    }

    #[test]
    fn pauses_double_up_to_a_bound_that_is_short_unless_the_control_plane_refuses() {
        let begin = Clock::system().instant();
        let doubling = [200, 400, 800, 1_600, 3_200];
        let trouble = [502, 503, 504, 429].map(|status| answer(StatusCode::from_u16(status).unwrap(), None));
        for fault in trouble.into_iter().chain([unreachable()]) {
            let mut pauses = Pauses::default();
            assert_eq!(bounds(&mut pauses, &fault, begin), [&doubling[..], &[4_000; 5]].concat(), "{fault}");
            assert_eq!(bound(&mut pauses, &fault, begin + MINUTE * 60), OUT_OF_REACH);
        }
        let mut pauses = Pauses::default();
        assert_eq!(bounds(&mut pauses, &FeedFault::NoEvents, begin), [&doubling[..], &[5_000; 5]].concat());
        assert_eq!(bound(&mut pauses, &FeedFault::NoEvents, begin + MINUTE), LATER);
    }

    #[test]
    fn control_plane_that_says_when_to_come_back_is_left_alone_so_long_within_the_bound() {
        let begin = Clock::system().instant();
        for (wanted, least) in [(1, 1), (3, 3), (5, 3), (3_600, 3)] {
            let fault = answer(StatusCode::SERVICE_UNAVAILABLE, Some(wanted));
            let range = Pauses::default().range(FIRST, &fault, begin);
            assert_eq!(range, (Duration::from_secs(least), OUT_OF_REACH), "{wanted}");
        }
    }

    #[test]
    fn stream_that_had_worked_begins_anew_and_one_that_had_not_goes_on_doubling() {
        let begin = Clock::system().instant();
        let cut = FeedFault::Cut(String::new());
        let mut pauses = Pauses::default();
        bounds(&mut pauses, &cut, begin);
        pauses.opened(begin);
        assert!(pauses.after(&cut, begin + STEADY) <= AFTER_A_CUT);
        assert_eq!(pauses.failures, 1, "it begins anew");
        pauses.opened(begin + STEADY);
        pauses.after(&cut, begin + STEADY + FIRST);
        assert_eq!((pauses.failures, pauses.open_since), (2, None));
        assert_eq!(bound(&mut pauses, &cut, begin + STEADY + FIRST), FIRST * 4);
    }

    #[test]
    fn another_stream_that_cannot_be_opened_does_not_make_the_open_one_a_new_one() {
        let begin = Clock::system().instant();
        let mut pauses = Pauses::default();
        pauses.opened(begin);
        (0..5).for_each(|_| _ = pauses.beside(&unreachable(), begin));
        assert!(pauses.after(&FeedFault::Cut(String::new()), begin + STEADY) <= AFTER_A_CUT);
        assert_eq!(pauses.failures, 1);
    }

    #[test]
    fn what_failed_before_a_stream_that_has_worked_does_not_lengthen_the_pauses_beside_it() {
        let begin = Clock::system().instant();
        let mut pauses = Pauses::default();
        bounds(&mut pauses, &unreachable(), begin - MINUTE);
        pauses.opened(begin);
        pauses.beside(&unreachable(), begin);
        assert_eq!(pauses.failures, 11, "it has not worked yet");
        for failures in 1..4 {
            pauses.beside(&unreachable(), begin + STEADY);
            assert_eq!((pauses.failures, pauses.failing_since), (failures, Some(begin + STEADY)));
        }
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
