//! The address of the client and of the server. The first line is the peer; then come the lines of `X-Forwarded-For`;
//! below `---` the lines `Host` and `X-Forwarded-Proto`.

use std::net::{IpAddr, SocketAddr};

use actix_web::{http::header::HeaderValue, test::TestRequest};
use ipnet::IpNet;
use keyward::{
    fuzzing::is_local,
    http::{TrustedProxies, own_address::OwnAddress},
};

pub const TOKENS: &[&str] = &[
    "127.0.0.1:1\n",
    "203.0.113.9:1\n",
    "[::1]:1\n",
    "10.0.0.7",
    "198.51.100.1",
    "[2001:db8::1]:443",
    "::ffff:10.0.0.1",
    ", ",
    ",",
    "unknown",
    "\n---\n",
    "localhost",
    "keys.example.com",
    "@",
    "\nhttps",
];

const TRUSTED: [&str; 3] = ["127.0.0.0/8", "10.0.0.0/8", "::1/128"];

pub fn run(input: &[u8]) {
    let end = input.windows(5).position(|it| it == b"\n---\n").unwrap_or(input.len());
    let mut lines = input[..end].split(|it| *it == b'\n');
    let peer = lines.next().and_then(|it| std::str::from_utf8(it).ok()?.parse::<SocketAddr>().ok());
    let Some(peer) = peer else { return };
    let forwarded: Vec<&[u8]> = lines.collect();
    let mut rest = input.get(end + 5..).unwrap_or_default().split(|it| *it == b'\n');
    let (host, proto) = (rest.next(), rest.next());
    addresses(peer, &forwarded, host, proto);
}

fn request(peer: SocketAddr, forwarded: &[&[u8]]) -> Option<TestRequest> {
    let mut request = TestRequest::get().peer_addr(peer);
    for line in forwarded {
        request = request.append_header(("X-Forwarded-For", HeaderValue::from_bytes(line).ok()?));
    }
    Some(request)
}

fn addresses(peer: SocketAddr, forwarded: &[&[u8]], host: Option<&[u8]>, proto: Option<&[u8]>) {
    let networks: Vec<IpNet> = TRUSTED.iter().map(|it| it.parse().expect("a network")).collect();
    let trusted = |it: IpAddr| networks.iter().any(|network| network.contains(&it));
    let proxies = TrustedProxies::new(networks.clone());
    let Some(plain) = request(peer, forwarded) else { return };
    let found = proxies.client_address(&plain.to_http_request());

    // The same, told from the first hop to the last.
    let joined = forwarded.join(&b',');
    let hops: Vec<_> =
        if forwarded.is_empty() { vec![] } else { joined.split(|it| *it == b',').collect() };
    let writers = hops.iter().skip(1).map(|it| address(it)).chain([Some(peer.ip().to_canonical())]);
    let writers: Vec<_> = writers.collect();
    let read = (0..hops.len()).rev().take_while(|at| writers[*at].is_some_and(trusted)).last();
    let expected = match read {
        None => Some(peer.ip().to_canonical()),
        Some(first) => address(hops[first]),
    };
    assert_eq!(found, expected, "the address that the last trusted proxy wrote");

    if found.is_some_and(|it| !trusted(it)) {
        for lie in [&b"127.0.0.1"[..], b"garbage", b"10.0.0.1, 1.2.3.4", b","] {
            let more: Vec<_> = [lie].into_iter().chain(forwarded.iter().copied()).collect();
            if !forwarded.is_empty() || !trusted(peer.ip().to_canonical()) {
                let lied = request(peer, &more).expect("a header").to_http_request();
                assert_eq!(
                    proxies.client_address(&lied),
                    found,
                    "an untrusted hop wrote the address"
                );
            }
        }
    }

    let mut own = request(peer, forwarded).expect("a request");
    for (name, value) in [("Host", host), ("X-Forwarded-Proto", proto)] {
        if let Some(value) = value {
            let Ok(value) = HeaderValue::from_bytes(value) else { return };
            own = own.insert_header((name, value));
        }
    }
    let own = own.to_http_request();
    let url = OwnAddress { configured: None, tls: false }.of_request(&own, &proxies);
    let secure = url.starts_with("https://");
    let authority = url.split_once("://").expect("a scheme").1;
    assert!(!secure || trusted(peer.ip().to_canonical()) && proto.is_some());
    assert!(
        !authority.is_empty()
            && !authority.contains(['/', '\\', '@', '<', '>', '"', ' ', '#', '?']),
        "{url}"
    );
    if is_local(&proxies, &own) {
        assert!(found.is_some_and(|it| it.is_loopback()));
        let host = String::from_utf8_lossy(host.unwrap_or(b"localhost")).into_owned();
        let name = host.strip_prefix('[').and_then(|it| it.split(']').next());
        let name = name.unwrap_or_else(|| host.split(':').next().unwrap_or_default());
        assert!(name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok(), "{host}");
    }
}

/// Reads one hop: an address, perhaps with brackets and a port.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bracketed = text.strip_prefix('[').and_then(|it| it.split_once(']'));
    let found: IpAddr = match bracketed {
        Some((inside, "")) => inside.parse().ok()?,
        Some(_) => text.parse::<SocketAddr>().ok()?.ip(),
        None if text.matches(':').count() == 1 => text.parse::<SocketAddr>().ok()?.ip(),
        None => text.parse().ok()?,
    };
    Some(found.to_canonical())
}
