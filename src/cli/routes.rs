//! `keyward routes`: the route policy, without a server.

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
        request_path::RequestPath,
        scope::Catalogue,
    },
    server::{self, PolicyError, PolicyFile},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the policy; print every mistake, and exit 3 if there is one
    Check(Check),
    /// Show which route decides about a request and what it needs; exit 3 if it is refused
    Test(Test),
}

impl Command {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        match self {
            Self::Check(it) => check(it),
            Self::Test(it) => test(it),
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
    place: Location,
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
    /// The policy file. Without it, the configured one
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Location,
}

/// The policy in question, where it stands, and the scopes that there are.
struct Found {
    file: PathBuf,
    catalogue: Catalogue,
    policy: Result<PolicyFile, PolicyError>,
}

fn check(arguments: &Check) -> Result<ExitCode, Error> {
    let found = find(arguments.file.as_ref(), &arguments.place)?;
    let as_json = arguments.output.output == Format::Json;
    let mut out = io::stdout().lock();
    let (routes, faults) = match found.policy {
        Ok(it) => (Some(it.policy.len()), ConfigErrors(Vec::new())),
        Err(PolicyError::Faults(faults)) => (None, faults),
        Err(err @ PolicyError::File { .. }) => return Err(server::Error::from(err).into()),
    };
    if as_json {
        let list = output::faults(&faults);
        let says = json!({
            "sound": routes.is_some(), "file": found.file, "routes": routes, "faults": list,
        });
        writeln!(out, "{says}")?;
    } else if let Some(count) = routes {
        writeln!(out, "{}: sound; {count} routes", found.file.display())?;
    } else {
        writeln!(out, "{faults}")?;
    }
    Ok(exit_code::answer(routes.is_some()))
}

fn test(arguments: &Test) -> Result<ExitCode, Error> {
    let Found { file, catalogue, policy } = find(arguments.file.as_ref(), &arguments.place)?;
    let PolicyFile { policy, routes } = policy.map_err(server::Error::from)?;
    let as_json = arguments.output.output == Format::Json;
    let mut out = io::stdout().lock();
    let mut refuse = |code: &str, why: &str| {
        if as_json {
            writeln!(out, "{}", json!({ "refused": code, "detail": why }))?;
        } else {
            writeln!(out, "refused: {why} (403 {code})")?;
        }
        Ok(exit_code::answer(false))
    };
    let path = match RequestPath::parse(arguments.path.as_bytes()) {
        Ok(path) => path,
        Err(why) => return refuse("ambiguous_path", &why.to_string()),
    };
    let found = policy.find(&arguments.method, arguments.host.as_deref(), &path);
    let (place, route) = match found {
        Ok(found) => found,
        Err(Undecided::NoRoute) => return refuse("no_route", "no route matches"),
        Err(Undecided::NoHost) => {
            let why = "the policy has routes for certain hosts; name the host with --host";
            return refuse("authz_misconfigured", why);
        }
    };
    let (line, name) = routes.get(place).map_or((0, ""), |it| (it.line, it.name.as_str()));
    if as_json {
        let (public, optional, need) = match route.access {
            Access::Public => (true, false, RequiredScopes::default()),
            Access::Optional(need) => (false, true, need),
            Access::Key(need) => (false, false, need),
        };
        let names = |bits| catalogue.names(bits).collect::<Vec<_>>();
        let says = json!({
            "refused": null, "route": place + 1, "name": name, "file": file, "line": line,
            "public": public, "optional": optional, "scopes": names(need.all), "anyOf": names(need.any),
        });
        writeln!(out, "{says}")?;
        return Ok(exit_code::answer(true));
    }
    let name = if name.is_empty() { String::new() } else { format!(", {name}") };
    writeln!(out, "route {}{name} ({}:{line})", place + 1, file.display())?;
    writeln!(out, "{}", needs(route.access, &catalogue))?;
    Ok(exit_code::answer(true))
}

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

fn find(file: Option<&PathBuf>, place: &Location) -> Result<Found, Error> {
    let config = settings::load(place)?;
    let file = file.cloned().or_else(|| config.authz.policy_file.clone()).ok_or(Error::NoPolicy)?;
    let catalogue = server::catalogue(&config);
    let policy = server::load_policy(&file, &catalogue);
    Ok(Found { file, catalogue, policy })
}
