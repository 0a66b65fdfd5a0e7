//! `keyward routes`: the route policy, without a server.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use crate::{
    cli::{Error, NO, Settings, config},
    domain::{policy::Access, request_path::RequestPath, scope::Catalogue},
    server::{self, PolicyError, PolicyFile},
};

#[derive(Args, Debug)]
pub(super) struct Check {
    /// The policy; without it, that of the configuration
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args, Debug)]
pub(super) struct Test {
    /// GET, POST and so on
    method: String,
    /// The path as a client sends it, such as /orders/7
    path: String,
    /// The host that the request is for
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The policy; without it, that of the configuration
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// The policy in question, where it stands, and the scopes that there are.
struct Found {
    file: PathBuf,
    catalogue: Catalogue,
    policy: Result<PolicyFile, PolicyError>,
}

pub(super) fn check(arguments: &Check) -> Result<ExitCode, Error> {
    let found = find(arguments.file.as_ref(), &arguments.settings)?;
    let mut out = io::stdout().lock();
    match found.policy {
        Ok(it) => {
            let count = it.policy.len();
            writeln!(out, "{}: sound; {count} routes", found.file.display())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(PolicyError::Faults(faults)) => {
            writeln!(out, "{faults}")?;
            Ok(ExitCode::from(NO))
        }
        Err(err @ PolicyError::File { .. }) => Err(server::Error::from(err).into()),
    }
}

pub(super) fn test(arguments: &Test) -> Result<ExitCode, Error> {
    let Found { file, catalogue, policy } = find(arguments.file.as_ref(), &arguments.settings)?;
    let PolicyFile { policy, routes } = policy.map_err(server::Error::from)?;
    let mut out = io::stdout().lock();
    let path = match RequestPath::parse(arguments.path.as_bytes()) {
        Ok(path) => path,
        Err(why) => {
            writeln!(out, "refused: {why} (403 ambiguous_path)")?;
            return Ok(ExitCode::from(NO));
        }
    };
    let Some((place, route)) = policy.find(&arguments.method, arguments.host.as_deref(), &path)
    else {
        writeln!(out, "refused: no route matches (403 no_route)")?;
        return Ok(ExitCode::from(NO));
    };
    let (line, name) = routes.get(place).map_or((0, ""), |it| (it.line, it.name.as_str()));
    let name = if name.is_empty() { String::new() } else { format!(", {name}") };
    writeln!(out, "route {}{name} ({}:{line})", place + 1, file.display())?;
    writeln!(out, "{}", needs(route.access, &catalogue))?;
    Ok(ExitCode::SUCCESS)
}

fn needs(access: Access, catalogue: &Catalogue) -> String {
    let list = |bits, word: &str| catalogue.names(bits).collect::<Vec<_>>().join(word);
    let Access::Key(need) = access else { return "passes without a key".to_owned() };
    let all = list(need.all, " and ");
    let any = list(need.any, " or ");
    match (all.as_str(), any.as_str()) {
        ("", "") => "needs any accepted key".to_owned(),
        (all, "") => format!("needs {all}"),
        ("", any) => format!("needs {any}"),
        (all, any) => format!("needs {all}, and {any}"),
    }
}

fn find(file: Option<&PathBuf>, settings: &Settings) -> Result<Found, Error> {
    let config = config::load(settings)?;
    let file = file.cloned().or_else(|| config.authz.policy_file.clone()).ok_or(Error::NoPolicy)?;
    let catalogue = server::catalogue(&config);
    let policy = server::load_policy(&file, &catalogue);
    Ok(Found { file, catalogue, policy })
}
