//! Console links on the wire.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{plaintext_key::PlaintextKey, scope::Catalogue},
    http::{
        request::json::Members,
        wire::{
            fields::{read_name, read_number, read_scopes},
            keys::ApiKeyBody,
        },
    },
    service::{ConsoleLinkDraft, Faults, KeyView, Keyward},
};

/// A link to the console for the holder of an account.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsoleLink)]
pub struct ConsoleLinkBody {
    /// The address of the console, with the full key in its fragment. Send it only to the holder of the
    /// account.
    #[schema(
        example = "https://keys.example.com/console/#key=rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK"
    )]
    url: String,
    /// The instant from which the link is refused.
    #[schema(format = DateTime, example = "2026-01-20T10:15:00.000Z")]
    expires_at: String,
    /// The key of the link, without the full key.
    api_key: ApiKeyBody,
}

/// The options of a console link.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CreateConsoleLinkRequest {
    /// The display name of the link's key. Defaults to `Console link`.
    #[schema(nullable = false, example = "Console link", min_length = 1, max_length = 100)]
    pub name: Option<String>,
    /// The scopes of the link, which are also the most that its holder can give to a key. They must be
    /// allowed in the account. Defaults to those of the first key of an account. `api-keys:rotate` is
    /// always added.
    #[schema(nullable = false, example = json!(["api-keys:read", "api-keys:write", "orders:read"]), min_items = 1)]
    pub scopes: Option<Vec<String>>,
    /// The number of seconds after which the link is refused. Defaults to the server's setting, 900 unless
    /// changed. A link never outlives the key that makes it.
    #[schema(nullable = false, minimum = 60, maximum = 86_400, example = 900)]
    pub expires_in: Option<u32>,
}

impl ConsoleLinkBody {
    /// The link at the server with this URL.
    pub fn new(app: &Keyward, server: &str, view: &KeyView, plaintext: &PlaintextKey) -> Self {
        let end = view.key.expires_at.map(|it| it.to_string());
        Self {
            url: format!("{server}/console/#key={}", plaintext.expose()),
            expires_at: end.unwrap_or_default(),
            api_key: ApiKeyBody::new(app, view, None),
        }
    }
}

/// Reads a [`CreateConsoleLinkRequest`].
pub fn read_console_link(
    mut members: Members,
    catalogue: &Catalogue,
) -> Result<ConsoleLinkDraft, Faults> {
    let lifetimes = Keyward::SHORTEST_LINK.as_secs()..=Keyward::LONGEST_LINK.as_secs();
    let draft = ConsoleLinkDraft {
        name: read_name(&mut members),
        scopes: members.optional("scopes", |it: Vec<_>| read_scopes(&it, catalogue, None)),
        lifetime: members
            .optional("expiresIn", |it| read_number(it, &lifetimes))
            .map(Duration::from_secs),
    };
    members.finish(Some(draft))
}
