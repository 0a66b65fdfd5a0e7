//! The networks from which a key may be used.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

/// The networks from which a key is accepted: at least one, each once, in the given order.
///
/// An IPv4-mapped IPv6 address or network counts as its IPv4 form. Apart from that, only IPv4
/// networks hold IPv4 addresses: `::/0` holds none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressList(Arc<[IpNet]>);

/// Why a text is no network.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidNetwork {
    #[error("must be an IPv4 or IPv6 address or network, such as 203.0.113.0/24")]
    Syntax,
    #[error("has bits set after its prefix length; write {0}")]
    HostBits(IpNet),
}

impl AddressList {
    pub const MAX_LEN: usize = 50;

    /// Returns `None` for no networks, and for more than [`AddressList::MAX_LEN`].
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Option<Self> {
        let mut list = Vec::new();
        for network in networks {
            if list.contains(&network) {
                continue;
            }
            // Each is compared with all before it, so a longer list ends here.
            if list.len() == Self::MAX_LEN {
                return None;
            }
            list.push(network);
        }
        (!list.is_empty()).then(|| Self(list.into()))
    }

    /// Reads a network, or one address.
    ///
    /// # Errors
    /// If the text is neither, or the network has bits after its prefix length: then one of the two is
    /// a mistake.
    pub fn parse_network(text: &str) -> Result<IpNet, InvalidNetwork> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_| InvalidNetwork::Syntax)?,
        };
        if network.trunc() != network {
            return Err(InvalidNetwork::HostBits(network.trunc()));
        }
        Ok(canonical(network))
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn from_stored(text: &str) -> Option<Self> {
        let networks: Result<Vec<_>, _> = text.split(' ').map(Self::parse_network).collect();
        Self::new(networks.ok()?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|it| it.contains(&address))
    }

    /// Returns whether `list` admits a client with this address. Without a list, every client is
    /// admitted; with one, a client of unknown address is not.
    pub fn admits(list: Option<&Self>, client: Option<IpAddr>) -> bool {
        list.is_none_or(|it| client.is_some_and(|client| it.contains(client)))
    }

    /// Returns whether every address of this list is in `outer`.
    pub fn is_within(&self, outer: &Self) -> bool {
        let joined = IpNet::aggregate(&outer.0.to_vec());
        self.0.iter().all(|inner| joined.iter().any(|it| it.contains(inner)))
    }
}

impl fmt::Display for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Returns the IPv4 form of an IPv4-mapped IPv6 network (RFC 4291, 2.5.5.2).
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED));
    let v4 = v4.and_then(|(address, len)| Ipv4Net::new(address, len).ok());
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AddressList {
        AddressList::from_stored(text).unwrap()
    }

    #[test]
    fn a_network_ends_at_its_last_address() {
        let networks = list("203.0.113.64/26 2001:db8::/126 198.51.100.7");
        for (address, expected) in [
            ("203.0.113.63", false),
            ("203.0.113.64", true),
            ("203.0.113.127", true),
            ("203.0.113.128", false),
            ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("2001:db8::", true),
            ("2001:db8::3", true),
            ("2001:db8::4", false),
            ("198.51.100.6", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("::ffff:203.0.113.64", true),
            ("::ffff:203.0.113.63", false),
        ] {
            assert_eq!(networks.contains(address.parse().unwrap()), expected, "{address}");
        }
        assert!(!list("::/0").contains("203.0.113.1".parse().unwrap()));
    }

    #[test]
    fn a_mapped_network_is_its_ipv4_form() {
        assert_eq!(list("::ffff:203.0.113.0/120"), list("203.0.113.0/24"));
        assert_eq!(list("::ffff:203.0.113.9"), list("203.0.113.9/32"));
        assert_eq!(list("::ffff:0:0/96"), list("0.0.0.0/0"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "x", "203.0.113.0/33", "::/129", "203.0.113.0/", "0127.0.0.1", "1.2.3"] {
            assert_eq!(AddressList::parse_network(text), Err(InvalidNetwork::Syntax), "{text}");
        }
        let meant = "10.0.0.0/8".parse().unwrap();
        assert_eq!(AddressList::parse_network("10.0.0.1/8"), Err(InvalidNetwork::HostBits(meant)));
    }

    #[test]
    fn a_list_has_one_to_fifty_networks() {
        let of = |n: u8| AddressList::new((0..n).map(|i| IpNet::from(IpAddr::from([10, 0, 0, i]))));
        assert!(of(0).is_none() && of(1).is_some() && of(50).is_some() && of(51).is_none());
        assert_eq!(list("10.0.0.1 10.0.0.1").to_string(), "10.0.0.1/32");
        let read = std::cell::Cell::new(0);
        let endless = (0_u128..).map(|i| {
            read.set(read.get() + 1);
            IpNet::from(IpAddr::from(i.to_be_bytes()))
        });
        assert_eq!((AddressList::new(endless), read.get()), (None, 51));
    }

    #[test]
    fn a_list_is_within_another_if_all_its_addresses_are() {
        for (inner, outer, expected) in [
            ("10.0.0.0/24", "10.0.0.0/24", true),
            ("10.0.0.0/24", "10.0.0.0/23", true),
            ("10.0.0.0/23", "10.0.0.0/24", false),
            ("10.0.0.0/23", "10.0.0.0/24 10.0.1.0/24", true),
            ("10.0.0.0/24 10.0.1.0/32", "10.0.0.0/24", false),
            ("2001:db8::/64", "2001:db8::/48", true),
            ("10.0.0.0/24", "::/0", false),
            ("::/1", "::/0 0.0.0.0/0", true),
        ] {
            assert_eq!(list(inner).is_within(&list(outer)), expected, "{inner} in {outer}");
        }
    }

    #[test]
    fn a_list_admits_only_known_addresses_that_are_on_it() {
        let networks = list("203.0.113.0/24");
        let [inside, outside] = ["203.0.113.9", "198.51.100.9"].map(|it| it.parse().unwrap());
        assert!(AddressList::admits(None, None) && AddressList::admits(None, Some(outside)));
        assert!(AddressList::admits(Some(&networks), Some(inside)));
        assert!(!AddressList::admits(Some(&networks), Some(outside)));
        assert!(!AddressList::admits(Some(&networks), None));
        assert_eq!(networks.iter().count(), 1);
    }
}
