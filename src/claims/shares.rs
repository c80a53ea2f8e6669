//! How much of what is submitted in a minute one client address may have: a stranger with keys of its own making leaves
//! the others something.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::clock::UnixTime;

/// The share is a third of all, but never less than this.
const LEAST: u32 = 5;
const MINUTE: Duration = Duration::from_secs(60);

/// What client addresses had in this minute. There are no more of them than submissions.
pub(super) struct Shares {
    most: u32,
    begun: UnixTime,
    of: HashMap<IpAddr, u32>,
}

impl Shares {
    /// Of so many a minute.
    pub(super) fn of(per_minute: NonZeroU32, now: UnixTime) -> Self {
        Self { most: (per_minute.get() / 3).max(LEAST), begun: now, of: HashMap::new() }
    }

    /// Holds this client to its share.
    ///
    /// # Errors
    /// When it has had it; with how long it must wait.
    pub(super) fn check(&mut self, client: IpAddr, now: UnixTime) -> Result<(), Duration> {
        let passed = now.since(self.begun);
        // A clock that was put back begins a new minute too.
        if passed >= MINUTE || now < self.begun {
            (self.begun, self.of) = (now, HashMap::new());
        }
        let had = self.of.get(&network(client)).copied().unwrap_or(0);
        if had < self.most { Ok(()) } else { Err(MINUTE.saturating_sub(passed)) }
    }

    /// Counts what this client has had now.
    pub(super) fn take(&mut self, client: IpAddr) {
        *self.of.entry(network(client)).or_default() += 1;
    }
}

/// Whoever has one address of IPv6 has the 64 bits behind its network too.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    /// Takes what this client has left.
    fn empty(shares: &mut Shares, client: &str, now: UnixTime) -> u32 {
        let client = client.parse().unwrap();
        (0..).take_while(|_| shares.check(client, now).map(|()| shares.take(client)).is_ok()).count() as u32
    }

    #[test]
    fn client_has_a_third_of_the_minute_and_the_others_theirs() {
        let mut shares = Shares::of(30.try_into().unwrap(), NOW);
        assert_eq!(empty(&mut shares, "192.0.2.7", NOW), 10);
        assert_eq!(empty(&mut shares, "::ffff:192.0.2.7", NOW), 0, "the same address");
        assert_eq!(empty(&mut shares, "192.0.2.8", NOW), 10);
        let half = NOW.plus(MINUTE / 2);
        assert_eq!(shares.check("192.0.2.7".parse().unwrap(), half), Err(MINUTE / 2));
        assert_eq!(empty(&mut shares, "192.0.2.7", NOW.plus(MINUTE)), 10, "a new minute");
        assert_eq!(empty(&mut shares, "192.0.2.7", NOW), 10, "a clock that was put back");
    }

    #[test]
    fn network_of_ipv6_is_one_client_and_a_small_rate_leaves_a_client_five() {
        let mut shares = Shares::of(2.try_into().unwrap(), NOW);
        assert_eq!(empty(&mut shares, "2001:db8::1", NOW), 5);
        assert_eq!(empty(&mut shares, "2001:db8::2", NOW), 0);
        assert_eq!(empty(&mut shares, "2001:db8:0:1::1", NOW), 5);
    }
}
