//! The address of the client, where proxies stand between.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use actix_web::{
    HttpRequest,
    http::{
        header::{self, HeaderMap, HeaderName},
        uri::Authority,
    },
};
use arc_swap::ArcSwap;
use ipnet::IpNet;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks of proxies whose `X-Forwarded-For` is trusted.
#[derive(Debug)]
pub struct TrustedProxies(ArcSwap<Vec<IpNet>>);

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(ArcSwap::from_pointee(networks))
    }

    pub fn replace(&self, networks: Vec<IpNet>) {
        self.0.store(Arc::new(networks));
    }

    /// Returns whether a trusted proxy sent the request.
    pub fn trust_peer_of(&self, req: &HttpRequest) -> bool {
        let peer = peer_of(req);
        self.0.load().iter().any(|it| it.contains(&peer))
    }

    /// Returns the address of the client; `None` if a trusted proxy sends one that cannot be parsed.
    ///
    /// Each proxy appends the address of its peer. The list is therefore read from its end, as far as
    /// its writers are trusted. The peer of a Unix socket is on this machine.
    pub fn client_address(&self, req: &HttpRequest) -> Option<IpAddr> {
        let mut client = peer_of(req);
        let networks = self.0.load();
        let is_trusted = |it: &IpAddr| networks.iter().any(|network| network.contains(it));
        // Each accepted request comes through here. Most have one line at most.
        if !is_trusted(&client) {
            return Some(client);
        }
        let mut lines = req.headers().get_all(&FORWARDED_FOR);
        let Some(first) = lines.next() else { return Some(client) };
        let others: Vec<_> = lines.collect();
        for line in others.into_iter().rev().chain([first]) {
            for hop in line.as_bytes().rsplit(|it| *it == b',') {
                // Never the proxy's own address: a local client may do more than others.
                client = address(hop)?;
                if !is_trusted(&client) {
                    return Some(client);
                }
            }
        }
        // With no hop left, the proxy's machine made the request itself.
        Some(client)
    }
}

/// Returns the address of the other end of the connection.
fn peer_of(req: &HttpRequest) -> IpAddr {
    req.peer_addr().map_or(Ipv4Addr::LOCALHOST.into(), |it| it.ip()).to_canonical()
}

/// Returns whether the request comes from this machine and names it in `Host`. A request through a
/// proxy on this machine has the address of its client. An unknown address is not local.
pub fn is_local(proxies: &TrustedProxies, req: &HttpRequest) -> bool {
    proxies.client_address(req).is_some_and(|it| it.is_loopback()) && names_no_domain(req.headers())
}

/// Returns whether `Host` is an IP address or `localhost`, or is missing (HTTP/1.0).
///
/// A web page whose own name resolves to this machine (DNS rebinding) sends that name. A browser lets
/// no page choose `Host`.
fn names_no_domain(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    // A user before the host is for URLs only (RFC 9110, 7.2).
    let host = host.to_str().ok().filter(|it| !it.contains('@'));
    let Some(authority) = host.and_then(|it| it.parse::<Authority>().ok()) else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Parses an address as proxies write it: some add the port, and brackets around IPv6.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let with_port = || text.parse().map(|it: std::net::SocketAddr| it.ip());
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    bare.parse().or_else(|_| with_port()).ok().map(|it: IpAddr| it.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::{http::header::HeaderValue, test::TestRequest};

    use super::*;
    use crate::domain::address_list::AddressList;

    fn client(peer: &str, forwarded: &[&[u8]]) -> Option<String> {
        let networks = ["127.0.0.0/8", "10.0.0.0/8", "::1/128"];
        let networks = networks.map(|it| AddressList::parse_network(it).unwrap());
        let proxies = TrustedProxies::new(networks.into());
        let mut request = TestRequest::get().peer_addr(peer.parse().unwrap());
        for line in forwarded {
            let line = HeaderValue::from_bytes(line).unwrap();
            request = request.append_header(("X-Forwarded-For", line));
        }
        proxies.client_address(&request.to_http_request()).map(|it| it.to_string())
    }

    #[test]
    fn the_list_is_read_from_its_end_as_far_as_it_can_be_trusted() {
        for (peer, forwarded, expected) in [
            ("127.0.0.1:1", vec![], "127.0.0.1"),
            ("203.0.113.9:1", vec!["198.51.100.1"], "203.0.113.9"),
            ("127.0.0.1:1", vec!["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1:1", vec!["1.2.3.4, 198.51.100.1, 10.0.0.7"], "198.51.100.1"),
            ("127.0.0.1:1", vec!["1.2.3.4", "198.51.100.1", "10.0.0.7"], "198.51.100.1"),
            ("127.0.0.1:1", vec!["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            ("127.0.0.1:1", vec!["unknown, 198.51.100.1, 10.0.0.7"], "198.51.100.1"),
            ("127.0.0.1:1", vec!["198.51.100.1:4711"], "198.51.100.1"),
            ("[::1]:1", vec!["[2001:db8::1]:443"], "2001:db8::1"),
            ("[::1]:1", vec!["[2001:db8::1]"], "2001:db8::1"),
            ("[::ffff:127.0.0.1]:1", vec!["2001:db8::1"], "2001:db8::1"),
            ("203.0.113.9:1", vec!["unknown"], "203.0.113.9"),
        ] {
            let lines: Vec<_> = forwarded.iter().map(|it| it.as_bytes()).collect();
            assert_eq!(client(peer, &lines).as_deref(), Some(expected), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_proxy_is_trusted_in_both_forms_of_its_address() {
        for entry in ["10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "::ffff:a00:1"] {
            let network = AddressList::parse_network(entry).unwrap();
            let proxies = TrustedProxies::new(vec![network]);
            for peer in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
                for hop in ["203.0.113.9", "::ffff:203.0.113.9", "[::ffff:203.0.113.9]:443"] {
                    let request = TestRequest::get().peer_addr(peer.parse().unwrap());
                    let request = request.insert_header(("X-Forwarded-For", hop)).to_http_request();
                    let client = proxies.client_address(&request).map(|it| it.to_string());
                    assert_eq!(client.as_deref(), Some("203.0.113.9"), "{entry} {peer} {hop}");
                }
            }
        }
    }

    #[test]
    fn only_an_address_or_localhost_in_host_is_local() {
        let proxies = TrustedProxies::new(Vec::new());
        for (host, expected) in [
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("keys.example.com", false),
            ("localhost.example.com", false),
            ("keys.example.com@localhost", false),
            ("[@127.0.0.1]", false),
        ] {
            let request = TestRequest::get().peer_addr("127.0.0.1:1".parse().unwrap());
            let request = request.insert_header((header::HOST, host)).to_http_request();
            assert_eq!(is_local(&proxies, &request), expected, "{host}");
        }
    }

    #[test]
    fn a_hop_that_cannot_be_read_leaves_the_address_unknown() {
        for hop in [
            &b""[..],
            b" ",
            b"unknown",
            b"UNKNOWN",
            b"unix:",
            b"_hidden",
            b"_gazonk:80",
            b"-",
            b"localhost",
            b"api.example.com",
            b"fe80::1%eth0",
            b"[fe80::1%25eth0]:80",
            b"[::1",
            b"::1]",
            b"127.0.0.1:",
            b"127.0.0.1:99999",
            b"127.1",
            b"0127.0.0.1",
            b"2130706433",
            b"127.0.0.1;proto=https",
            b"for=127.0.0.1",
            b"\"127.0.0.1\"",
            b"127.0.0.1 10.0.0.1",
            b"\xff",
        ] {
            let after: Vec<_> = [&b"203.0.113.9, "[..], hop].concat();
            let between: Vec<_> = [&b"203.0.113.9,"[..], hop, b", 10.0.0.7"].concat();
            for lines in [vec![hop], vec![&*after], vec![&*between], vec![&b"1.2.3.4"[..], hop]] {
                let shown = lines.concat();
                let shown = String::from_utf8_lossy(&shown);
                assert_eq!(client("127.0.0.1:1", &lines), None, "{shown}");
            }
        }
        assert_eq!(client("127.0.0.1:1", &[b"1.2.3.4,"]), None);
    }
}
