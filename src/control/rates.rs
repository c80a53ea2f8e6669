//! How often one caller may ask.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use quick_cache::sync::Cache;

use crate::names::{ApiKeyId, Namespace};

/// Addresses remembered at most. Beyond them, all addresses share one allowance; whoever was proven keeps its own.
const ADDRESSES: usize = 100_000;
/// Service API keys that were good when last looked up.
const KNOWN_KEYS: usize = 10_000;
/// The burst, in seconds of the rate.
const BURST_SECS: u32 = 10;

/// The caller has sent too many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there were too many requests; retry later")]
pub(super) struct TooMany {
    /// The seconds after which there is room for another.
    pub(super) retry_after_secs: u64,
}

impl From<NotUntil<<DefaultClock as Clock>::Instant>> for TooMany {
    fn from(not_until: NotUntil<<DefaultClock as Clock>::Instant>) -> Self {
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        Self { retry_after_secs: wait.as_secs() + 1 }
    }
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// An owner, by its namespace.
    Owner(Namespace),
    /// The holder of a service API key.
    Key(ApiKeyId),
    /// The same where it tells of usage, counted by itself: gateways that are busy must still get at their claims.
    Usage(ApiKeyId),
    /// Whoever has shown nothing that could be looked up without a risk, by its network.
    Address(IpAddr),
    /// Addresses, where there are too many to be remembered.
    Rest,
}

/// The allowances of all callers, each of so many requests a second with a burst of ten times that.
pub(super) struct Rates {
    /// Of owners and keys, which the database bounds: strangers from however many addresses take nothing from them.
    proven: DefaultKeyedRateLimiter<Caller>,
    addresses: DefaultKeyedRateLimiter<Caller>,
    /// Keys that were good, by their SHA-256 (lower-case hex): their holders are counted by the key, and not by their address, which
    /// many may share. Whoever tries keys out is counted by the address, before a signature is proven or the database asked.
    known_keys: Cache<String, ApiKeyId>,
}

impl Rates {
    pub(super) fn new(per_second: u32) -> Self {
        let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let burst = rate.saturating_mul(NonZeroU32::new(BURST_SECS).unwrap_or(NonZeroU32::MIN));
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self {
            proven: RateLimiter::keyed(quota),
            addresses: RateLimiter::keyed(quota),
            known_keys: Cache::new(KNOWN_KEYS),
        }
    }

    /// Counts one request of this caller.
    ///
    /// # Errors
    /// When it has sent too many.
    pub(super) fn count(&self, caller: Caller) -> Result<(), TooMany> {
        let (limiter, caller) = match caller {
            Caller::Owner(_) | Caller::Key(_) | Caller::Usage(_) => (&self.proven, caller),
            _ if self.addresses.len() < ADDRESSES => (&self.addresses, caller),
            _ => (&self.addresses, Caller::Rest),
        };
        Ok(limiter.check_key(&caller)?)
    }

    /// As [`Rates::count`], of a caller that has only an address.
    pub(super) fn count_address(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count(Caller::Address(network(address)))
    }

    /// The key with this SHA-256, where it was good when last looked up.
    pub(super) fn known(&self, sha256: &str) -> Option<ApiKeyId> {
        self.known_keys.get(sha256)
    }

    /// Remembers which key it is that has this SHA-256, or that there is none.
    pub(super) fn remember(&self, sha256: &str, key: Option<&ApiKeyId>) {
        match key {
            Some(key) => self.known_keys.insert(sha256.to_owned(), key.clone()),
            None => {
                self.known_keys.remove(sha256);
            }
        }
    }

    /// Forgets callers whose allowance is whole again.
    pub(super) fn forget_idle(&self) {
        self.proven.retain_recent();
        self.addresses.retain_recent();
    }
}

/// One host has a whole /64 of IPv6 to choose addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates")
            .field("proven", &self.proven.len())
            .field("addresses", &self.addresses.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_has_its_burst_and_others_theirs() {
        let rates = Rates::new(1);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..10 {
            rates.count_address(address("203.0.113.9")).unwrap();
        }
        rates.count_address(address("203.0.113.9")).unwrap_err();
        rates.count_address(address("203.0.113.10")).unwrap();
        rates.count(Caller::Owner("alice".parse().unwrap())).unwrap();
    }

    #[test]
    fn strangers_from_more_addresses_than_are_remembered_take_nothing_from_owners_and_keys() {
        let rates = Rates::new(1);
        let flood = u32::try_from(ADDRESSES).unwrap() + 100;
        for number in 0..flood {
            // Beyond those that are remembered some are refused already.
            let _ = rates.count_address(std::net::Ipv4Addr::from_bits(number).into());
        }
        rates.count_address("203.0.113.9".parse().unwrap()).unwrap_err();
        rates.count(Caller::Owner("alice".parse().unwrap())).unwrap();
        rates.count(Caller::Key(ApiKeyId::from_random([1; 16]))).unwrap();
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_caller() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
