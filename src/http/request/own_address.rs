//! The address under which browsers reach this server, for links.

use actix_web::{
    HttpRequest,
    http::{
        header::{self, HeaderName},
        uri::Authority,
    },
};

use crate::http::request::client_address::TrustedProxies;

static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The address under which browsers reach this server.
#[derive(Clone, Debug)]
pub struct OwnAddress {
    /// The URL that the operator configured, without a slash at its end.
    pub configured: Option<String>,
    /// Whether the listeners speak TLS.
    pub tls: bool,
}

impl OwnAddress {
    /// Returns the URL of the server, without a slash at its end: the configured one, or the address to
    /// which this request was sent.
    ///
    /// Only the client of the request gets the result, so a wrong `Host` misleads that client alone.
    pub fn of_request(&self, req: &HttpRequest, proxies: &TrustedProxies) -> String {
        if let Some(url) = &self.configured {
            return url.clone();
        }
        let host = req.headers().get(header::HOST).and_then(|it| it.to_str().ok());
        let is_plain = |it: &&str| it.parse::<Authority>().is_ok() && !it.contains('@');
        let host = host.filter(is_plain).unwrap_or("localhost");
        let forwarded = req.headers().get(&FORWARDED_PROTO);
        let ends_tls = forwarded.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"https"));
        let tls = self.tls || ends_tls && proxies.trust_peer_of(req);
        format!("{}://{host}", if tls { "https" } else { "http" })
    }
}

/// Returns the URL of this listener as a browser on this machine opens it.
pub fn local_url(listener: &str) -> String {
    if listener.starts_with("unix:") {
        return "http://localhost".to_owned();
    }
    listener.replace("//0.0.0.0:", "//localhost:").replace("//[::]:", "//localhost:")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_address_is_that_of_the_request_unless_it_is_configured() {
        let proxies = TrustedProxies::new(vec!["127.0.0.1/32".parse().unwrap()]);
        for (tls, peer, host, proto, expected) in [
            (false, "127.0.0.1:1", "localhost:8080", None, "http://localhost:8080"),
            (true, "127.0.0.1:1", "keys.example.com", None, "https://keys.example.com"),
            (false, "127.0.0.1:1", "keys.example.com", Some("https"), "https://keys.example.com"),
            (false, "127.0.0.1:1", "keys.example.com", Some("http"), "http://keys.example.com"),
            (false, "203.0.113.9:1", "keys.example.com", Some("https"), "http://keys.example.com"),
            (false, "127.0.0.1:1", "[::1]:8080", None, "http://[::1]:8080"),
            (false, "127.0.0.1:1", "user@evil.example", None, "http://localhost"),
            (false, "127.0.0.1:1", "evil.example/x", None, "http://localhost"),
        ] {
            let mut request =
                TestRequest::get().peer_addr(peer.parse().unwrap()).insert_header(("Host", host));
            if let Some(proto) = proto {
                request = request.insert_header(("X-Forwarded-Proto", proto));
            }
            let request = request.to_http_request();
            let own = OwnAddress { configured: None, tls };
            assert_eq!(own.of_request(&request, &proxies), expected);
            let own = OwnAddress { configured: Some("https://x.example".to_owned()), tls };
            assert_eq!(own.of_request(&request, &proxies), "https://x.example");
        }
    }

    #[test]
    fn a_listener_for_all_addresses_is_reached_at_localhost() {
        for (listener, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://0.0.0.0:8443", "https://localhost:8443"),
            ("http://[::]:8080", "http://localhost:8080"),
            ("unix:/run/keyward.sock", "http://localhost"),
        ] {
            assert_eq!(local_url(listener), expected);
        }
    }
}
