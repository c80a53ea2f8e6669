//! Durations and sizes as they are written.

use std::time::Duration;

/// What a duration looks like, inside a sentence.
pub(super) const DURATION: &str = "a duration such as 300ms, 10s, 5m, 1h or 30d";
/// What a size looks like, inside a sentence.
pub(super) const SIZE: &str = "a size such as 512B, 64KiB, 1MiB or 2GiB";

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// `300ms`, `10s`, `5m`, `1h`, `30d`; `None` for anything else and for what no clock can hold.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    quantity(text, &DURATIONS).map(Duration::from_millis)
}

/// `512B`, `64KiB`, `1MiB`, `2GiB` in bytes; `None` for anything else.
pub(super) fn size(text: &str) -> Option<u64> {
    quantity(text, &SIZES)
}

/// A duration as it would be written.
pub(super) fn show_duration(duration: Duration) -> String {
    match u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) {
        0 => "0s".to_owned(),
        millis => show(millis, &DURATIONS),
    }
}

/// A size as it would be written.
pub(super) fn show_size(bytes: u64) -> String {
    if bytes == 0 { "0B".to_owned() } else { show(bytes, &SIZES) }
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `amount`, which is not 0, in the largest unit that leaves a whole number; the first unit always does.
fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let largest = units.iter().rev().find(|(_, factor)| amount.is_multiple_of(*factor));
    largest.map_or_else(String::new, |(name, factor)| format!("{}{name}", amount / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis) in
            [("300ms", 300), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("30d", 2_592_000_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(show_duration(Duration::ZERO), "0s");
        assert_eq!(show_duration(Duration::from_secs(330)), "330s");
        assert_eq!(show_duration(Duration::from_secs(300)), "5m");
        for wrong in
            ["", "10", "s", "10 s", "-1s", "1.5s", "+1s", "10sec", "1w", "99999999999999999d", "1０s"]
        {
            assert_eq!(duration(wrong), None, "{wrong:?} was taken");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("1MiB", 1_048_576), ("2GiB", 2_147_483_648)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        assert_eq!(show_size(0), "0B");
        for wrong in ["", "64", "64KB", "64k", "1 MiB", "99999999999999GiB"] {
            assert_eq!(size(wrong), None, "{wrong:?} was taken");
        }
    }
}
