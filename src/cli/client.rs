//! How commands reach the API: over the network, through the control socket of the running server,
//! or, when none runs, through that of a server inside this very process.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    cli::{Error, Location, config, control, network::Network, socket, variable},
    config::Config,
    server::{Backend, InProcessServer},
};

pub(super) const API: &str = "/api/v1";
/// As many elements as the API answers at once.
const LARGEST_PAGE: usize = 1000;

/// An answer as it comes, line by line, until the connection is over.
pub(super) type Lines = Box<dyn Iterator<Item = String>>;

/// Which keyward is asked.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Target {
    /// Ask this server, with the key in `KEYWARD_KEY` or in the file that `KEYWARD_KEY_FILE` names;
    /// also `KEYWARD_URL`. Without it, the server of the data directory or its database
    #[arg(long, value_name = "URL", conflicts_with_all = ["data_dir", "config"])]
    url: Option<String>,
    #[command(flatten)]
    pub(super) place: Location,
}

/// A keyward that can be asked.
pub(super) enum Client {
    Network(Network),
    Socket(PathBuf),
    InProcessServer(InProcessServer),
}

impl Target {
    /// The server on the network, if one is meant: a flag wins over the variable.
    pub(super) fn url(&self) -> Option<String> {
        let here = self.place.data_dir.is_some() || self.place.config.is_some();
        let from_variable = || variable("KEYWARD_URL").filter(|_| !here);
        self.url.clone().or_else(from_variable)
    }

    pub(super) fn config(&self) -> Result<Config, Error> {
        config::load(&self.place)
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
        config::database(&config.data_dir)?;
        match control::open_or_connect(config)? {
            Backend::Local(instance) => {
                Ok(Self::InProcessServer(InProcessServer::start(instance)?))
            }
            Backend::Server(socket) => Ok(Self::Socket(socket)),
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
        let unanswered = |err| {
            if socket::is_silence(&err) {
                return Error::Silent { patience: socket::PATIENCE };
            }
            Error::Control(err)
        };
        let (status, answer) = match self {
            Self::Network(it) => it.send(method, &target, body)?,
            Self::Socket(path) => socket::send(path, method, &target, body).map_err(unanswered)?,
            Self::InProcessServer(it) => {
                socket::send(&it.socket(), method, &target, body).map_err(unanswered)?
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
            Self::InProcessServer(it) => it.socket(),
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

    /// Asks for an answer that has no end. Its status, and its lines as they come.
    pub(super) fn stream(&self, target: &str) -> Result<(u16, Lines), Error> {
        let target = format!("{API}{target}");
        let here = |socket: &Path| socket::get(socket, &target).map_err(Error::Control);
        match self {
            Self::Network(it) => it.stream(&target),
            Self::Socket(path) => here(path),
            Self::InProcessServer(it) => here(&it.socket()),
        }
    }

    /// Every element of a list. `target` has a query already.
    pub(super) fn list(&self, target: &str) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        self.pages(target, |page| {
            all.extend(page);
            Ok(true)
        })?;
        Ok(all)
    }

    /// The first elements of a list, at most `most`. `target` ends where its query can go on.
    pub(super) fn first(&self, target: &str, most: usize) -> Result<Vec<Value>, Error> {
        let mut found = Vec::new();
        self.pages(&format!("{target}limit={}", most.min(LARGEST_PAGE)), |page| {
            found.extend(page);
            Ok(found.len() < most)
        })?;
        found.truncate(most);
        Ok(found)
    }

    /// Hands a list over page by page, for lists that need not fit into memory, until `take` says
    /// that it wants no more.
    pub(super) fn pages(
        &self,
        target: &str,
        mut take: impl FnMut(Vec<Value>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut cursor = String::new();
        loop {
            let mut page: Value = self.ask_for("GET", &format!("{target}{cursor}"), None)?;
            if let Value::Array(data) = page["data"].take()
                && !take(data)?
            {
                return Ok(());
            }
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", encoded(next)),
                None => return Ok(()),
            }
        }
    }

    /// To be called when everything went well: a database at hand is complete only then.
    pub(super) fn close(self) -> Result<(), Error> {
        match self {
            Self::InProcessServer(it) => Ok(it.close()?),
            Self::Network(_) | Self::Socket(_) => Ok(()),
        }
    }
}

/// A part of a query.
pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
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
        404 => Error::Absent(says),
        503 => Error::Busy(says),
        _ => Error::Refused(says),
    }
}
