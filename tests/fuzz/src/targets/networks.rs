//! Networks, lists of them, and stored addresses of clients. Below `---` come addresses to look up.

use std::net::IpAddr;

use ipnet::IpNet;
use keyward::domain::{
    address_list::{AddressList, InvalidNetwork},
    client_address::ClientAddress,
    network::is_public,
};

use super::halves;

pub const TOKENS: &[&str] = &[
    "10.0.0.0/8",
    "203.0.113.7",
    "::/0",
    "2001:db8::/32",
    "::ffff:203.0.113.0/120",
    "0.0.0.0/0",
    " ",
    "/64",
    "/",
    "\n---\n",
    "::ffff:10.0.0.1",
    "ff02::1",
];

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (networks, addresses) = halves(text);
    for word in networks.split(' ') {
        match AddressList::parse_network(word) {
            Ok(network) => {
                assert_eq!(network.trunc(), network);
                let mapped = network.prefix_len() >= 96 && network.addr().to_canonical().is_ipv4();
                assert!(network.addr().is_ipv4() || !mapped, "a mapped network is its IPv4 form");
                assert_eq!(AddressList::parse_network(&network.to_string()), Ok(network));
            }
            Err(InvalidNetwork::HostBits(meant)) => {
                assert!(AddressList::parse_network(&meant.to_string()).is_ok());
            }
            Err(InvalidNetwork::Syntax) => (),
        }
        stored(ClientAddress::from_stored(word));
    }
    let addresses: Vec<IpAddr> = addresses.lines().filter_map(|it| it.parse().ok()).collect();
    for address in &addresses {
        assert_eq!(is_public(*address), is_public(address.to_canonical()));
        stored(ClientAddress::of(*address));
    }
    let Some(list) = AddressList::from_stored(networks) else { return };
    let printed = list.to_string();
    assert_eq!(AddressList::from_stored(&printed), Some(list.clone()), "what is printed is read");
    assert!(list.is_within(&list) && (1..=50).contains(&list.iter().count()));
    let ends = list.iter().flat_map(|it| [it.network(), it.broadcast()]);
    let ends: Vec<_> = ends.collect();
    assert!(ends.iter().filter(|it| it.to_canonical() == **it).all(|it| list.contains(*it)));
    for address in addresses.into_iter().chain(ends) {
        let expected = list.iter().any(|it| holds(it, address.to_canonical()));
        assert_eq!(list.contains(address), expected, "{address} in {printed}");
        assert!(AddressList::admits(Some(&list), Some(address)) == expected);
    }
    assert!(!AddressList::admits(Some(&list), None));
}

fn stored(address: Option<ClientAddress>) {
    let Some(address) = address else { return };
    assert_eq!(ClientAddress::from_stored(&address.to_string()), Some(address));
    assert_eq!(ClientAddress::from_bits(address.to_bits()), Some(address));
}

/// Compares bit by bit.
fn holds(network: &IpNet, address: IpAddr) -> bool {
    let (ours, its, width) = match (network.addr(), address) {
        (IpAddr::V4(ours), IpAddr::V4(its)) => {
            (u128::from(ours.to_bits()), u128::from(its.to_bits()), 32)
        }
        (IpAddr::V6(ours), IpAddr::V6(its)) => (ours.to_bits(), its.to_bits(), 128),
        _ => return false,
    };
    (0..u32::from(network.prefix_len())).all(|at| (ours ^ its) >> (width - 1 - at) & 1 == 0)
}
