//! Webhooks as a setting: a `[[webhooks]]` section for each.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use ureq::http::Uri;

use super::{
    faults::{nearest, quoted},
    read::{self, Raw},
    settings::text,
    toml_text::TomlText,
};
use crate::domain::{event::EventType, network::is_public, webhook::EventPattern};

pub(super) const WEBHOOKS: &str = "webhooks";

const FIELDS: [&str; 6] = ["name", "url", "events", "secret_file", "allow_private", "timeout"];
const LONGEST_NAME: usize = 40;
const MOST: usize = 32;

/// A webhook. Its name is unique.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSetting {
    pub name: String,
    pub url: String,
    pub events: Vec<EventPattern>,
    /// The file of the secrets. `None` means a credential of the service.
    pub secret_file: Option<PathBuf>,
    /// Whether the receiver may have an address that is not public, and may use plain HTTP.
    pub allow_private: bool,
    /// How long one attempt may take. Whole seconds.
    pub timeout: Duration,
}

impl WebhookSetting {
    /// How long an attempt may take unless the configuration says otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(20);

    pub(super) fn to_toml(&self) -> String {
        let mut lines = vec![format!("\n[[{WEBHOOKS}]]"), format!("name = {}", text(&self.name))];
        lines.push(format!("url = {}", text(&self.url)));
        let events: Vec<_> = self.events.iter().map(|it| text(it.as_str())).collect();
        lines.push(format!("events = [{}]", events.join(", ")));
        if let Some(path) = &self.secret_file {
            lines.push(format!("secret_file = {}", text(&path.to_string_lossy())));
        }
        lines.push(format!("allow_private = {}", self.allow_private));
        lines.push(format!("timeout = {}", text(&read::duration_text(self.timeout))));
        lines.join("\n")
    }

    /// Whether the receiver is on this machine.
    pub fn is_local(&self) -> bool {
        let uri: Option<Uri> = self.url.parse().ok();
        let host = uri.as_ref().and_then(|it| it.host()).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        address.map_or(host == "localhost", |it| it.to_canonical().is_loopback())
    }

    fn set(&mut self, field: &str, raw: Raw<'_>) -> Result<(), String> {
        match field {
            "name" => self.name = name(raw)?,
            "url" => self.url = url(raw)?,
            "events" => self.events = patterns(raw)?,
            "secret_file" => self.secret_file = read::optional_file(raw)?,
            "allow_private" => self.allow_private = read::boolean(raw)?,
            _ => {
                self.timeout =
                    read::duration(raw, Duration::from_secs(1)..=Duration::from_mins(1))?;
            }
        }
        Ok(())
    }

    /// Returns what is wrong with the fields together.
    fn conflict(&self) -> Option<String> {
        let uri: Uri = self.url.parse().ok()?;
        let host = uri.host()?.trim_matches(['[', ']']);
        if self.allow_private {
            None
        } else if uri.scheme_str() == Some("http") {
            Some("must begin with `https`; plain `http` needs `allow_private = true`".to_owned())
        } else if host.parse::<IpAddr>().is_ok_and(|it| !is_public(it)) {
            Some("is at a private address; that needs `allow_private = true`".to_owned())
        } else {
            None
        }
    }
}

/// Reads every section, and adds the faults to the text.
pub(super) fn read(text: &mut TomlText<'_>, value: &Spanned<DeValue<'_>>) -> Vec<WebhookSetting> {
    let mut webhooks: Vec<WebhookSetting> = Vec::new();
    let Some(sections) = value.get_ref().as_array() else {
        text.fault(value.span().start, format!("`{WEBHOOKS}` must be `[[{WEBHOOKS}]]` sections"));
        return webhooks;
    };
    for section in sections {
        let at = section.span().start;
        let Some(table) = section.get_ref().as_table() else {
            text.fault(at, format!("`{WEBHOOKS}` must be `[[{WEBHOOKS}]]` sections"));
            continue;
        };
        let webhook = read_one(text, at, table);
        if !webhook.name.is_empty() && webhooks.iter().any(|it| it.name == webhook.name) {
            text.fault(at, format!("there is already a webhook `{}`", webhook.name));
        }
        webhooks.push(webhook);
        if webhooks.len() == MOST + 1 {
            text.fault(at, format!("there may be at most {MOST} webhooks"));
        }
    }
    webhooks
}

fn read_one(text: &mut TomlText<'_>, at: usize, table: &DeTable<'_>) -> WebhookSetting {
    let mut webhook = WebhookSetting {
        name: String::new(),
        url: String::new(),
        events: Vec::new(),
        secret_file: None,
        allow_private: false,
        timeout: WebhookSetting::TIMEOUT,
    };
    let mut url_at = at;
    for (key, value) in table {
        let given: &str = key.get_ref();
        let Some(field) = FIELDS.into_iter().find(|it| *it == given) else {
            let hint = nearest(given, FIELDS.into_iter()).map_or_else(
                || format!("; known here: {}", FIELDS.join(", ")),
                |near| format!("; did you mean `{near}`?"),
            );
            let message = format!("unknown {} in `{WEBHOOKS}`{hint}", quoted(given));
            text.fault(key.span().start, message);
            continue;
        };
        let value_at = value.span().start;
        if field == "url" {
            url_at = value_at;
        }
        if let Err(why) = webhook.set(field, Raw::Toml(value.get_ref())) {
            text.fault(value_at, format!("`{WEBHOOKS}.{field}` {why}"));
        }
    }
    for field in ["name", "url", "events"].into_iter().filter(|it| !table.contains_key(*it)) {
        text.fault(at, format!("`{WEBHOOKS}` needs `{field}`"));
    }
    if let Some(why) = webhook.conflict() {
        text.fault(url_at, format!("`{WEBHOOKS}.url` {why}"));
    }
    webhook
}

fn name(raw: Raw<'_>) -> Result<String, String> {
    let what = format!("1 to {LONGEST_NAME} lower-case letters, digits and hyphens");
    let text = raw.text(&what)?;
    let fits = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    if text.is_empty() || LONGEST_NAME < text.len() || !text.bytes().all(fits) {
        return Err(format!("must be {what}, not {}", quoted(text)));
    }
    Ok(text.to_owned())
}

/// Reads a URL. A message never repeats it, because it may hold a secret.
fn url(raw: Raw<'_>) -> Result<String, String> {
    const WHAT: &str = "a URL such as \"https://example.com/hook\", without a user or a fragment";
    let Ok(text) = raw.text(WHAT) else { return Err(format!("must be {WHAT}")) };
    let uri: Option<Uri> = text.parse().ok().filter(|_| !text.contains('#'));
    let sound = uri.as_ref().is_some_and(|it| {
        let has_user = it.authority().is_some_and(|it| it.as_str().contains('@'));
        let is_http = matches!(it.scheme_str(), Some("http" | "https"));
        is_http && !has_user && it.host().is_some_and(|it| !it.is_empty())
    });
    if sound { Ok(text.to_owned()) } else { Err(format!("must be {WHAT}")) }
}

fn patterns(raw: Raw<'_>) -> Result<Vec<EventPattern>, String> {
    let texts = read::texts(raw)?;
    if texts.is_empty() {
        return Err("must name at least one type of event, such as \"api_key.*\"".to_owned());
    }
    let read = |it: &String| {
        EventPattern::parse(it).ok_or_else(|| {
            let types = EventType::ALL.iter().map(|it| it.as_str());
            let hint = nearest(it, types)
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!(
                "must be types of events, such as `account.created`, `api_key.*` or `*`, not {}{hint}",
                quoted(it)
            )
        })
    };
    texts.iter().map(read).collect()
}
