//! `keyward routes`: checks and tries out the route policy, without a server.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    cli::{
        error::Error,
        exit_code,
        output::{self, Format, Output},
        settings::{self, Location},
    },
    config::ConfigErrors,
    domain::{
        policy::{Access, RequiredScopes, Undecided},
        request_path::{Ambiguity, RequestPath, check_method},
        scope::Catalogue,
    },
    server::{self, PolicyError, PolicyFile},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the policy; print every mistake, and exit 3 if there is one
    Check(Check),
    /// Show which route applies to a request and what it needs; exit 3 if the request is refused
    Test(Test),
}

impl Command {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        match self {
            Self::Check(it) => it.run(),
            Self::Test(it) => it.run(),
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct Check {
    /// The policy file. Without it, the configured one
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

#[derive(Args, Debug)]
pub(super) struct Test {
    /// The method, such as GET
    method: String,
    /// The path as a client sends it, such as /orders/7
    path: String,
    /// The host of the request
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    policy: Check,
}

/// The policy, its file, and the known scopes.
struct Found {
    file: PathBuf,
    catalogue: Catalogue,
    policy: Result<PolicyFile, PolicyError>,
}

impl Check {
    fn run(&self) -> Result<ExitCode, Error> {
        let found = self.find()?;
        let (routes, faults) = match found.policy {
            Ok(it) => (Some(it.policy.len()), ConfigErrors(Vec::new())),
            Err(PolicyError::Faults(faults)) => (None, faults),
            Err(err @ PolicyError::File { .. }) => return Err(server::Error::from(err).into()),
        };
        let mut out = io::stdout();
        if self.output.output == Format::Json {
            output::json(&json!({
                "sound": routes.is_some(), "file": found.file, "routes": routes,
                "faults": output::faults(&faults),
            }))?;
        } else if let Some(count) = routes {
            writeln!(out, "{}: sound; {count} routes", found.file.display())?;
        } else {
            writeln!(out, "{faults}")?;
        }
        Ok(exit_code::answer(routes.is_some()))
    }

    fn find(&self) -> Result<Found, Error> {
        let config = settings::load(&self.location)?;
        let file = self.file.clone().or_else(|| config.authz.policy_file.clone());
        let file = file.ok_or(Error::NoPolicy)?;
        let catalogue = server::catalogue(&config);
        let policy = server::load_policy(&file, &catalogue);
        Ok(Found { file, catalogue, policy })
    }
}

impl Test {
    fn run(&self) -> Result<ExitCode, Error> {
        let Found { file, catalogue, policy } = self.policy.find()?;
        let PolicyFile { policy, routes } = policy.map_err(server::Error::from)?;
        let path = RequestPath::parse(self.path.as_bytes());
        let path = match path.and_then(|it| check_method(&self.method).map(|()| it)) {
            Ok(path) => path,
            Err(why) => return self.refuse(why.code(), &why.to_string()),
        };
        let (index, route) = match policy.find(&self.method, self.host.as_deref(), &path) {
            Ok(found) => found,
            Err(Undecided::NoRoute) => return self.refuse("no_route", "no route matches"),
            Err(Undecided::OtherRoute) => {
                let why = Ambiguity::OtherRoute;
                return self.refuse(why.code(), &why.to_string());
            }
            Err(Undecided::NoHost) => {
                let why = "the policy has routes for certain hosts; name the host with --host";
                return self.refuse("authz_misconfigured", why);
            }
        };
        let (line, name) = routes.get(index).map_or((0, ""), |it| (it.line, it.rule.name.as_str()));
        let number = index + 1;
        if self.policy.output.output == Format::Json {
            let (public, optional, need) = match route.access {
                Access::Public => (true, false, RequiredScopes::default()),
                Access::Optional(need) => (false, true, need),
                Access::Key(need) => (false, false, need),
            };
            let names = |bits| catalogue.names(bits).collect::<Vec<_>>();
            output::json(&json!({
                "refused": null, "route": number, "name": name, "file": file, "line": line,
                "public": public, "optional": optional, "scopes": names(need.all),
                "anyOf": names(need.any),
            }))?;
        } else {
            let name = if name.is_empty() { String::new() } else { format!(", {name}") };
            let mut out = io::stdout();
            writeln!(out, "route {number}{name} ({}:{line})", file.display())?;
            writeln!(out, "{}", needs(route.access, &catalogue))?;
        }
        Ok(exit_code::answer(true))
    }

    fn refuse(&self, code: &str, why: &str) -> Result<ExitCode, Error> {
        if self.policy.output.output == Format::Json {
            output::json(&json!({ "refused": code, "detail": why }))?;
        } else {
            writeln!(io::stdout(), "refused: {why} (403 {code})")?;
        }
        Ok(exit_code::answer(false))
    }
}

/// Describes what a route needs.
fn needs(access: Access, catalogue: &Catalogue) -> String {
    let list = |bits, word: &str| catalogue.names(bits).collect::<Vec<_>>().join(word);
    let (need, before) = match access {
        Access::Public => return "passes without a key".to_owned(),
        Access::Optional(need) => (need, "passes without a key; a key that is presented "),
        Access::Key(need) => (need, ""),
    };
    let all = list(need.all, " and ");
    let any = list(need.any, " or ");
    let needs = match (all.as_str(), any.as_str()) {
        ("", "") if before.is_empty() => "any accepted key".to_owned(),
        ("", "") => "to be accepted".to_owned(),
        (all, "") => all.to_owned(),
        ("", any) => any.to_owned(),
        (all, any) => format!("{all}, and {any}"),
    };
    format!("{before}needs {needs}")
}
