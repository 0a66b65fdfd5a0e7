//! How commands reach the API: over the network, through the control socket of the running server,
//! or, when none runs, through that of a server inside this very process.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use rustls::crypto::ring;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{
    Agent,
    http::{Request, header},
    tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};
use zeroize::Zeroizing;

use crate::{
    cli::{Error, Settings, config, control, socket, variable},
    config::Config,
    server::{AtHand, Reached},
};

/// Of a server on the network; those on this machine may take as long as they need.
const PATIENCE: Duration = Duration::from_secs(30);
const API: &str = "/api/v1";

/// Which keyward is asked.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Target {
    /// Ask this server, with the key in `KEYWARD_KEY` or in the file that `KEYWARD_KEY_FILE` names;
    /// also `KEYWARD_URL`. Without it, the server of the data directory or its database
    #[arg(long, value_name = "URL", conflicts_with_all = ["data_dir", "config"])]
    url: Option<String>,
    /// The configuration file; also `KEYWARD_CONFIG`. Without it ./keyward.toml or
    /// /etc/keyward/keyward.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

/// A keyward that can be asked.
pub(super) enum Client {
    Network(Network),
    Socket(PathBuf),
    AtHand(AtHand),
}

pub(super) struct Network {
    agent: Agent,
    base: String,
    key: Zeroizing<String>,
}

impl Target {
    /// The server on the network, if one is meant: a flag wins over the variable.
    pub(super) fn url(&self) -> Option<String> {
        let here = self.data_dir.is_some() || self.config.is_some();
        let from_variable = || variable("KEYWARD_URL").filter(|_| !here);
        self.url.clone().or_else(from_variable)
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            ..Settings::default()
        }
    }

    pub(super) fn config(&self) -> Result<Config, Error> {
        config::load(&self.settings())
    }

    pub(super) fn open(&self) -> Result<Client, Error> {
        match self.url() {
            Some(url) => Network::to(&url).map(Client::Network),
            None => Client::on_this_machine(&self.config()?),
        }
    }
}

impl Client {
    pub(super) fn on_this_machine(config: &Config) -> Result<Self, Error> {
        let database = config.data_dir.join("keyward.db");
        if !database.exists() {
            return Err(Error::NoDatabase { path: database });
        }
        match control::reach(config)? {
            Reached::Database(site) => Ok(Self::AtHand(AtHand::start(site)?)),
            Reached::Server(socket) => Ok(Self::Socket(socket)),
        }
    }

    /// Asks the API; `target` is what comes after `/api/v1`.
    pub(super) fn ask(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let target = format!("{API}{target}");
        let body = body.map(|it| Zeroizing::new(it.to_string().into_bytes()));
        let body = body.as_ref().map(|it| it.as_slice());
        let (status, answer) = match self {
            Self::Network(it) => it.send(method, &target, body)?,
            Self::Socket(path) => {
                socket::send(path, method, &target, body).map_err(Error::Control)?
            }
            Self::AtHand(it) => {
                socket::send(&it.socket(), method, &target, body).map_err(Error::Control)?
            }
        };
        if (200..300).contains(&status) { Ok(answer) } else { Err(refusal(status, &answer)) }
    }

    /// Asks what only the control socket can do.
    pub(super) fn control<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Error> {
        let socket = match self {
            Self::Socket(path) => path.clone(),
            Self::AtHand(it) => it.socket(),
            Self::Network(_) => return Err(Error::Usage("this is done on the machine".to_owned())),
        };
        let (status, answer) = socket::post(&socket, path, body).map_err(Error::Control)?;
        if status != 200 {
            return Err(refusal(status, &answer));
        }
        serde_json::from_slice(&answer).map_err(|err| Error::Control(err.into()))
    }

    /// As [`Client::ask`], and reads the answer.
    pub(super) fn ask_for<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let answer = self.ask(method, target, body)?;
        serde_json::from_slice(&answer).map_err(|err| Error::Control(err.into()))
    }

    /// Every element of a list, page by page. `target` has a query already.
    pub(super) fn list(&self, target: &str) -> Result<Vec<Value>, Error> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page: Value = self.ask_for("GET", &format!("{target}{cursor}"), None)?;
            all.extend(page["data"].as_array().cloned().unwrap_or_default());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", encoded(next)),
                None => return Ok(all),
            }
        }
    }

    /// To be called when everything went well: a database at hand is complete only then.
    pub(super) fn close(self) -> Result<(), Error> {
        match self {
            Self::AtHand(it) => Ok(it.close()?),
            Self::Network(_) | Self::Socket(_) => Ok(()),
        }
    }
}

/// A part of a query.
pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

impl Network {
    fn to(url: &str) -> Result<Self, Error> {
        let base = url.trim_end_matches('/').trim_end_matches(API).to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(Error::Usage(format!("`{url}` is no URL that begins with http or https")));
        }
        let key = match variable("KEYWARD_KEY_FILE") {
            Some(path) => fs::read_to_string(&path)
                .map_err(|source| Error::File { path: path.into(), source })?,
            None => variable("KEYWARD_KEY").ok_or(Error::NoKey)?,
        };
        let key = Zeroizing::new(key);
        let key = Zeroizing::new(key.trim().to_owned());
        let agent = agent()?;
        Ok(Self { agent, base, key })
    }

    fn send(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
    ) -> Result<socket::Answer, Error> {
        let unreachable = |source| Error::Unreachable { url: self.base.clone(), source };
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
        let body = answer.body_mut().read_to_vec().map_err(unreachable)?;
        Ok((answer.status().as_u16(), body.into()))
    }
}

fn agent() -> Result<Agent, Error> {
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
        .http_status_as_error(false)
        .max_redirects(0) // The key is for this server and no other.
        .timeout_global(Some(PATIENCE))
        .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent())
}

/// The status that a server answers to whoever has no key.
pub(super) fn reach(url: &str, path: &str) -> Result<u16, Error> {
    let url = url.trim_end_matches('/').trim_end_matches(API);
    let unreachable = |source| Error::Unreachable { url: url.to_owned(), source };
    let answer = agent()?.get(format!("{url}{path}")).call().map_err(unreachable)?;
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
        return Err(io::Error::other("there is no certificate in it"));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// What a problem document says, in a line, and each fault in one more.
pub(super) fn refusal(status: u16, body: &[u8]) -> Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |of: &Value, member: &str| of[member].as_str().unwrap_or_default().to_owned();
    let mut says = match text(&problem, "detail") {
        it if it.is_empty() => format!("status {status}"),
        it => it,
    };
    for fault in problem["errors"].as_array().into_iter().flatten() {
        let (pointer, detail) = (text(fault, "pointer"), text(fault, "detail"));
        says = format!("{says}\n  {}: {detail}", pointer.trim_start_matches('/'));
    }
    match status {
        401 | 403 => Error::Denied(says),
        503 => Error::Busy(says),
        _ => Error::Refused(says),
    }
}
