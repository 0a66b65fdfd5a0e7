//! The webhooks of the configuration, with their secrets.

use std::{io, path::PathBuf, str};

use super::secret_file::SecretFile;
use crate::{
    config::{Config, WebhookSetting},
    domain::webhook_secret::{InvalidSecret, WebhookSecret},
    service::Webhook,
};

/// Longer than a file with many secrets, in bytes.
const LONGEST: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error(
        "the webhook `{name}` has no `secret_file`, and the service has no credential \
         `webhook-{name}.secret`"
    )]
    NoSecretFile { name: String },
    #[error("{path}, the secret of the webhook `{name}`, cannot be read")]
    File { name: String, path: PathBuf, source: io::Error },
    #[error("{path} can be read by other users; allow its owner, or its group, only (chmod 640)")]
    Exposed { path: PathBuf },
    #[error("{path}:{line}: {source}")]
    Secret { path: PathBuf, line: usize, source: InvalidSecret },
    #[error("{path} has no secret; write one line with `whsec_` and the base64 of 32 random bytes")]
    Empty { path: PathBuf },
    #[error("the deliveries cannot be started")]
    Start(#[source] io::Error),
}

/// Returns the webhooks of the configuration.
pub(super) fn configured_webhooks(config: &Config) -> Result<Vec<Webhook>, WebhookError> {
    config.webhooks.iter().map(with_secrets).collect()
}

/// Returns every fault in the files of secrets. Only the service itself knows its credentials, so a
/// webhook without a file has no fault here, and is refused at the start.
pub(super) fn webhook_faults(config: &Config) -> impl Iterator<Item = WebhookError> {
    let with_file = config.webhooks.iter().filter(|it| it.secret_file.is_some());
    with_file.filter_map(|it| with_secrets(it).err())
}

fn with_secrets(setting: &WebhookSetting) -> Result<Webhook, WebhookError> {
    Ok(Webhook {
        name: setting.name.clone(),
        url: setting.url.clone(),
        secrets: read_secrets(setting)?,
        events: setting.events.clone(),
        allow_private: setting.allow_private,
        timeout: setting.timeout,
    })
}

/// Reads the secrets of a file, one on each line.
fn read_secrets(setting: &WebhookSetting) -> Result<Vec<WebhookSecret>, WebhookError> {
    let name = || setting.name.clone();
    let path =
        setting.secret_file.clone().ok_or_else(|| WebhookError::NoSecretFile { name: name() })?;
    let unreadable = |source| WebhookError::File { name: name(), path: path.clone(), source };
    let file = SecretFile::open(&path).map_err(unreadable)?;
    if file.is_exposed().map_err(unreadable)? {
        return Err(WebhookError::Exposed { path });
    }
    let text = file.read(LONGEST).map_err(unreadable)?;
    let invalid = |err| unreadable(io::Error::new(io::ErrorKind::InvalidData, err));
    let text = str::from_utf8(&text).map_err(invalid)?;
    let mut secrets = Vec::new();
    for (place, line) in text.lines().map(str::trim).enumerate().filter(|(_, it)| !it.is_empty()) {
        let secret = WebhookSecret::parse(line).map_err(|source| {
            let (path, line) = (path.clone(), place + 1);
            WebhookError::Secret { path, line, source }
        })?;
        secrets.push(secret);
    }
    if secrets.is_empty() { Err(WebhookError::Empty { path }) } else { Ok(secrets) }
}
