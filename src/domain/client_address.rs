//! The address of a client, as it is stored: IPv4 as it is, IPv6 by its network of 64 bits.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::domain::named_enum;

/// An IPv4 address, or the /64 network of an IPv6 address. A provider gives each customer a /64 or
/// more, and a device changes its address inside of it many times a day.
///
/// It is one number, so that a thread can compare and replace it at once: the 64 bits of the network,
/// or an IPv4 address in the range of multicast, which no client has (RFC 4291, 2.7).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ClientAddress(u64);

named_enum! {
    /// What keyward does with the addresses from which keys are used.
    pub enum AddressRecording {
        /// Stores none.
        Off => "off",
        Store => "store",
        /// Stores them, and records an event about a new one.
        Announce => "announce",
    }
}

impl ClientAddress {
    /// The first network of multicast, `ff00::/64`.
    const MULTICAST: u64 = 0xff00_0000_0000_0000;
    const NETWORK_SUFFIX: &str = "/64";

    /// Returns `None` for a multicast address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(it) => Some(Self(Self::MULTICAST | u64::from(it.to_bits()))),
            IpAddr::V6(it) => {
                let network = u64::try_from(it.to_bits() >> 64).ok()?;
                (network < Self::MULTICAST).then_some(Self(network))
            }
        }
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn from_stored(text: &str) -> Option<Self> {
        let address = match text.strip_suffix(Self::NETWORK_SUFFIX) {
            Some(network) => IpAddr::V6(network.parse().ok()?),
            None => IpAddr::V4(text.parse().ok()?),
        };
        Self::of(address)
    }

    /// Returns the number, which is less than `u64::MAX` - 1.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Returns the address with this number, if it has one.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let of_v4 = bits.checked_sub(Self::MULTICAST);
        of_v4.is_none_or(|it| u32::try_from(it).is_ok()).then_some(Self(bits))
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_v4 = self.0.checked_sub(Self::MULTICAST).and_then(|it| u32::try_from(it).ok());
        if let Some(bits) = of_v4 {
            return Ipv4Addr::from_bits(bits).fmt(f);
        }
        let network = Ipv6Addr::from_bits(u128::from(self.0) << 64);
        write!(f, "{network}{}", Self::NETWORK_SUFFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<ClientAddress> {
        ClientAddress::of(text.parse().unwrap())
    }

    #[test]
    fn an_ipv6_address_counts_as_its_network_and_a_mapped_one_as_ipv4() {
        for (given, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("0.0.0.0", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.255"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::", "2001:db8:1:3::/64"),
            ("::1", "::/64"),
            ("feff:ffff:ffff:ffff::1", "feff:ffff:ffff:ffff::/64"),
        ] {
            let address = of(given).unwrap();
            assert_eq!(address.to_string(), expected, "{given}");
            assert_eq!(ClientAddress::from_stored(expected), Some(address), "{given}");
            assert_eq!(ClientAddress::from_bits(address.to_bits()), Some(address), "{given}");
        }
        assert_ne!(of("203.0.113.7"), of("203.0.113.8"));
    }

    #[test]
    fn an_address_that_no_client_has_is_none() {
        for given in ["ff00::", "ff02::1", "ff00::cb00:7107", "ffff:ffff:ffff:ffff::"] {
            assert_eq!(of(given), None, "{given}");
        }
        for text in ["", "x", "203.0.113.7/64", "2001:db8::", "ff02::/64", "2001:db8::/65"] {
            assert_eq!(ClientAddress::from_stored(text), None, "{text}");
        }
        for bits in [u64::MAX, u64::MAX - 1, ClientAddress::MULTICAST + (1 << 32)] {
            assert_eq!(ClientAddress::from_bits(bits), None, "{bits:x}");
        }
    }
}
