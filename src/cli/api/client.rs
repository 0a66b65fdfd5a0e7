//! The client of the API that commands use.

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    answer::{API, Lines, parse, refusal},
    machine::Machine,
    network::Network,
};
use crate::{
    cli::{
        error::Error,
        settings::{self, Location, variable},
    },
    config::Config,
};

/// The most elements that the API answers at once.
const LARGEST_PAGE: usize = 1000;

/// The options that choose the keyward of a command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Target {
    /// Use this server, with the key in `KEYWARD_KEY` or in the file that `KEYWARD_KEY_FILE` names;
    /// also `KEYWARD_URL`. Without it, use the server of the data directory, or its database
    #[arg(long, value_name = "URL", conflicts_with_all = ["data_dir", "config"])]
    url: Option<String>,
    #[command(flatten)]
    pub(crate) location: Location,
}

impl Target {
    /// Returns the URL of a server on the network, if one is meant. The flag overrides the variable.
    pub(crate) fn url(&self) -> Option<String> {
        let from_variable = || variable("KEYWARD_URL").filter(|_| !self.location.is_named());
        self.url.clone().or_else(from_variable)
    }

    pub(crate) fn config(&self) -> Result<Config, Error> {
        settings::load(&self.location)
    }

    pub(crate) fn open(&self) -> Result<Client, Error> {
        match self.url() {
            Some(url) => Network::to(&url).map(Client::Network),
            None => Machine::open(&self.config()?).map(Client::Machine),
        }
    }

    /// Sends one request to the API and returns the body of the answer; `path` follows `/api/v1`.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let client = self.open()?;
        let answer = client.ask(method, path, body)?;
        client.close()?;
        Ok(answer)
    }
}

/// A way to the API of a keyward.
pub(crate) enum Client {
    Network(Network),
    Machine(Machine),
}

impl Client {
    /// Sends a request to the API and returns the body of the answer; `target` follows `/api/v1`.
    pub(crate) fn ask(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let target = format!("{API}{target}");
        let body = body.map(|it| Zeroizing::new(it.to_string().into_bytes()));
        let body = body.as_ref().map(|it| it.as_slice());
        let (status, answer) = match self {
            Self::Network(it) => it.send(method, &target, body),
            Self::Machine(it) => it.send(method, &target, body),
        }?;
        if (200..300).contains(&status) { Ok(answer) } else { Err(refusal(status, &answer)) }
    }

    /// As [`Client::ask`], and parses the answer.
    pub(crate) fn ask_for<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Result<T, Error> {
        parse(&self.ask(method, target, body)?)
    }

    /// Opens a stream. Returns the status of the answer, and its lines as they come.
    pub(crate) fn stream(&self, target: &str) -> Result<(u16, Lines), Error> {
        let target = format!("{API}{target}");
        match self {
            Self::Network(it) => it.stream(&target),
            Self::Machine(it) => it.stream(&target),
        }
    }

    /// Returns every element of a list. `target` has a query already.
    pub(crate) fn list(&self, target: &str) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        self.pages(target, |page| {
            all.extend(page);
            Ok(true)
        })?;
        Ok(all)
    }

    /// Returns the first elements of a list, at most `most`. More query parameters can follow
    /// `target`.
    pub(crate) fn first(&self, target: &str, most: usize) -> Result<Vec<Value>, Error> {
        let mut found = Vec::new();
        self.pages(&format!("{target}limit={}", most.min(LARGEST_PAGE)), |page| {
            found.extend(page);
            Ok(found.len() < most)
        })?;
        found.truncate(most);
        Ok(found)
    }

    /// Passes a list to `take` page by page, so that it need not fit into memory, until `take` returns
    /// false.
    pub(crate) fn pages(
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

    /// Ends the server inside this process, if there is one. Its database is complete only after that.
    pub(crate) fn close(self) -> Result<(), Error> {
        match self {
            Self::Network(_) => Ok(()),
            Self::Machine(it) => it.close(),
        }
    }
}

/// Encodes a part of a query.
pub(crate) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
