//! IPv4 addresses that stand inside IPv6 ones.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The IPv4 address that a packet to this one reaches: of a mapped (`::ffff:0:0/96`, RFC 4291 §2.5.5.2), a translated
/// (`64:ff9b::/96`, RFC 6052 §2.1) or a 6to4 (`2002::/16`, RFC 3056 §2) address.
#[must_use]
pub fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(of(g, h)),
        (0x2002, ..) => Some(of(b, c)),
        _ => None,
    }
}
