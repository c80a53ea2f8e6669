//! The only caller of `SystemTime::now` and `Instant::now`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment of civil time: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

/// The text is not a date and time of RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a date and time of RFC 3339, such as 2027-01-01T00:00:00Z")]
pub struct NotRfc3339(String);

impl UnixTime {
    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This moment and `by` more.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for UnixTime {
    /// RFC 3339 in UTC, with milliseconds where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("out of range"))
    }
}

impl FromStr for UnixTime {
    type Err = NotRfc3339;
    fn from_str(text: &str) -> Result<Self, NotRfc3339> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotRfc3339(text.to_owned()))?;
        i64::try_from(at.unix_timestamp_nanos() / 1_000_000)
            .map(Self)
            .map_err(|_| NotRfc3339(text.to_owned()))
    }
}

/// Where the time comes from: the system, or a hand that a test moves.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `at` until [`Clock::set`] moves it, for every clone of it.
    #[must_use]
    pub fn fixed(at: UnixTime) -> Self {
        Self(Source::Fixed(Arc::new(AtomicI64::new(at.0))))
    }

    /// Moves a fixed clock; a system clock stays what it is.
    pub fn set(&self, at: UnixTime) {
        if let Source::Fixed(millis) = &self.0 {
            millis.store(at.0, Ordering::SeqCst);
        }
    }

    /// The civil time now.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Fixed(millis) => UnixTime(millis.load(Ordering::SeqCst)),
        }
    }

    /// A point on the monotonic clock, to measure durations with.
    #[must_use]
    pub fn instant(&self) -> Instant {
        Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_is_read_and_written() {
        let at: UnixTime = "2026-02-20T18:04:26Z".parse().unwrap();
        assert_eq!(at.secs(), 1_771_610_666);
        assert_eq!(at.to_string(), "2026-02-20T18:04:26Z");
        assert_eq!("2026-02-20T19:04:26.5+01:00".parse::<UnixTime>().unwrap().millis(), at.millis() + 500);
        assert!("2026-02-20".parse::<UnixTime>().is_err());
    }

    #[test]
    fn fixed_clock_stands_until_moved() {
        let clock = Clock::fixed(UnixTime::from_secs(5));
        let other = clock.clone();
        clock.set(UnixTime::from_secs(9));
        assert_eq!(other.now().secs(), 9);
    }
}
