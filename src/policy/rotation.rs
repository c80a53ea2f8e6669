//! When a secret is due to be replaced, and what happens while it is not.

use std::time::Duration;

use crate::clock::UnixTime;

/// What is done about secrets that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RotationEnforcement {
    /// Nothing.
    #[default]
    Off,
    /// Answers carry `X-Sigilum-Rotation-Warning`.
    Warn,
    /// As `Warn`, and once the grace is over requests are refused: 403 `ROTATION_REQUIRED`.
    Block,
}

/// The gateway's rule for secrets that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RotationPolicy {
    /// What is done.
    pub enforcement: RotationEnforcement,
    /// How long after a secret is due requests still pass.
    pub grace: Duration,
}

/// What the policy says of one secret at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationState {
    /// Not due, or nobody wants to know.
    Fresh,
    /// Due, and requests pass: the answer carries a warning.
    Due {
        /// When it became due.
        since: UnixTime,
    },
    /// Due for longer than the grace: requests are refused.
    Blocked {
        /// When it became due.
        since: UnixTime,
    },
}

const DAY: Duration = Duration::from_secs(86_400);

/// When a secret that was last replaced at `last_rotated_at` is due; `None` where there is no interval (0 days), or
/// where nobody knows when it was replaced.
#[must_use]
pub fn rotation_due_at(last_rotated_at: Option<UnixTime>, interval_days: u32) -> Option<UnixTime> {
    last_rotated_at.filter(|_| interval_days > 0).map(|at| at.plus(DAY.saturating_mul(interval_days)))
}

impl RotationPolicy {
    /// Judges a secret that was last replaced at `last_rotated_at` and is to be replaced every `interval_days` days
    /// (0: never).
    #[must_use]
    pub fn judge(
        &self,
        last_rotated_at: Option<UnixTime>,
        interval_days: u32,
        now: UnixTime,
    ) -> RotationState {
        let due = rotation_due_at(last_rotated_at, interval_days).filter(|due| now >= *due);
        match (self.enforcement, due) {
            (RotationEnforcement::Off, _) | (_, None) => RotationState::Fresh,
            (RotationEnforcement::Block, Some(since)) if now >= since.plus(self.grace) => {
                RotationState::Blocked { since }
            }
            (_, Some(since)) => RotationState::Due { since },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATED: UnixTime = UnixTime::from_secs(1_000_000);
    const DUE: UnixTime = UnixTime::from_secs(1_000_000 + 30 * 86_400);

    fn policy(enforcement: RotationEnforcement, grace_days: u32) -> RotationPolicy {
        RotationPolicy { enforcement, grace: DAY * grace_days }
    }

    fn before(at: UnixTime) -> UnixTime {
        UnixTime::from_millis(at.millis() - 1)
    }

    #[test]
    fn secret_is_due_when_its_interval_is_over_and_not_before() {
        let warn = policy(RotationEnforcement::Warn, 0);
        assert_eq!(warn.judge(Some(ROTATED), 30, before(DUE)), RotationState::Fresh);
        assert_eq!(warn.judge(Some(ROTATED), 30, DUE), RotationState::Due { since: DUE });
    }

    #[test]
    fn blocking_policy_waits_for_the_grace_to_end() {
        let block = policy(RotationEnforcement::Block, 7);
        let end = DUE.plus(DAY * 7);
        assert_eq!(block.judge(Some(ROTATED), 30, before(end)), RotationState::Due { since: DUE });
        assert_eq!(block.judge(Some(ROTATED), 30, end), RotationState::Blocked { since: DUE });
    }

    #[test]
    fn warning_policy_never_blocks_and_no_policy_never_warns() {
        let late = DUE.plus(DAY * 10_000);
        let judge = |enforcement| policy(enforcement, 0).judge(Some(ROTATED), 30, late);
        assert_eq!(judge(RotationEnforcement::Warn), RotationState::Due { since: DUE });
        assert_eq!(judge(RotationEnforcement::Off), RotationState::Fresh);
    }

    #[test]
    fn secret_without_interval_or_date_is_fresh() {
        let block = policy(RotationEnforcement::Block, 0);
        assert_eq!(block.judge(Some(ROTATED), 0, DUE), RotationState::Fresh);
        assert_eq!(block.judge(None, 30, DUE), RotationState::Fresh);
        assert_eq!(block.judge(Some(ROTATED), u32::MAX, DUE), RotationState::Fresh);
    }
}
