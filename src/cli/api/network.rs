//! A server on the network: its API and its probes.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    iter,
    net::IpAddr,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rustls::crypto::ring;
use ureq::{
    Agent, Proxy,
    http::{Request, Uri, header},
    tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};
use zeroize::Zeroizing;

use super::answer::{API, Answer, Lines};
use crate::cli::{error::Error, settings::variable};

/// The time limit for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time limit for the next line of a stream. A stream sends heartbeats more often.
const SILENCE: Duration = Duration::from_mins(1);
/// The most bytes of an answer. Every page is shorter.
const LONGEST: u64 = 64 * 1024 * 1024;
/// The most lines of a stream that are received ahead.
const LINES_AHEAD: usize = 256;

pub(crate) struct Network {
    agent: Agent,
    base: String,
    key: Zeroizing<String>,
}

impl Network {
    pub(crate) fn to(url: &str) -> Result<Self, Error> {
        let base = base_of(url)?;
        let key = match variable("KEYWARD_KEY_FILE") {
            Some(path) => fs::read_to_string(&path)
                .map_err(|source| Error::File { path: path.into(), source })?,
            None => variable("KEYWARD_KEY").ok_or(Error::NoKey)?,
        };
        let key = Zeroizing::new(key);
        let key = Zeroizing::new(key.trim().to_owned());
        let agent = agent(&base, PATIENCE)?;
        Ok(Self { agent, base, key })
    }

    pub(crate) fn send(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, Error> {
        let unreachable = |source| unreachable(&self.base, source);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.base))
            .header("x-api-key", self.key.as_str());
        let answer = match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
                self.agent.run(request.map_err(|err| unreachable(err.into()))?)
            }
            None => self.agent.run(request.body(()).map_err(|err| unreachable(err.into()))?),
        };
        let mut answer = answer.map_err(unreachable)?;
        let body =
            answer.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(unreachable)?;
        Ok((answer.status().as_u16(), body.into()))
    }

    /// Opens a stream. Only its beginning and the silence in it have a time limit.
    pub(crate) fn stream(&self, target: &str) -> Result<(u16, Lines), Error> {
        let unreachable = |source| unreachable(&self.base, source);
        let request = Request::get(format!("{}{target}", self.base))
            .header("x-api-key", self.key.as_str())
            .body(())
            .map_err(|err| unreachable(err.into()))?;
        let request = self.agent.configure_request(request).timeout_global(None);
        let request = request.timeout_connect(Some(PATIENCE)).timeout_recv_response(Some(PATIENCE));
        let answer = self.agent.run(request.build()).map_err(unreachable)?;
        let status = answer.status().as_u16();
        let body = BufReader::new(answer.into_body().into_reader());
        // A connection whose other end vanished never ends by itself. A thread waits for lines, so that
        // only silence counts, and not how slowly the lines are taken.
        let (give, lines) = mpsc::sync_channel(LINES_AHEAD);
        thread::spawn(move || {
            let mut whole = body.lines().map_while(Result::ok);
            while whole.next().is_some_and(|line| give.send(line).is_ok()) {}
        });
        Ok((status, Box::new(iter::from_fn(move || lines.recv_timeout(SILENCE).ok()))))
    }
}

/// Returns the address of a server without the path of its API. Schemes have no case (RFC 3986, 3.1).
fn base_of(url: &str) -> Result<String, Error> {
    let base = url.trim_end_matches('/').trim_end_matches(API);
    let scheme = base.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    match scheme {
        Some((scheme, rest)) if scheme == "http" || scheme == "https" => {
            Ok(format!("{scheme}://{rest}"))
        }
        _ => {
            Err(Error::Usage(format!("`{url}` is not a URL that begins with http:// or https://")))
        }
    }
}

/// Returns the proxy that the environment names (`HTTPS_PROXY` and similar variables). Never for this
/// machine itself: the proxy would get the key, and would look for the server on its own machine.
fn proxy_for(base: &str) -> Option<Proxy> {
    let uri: Uri = base.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']);
    let local = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|it| it.to_canonical().is_loopback());
    Proxy::try_from_env().filter(|it| !local && !it.is_no_proxy(&uri))
}

/// Returns the error for a server that cannot be reached, with the proxy between.
fn unreachable(base: &str, source: ureq::Error) -> Error {
    let proxy = proxy_for(base);
    let through =
        proxy.map_or_else(String::new, |it| format!(" (through {}:{})", it.host(), it.port()));
    Error::Unreachable { url: format!("{base}{through}"), source }
}

fn agent(base: &str, patience: Duration) -> Result<Agent, Error> {
    let roots = match variable("KEYWARD_CA_FILE") {
        Some(path) => {
            own_roots(&path).map_err(|source| Error::File { path: path.into(), source })?
        }
        None => RootCerts::PlatformVerifier,
    };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(roots)
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy_for(base))
        .http_status_as_error(false)
        .max_redirects(0) // The key is for this server and no other.
        .timeout_global(Some(patience))
        .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent())
}

/// Returns the status of the answer to a GET request without a key.
pub(crate) fn probe(url: &str, path: &str, patience: Duration) -> Result<u16, Error> {
    let base = base_of(url)?;
    let unanswered = |source| {
        if matches!(source, ureq::Error::Timeout(_)) {
            return Error::Silent { patience };
        }
        unreachable(&base, source)
    };
    let agent = agent(&base, patience)?;
    let answer = agent.get(format!("{base}{path}")).call().map_err(unanswered)?;
    Ok(answer.status().as_u16())
}

fn own_roots(path: &str) -> Result<RootCerts, io::Error> {
    let mut certificates = Vec::new();
    for item in parse_pem(&fs::read(path)?) {
        if let PemItem::Certificate(it) = item.map_err(io::Error::other)? {
            certificates.push(it);
        }
    }
    if certificates.is_empty() {
        return Err(io::Error::other("the file holds no certificate"));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
