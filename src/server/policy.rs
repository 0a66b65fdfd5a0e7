//! Loading the route policy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    config::{ConfigErrors, ConfigFile, Fault, RouteSetting, SettingSource},
    domain::{
        policy::{Policy, PolicyFault},
        scope::Catalogue,
    },
};

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("the route policy {path} cannot be read")]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Faults(#[from] ConfigErrors),
}

/// A policy with the lines of its routes.
#[derive(Debug)]
pub struct PolicyFile {
    pub policy: Policy,
    /// In the order of the policy.
    pub routes: Vec<RouteSetting>,
}

/// Reads and compiles the file.
///
/// # Errors
///
/// All faults of the file, each with its line.
pub fn load_policy(path: &Path, catalogue: &Catalogue) -> Result<PolicyFile, PolicyError> {
    let text = fs::read_to_string(path)
        .map_err(|source| PolicyError::File { path: path.to_owned(), source })?;
    let routes = RouteSetting::read(ConfigFile { path, text: &text })?;
    let rules: Vec<_> = routes.iter().map(|it| it.rule.clone()).collect();
    let compiled = Policy::compile(&rules, catalogue);
    let policy = compiled.map_err(|mut faults| {
        let line = |it: &PolicyFault| routes.get(it.route).map_or(1, |at| at.line_of(it.field));
        faults.sort_by_key(line);
        let placed = |fault: PolicyFault| {
            let setting = routes.get(fault.route);
            let origin = SettingSource::File { path: path.to_owned(), line: line(&fault) };
            let name = setting.map(|it| it.rule.name.as_str()).filter(|it| !it.is_empty());
            let name = name.map_or_else(String::new, |it| format!(" ({it})"));
            let PolicyFault { route, field, message } = fault;
            Fault { origin, message: format!("route {}{name}, {field}: {message}", route + 1) }
        };
        ConfigErrors(faults.into_iter().map(placed).collect())
    })?;
    Ok(PolicyFile { policy, routes })
}
