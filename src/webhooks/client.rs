//! The HTTP client of webhooks: one attempt at one message.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::crypto::ring;
use ureq::{
    Agent, Body,
    config::Config,
    http::{Request, Response, Uri, header},
    tls::{RootCerts, TlsConfig, TlsProvider},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use crate::{
    domain::{network::is_public, webhook::retry_after},
    env::Timestamp,
    service::Webhook,
};

/// The most bytes of an answer's body that are read. A longer answer ends its connection.
const LONGEST_ANSWER: u64 = 4 * 1024;

/// Sends messages to one receiver.
pub(super) struct Client {
    agent: Agent,
    webhook: Arc<Webhook>,
}

/// A message in one attempt.
pub(super) struct Message<'a> {
    /// The same in every attempt.
    pub id: &'a str,
    pub body: &'a [u8],
    /// The time of this attempt.
    pub now: Timestamp,
}

/// How an attempt ended.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Delivered,
    /// The receiver wants no further messages.
    Gone,
    Failed {
        why: String,
        /// The delay that the receiver asked for.
        asked: Option<Duration>,
    },
}

impl Client {
    pub fn new(webhook: Arc<Webhook>) -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None) // A proxy would look up the name itself, after the check of its addresses.
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(webhook.timeout))
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = CheckedResolver { allow_private: webhook.allow_private };
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        Self { agent, webhook }
    }

    /// Sends one message. Takes at most the timeout of the webhook.
    pub fn post(&self, message: &Message<'_>) -> Outcome {
        let timestamp = message.now.as_millis().div_euclid(1000);
        let secrets = self.webhook.secrets.iter();
        let signatures: Vec<_> =
            secrets.map(|it| it.sign(message.id, timestamp, message.body)).collect();
        let request = Request::post(&self.webhook.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signatures.join(" "))
            .body(message.body);
        let answer = request.map_err(Into::into).and_then(|it| self.agent.run(it));
        match answer {
            Ok(answer) => conclude(answer, message.now),
            Err(err) => Outcome::Failed { why: err.to_string(), asked: None },
        }
    }
}

fn conclude(mut answer: Response<Body>, now: Timestamp) -> Outcome {
    let status = answer.status();
    let asked = answer.headers().get(header::RETRY_AFTER).and_then(|it| it.to_str().ok());
    let asked = asked.and_then(|it| retry_after(it, now));
    // A connection can be used again once the body was read. The status alone is the answer.
    let _ = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec();
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        410 => Outcome::Gone,
        status => Outcome::Failed { why: format!("the receiver answered {status}"), asked },
    }
}

/// Looks up the addresses of the receiver and refuses those that are not public. The connection goes
/// to the addresses that were checked, so a second look-up cannot give others.
#[derive(Debug)]
struct CheckedResolver {
    allow_private: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the receiver has the private address {0}; set `allow_private` to send there")]
struct PrivateAddress(IpAddr);

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let private = found.iter().map(SocketAddr::ip).find(|it| !is_public(*it));
        match private.filter(|_| !self.allow_private) {
            Some(address) => Err(ureq::Error::Other(Box::new(PrivateAddress(address)))),
            None => Ok(found),
        }
    }
}
