//! Checks of the files that the configuration names.

use super::{DataDir, Error, KeyPair, load_policy, root_key_file, webhook_secrets::webhook_faults};
use crate::{
    config::Config,
    domain::{policy::Policy, scope::Catalogue},
    service::Keyward,
    telemetry::Metrics,
};

/// Returns the scopes of the configuration and keyward's own.
pub fn catalogue(config: &Config) -> Catalogue {
    Catalogue::new(config.scopes.iter().map(|it| (it.name.clone(), it.description.clone())))
}

/// Checks the policy, the certificate, the secrets of webhooks and the root key that the configuration
/// names, and the path of the data directory.
pub fn check_files(config: &Config) -> Result<(), Error> {
    file_faults(config).into_iter().next().map_or(Ok(()), Err)
}

/// Returns every fault that [`check_files`] finds.
pub fn file_faults(config: &Config) -> Vec<Error> {
    let faults = [
        DataDir::check(&config.data_dir).err().map(Error::from),
        configured_policy(config, &catalogue(config)).err(),
        KeyPair::load(&config.tls).err().map(Error::from),
        root_key_file::fault(config).map(Error::from),
    ];
    faults.into_iter().flatten().chain(webhook_faults(config).map(Error::from)).collect()
}

/// Loads the route policy. Returns `None` if the configuration names no file.
pub(super) fn configured_policy(
    config: &Config,
    catalogue: &Catalogue,
) -> Result<Option<Policy>, Error> {
    let file = config.authz.policy_file.as_deref();
    Ok(file.map(|it| load_policy(it, catalogue)).transpose()?.map(|it| it.policy))
}

/// Reports in the log and in the metrics that a certificate has expired or will expire soon.
pub(super) fn report_certificate(pair: Option<&KeyPair>, app: &Keyward, metrics: &Metrics) {
    let Some(pair) = pair else { return };
    metrics.set_certificate_end(pair.not_after);
    if let Some(warning) = pair.expiry_warning(app.env().time.now()) {
        tracing::warn!("{warning}");
    }
}
