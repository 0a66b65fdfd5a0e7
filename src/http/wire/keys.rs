//! API keys on the wire.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    domain::{
        api_key::{ApiKey, KeyStatus, RequestedExpiry},
        lifetime::LONGEST_SECONDS,
        list_order::ListOrder,
        plaintext_key::PlaintextKey,
        scope::{Catalogue, ScopeSet},
    },
    env::Timestamp,
    http::{
        request::json::{Members, as_it_is},
        wire::fields::{
            MetadataBody, enum_body, read_instant, read_metadata, read_name, read_number,
            read_scopes, update_of,
        },
        wire::limits::{RateLimitBody, read_allowed_ips, read_rate_limit, shown_networks},
    },
    service::{
        Expiry, Faults, Gain, KeyPatch, KeyView, Keyward, NewKey, OPERATOR, PreviousCredential,
    },
};

/// An API key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub struct ApiKeyBody {
    /// The identifier of the key. It never changes.
    #[schema(example = "key_01KYq8Zt3mV5xW7aBcDeFg", pattern = "^key_[0-9A-Za-z]{22}$")]
    id: String,
    /// The display name.
    #[schema(example = "Production Integration", min_length = 1, max_length = 100)]
    name: String,
    /// The full key. Only the answers to create and rotate contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK")]
    key: Option<String>,
    /// The first 12 characters of the full key.
    #[schema(example = "rg_8fK2mQ9zT", min_length = 12, max_length = 12)]
    key_prefix: String,
    /// The granted scopes, each once, in the order of the catalogue.
    #[schema(example = json!(["orders:read", "products:read"]))]
    scopes: Vec<String>,
    /// The granted scopes that no accepted request required today or on the 29 days before (UTC), in the
    /// order of the catalogue. For a key that is younger, compare `createdAt`.
    #[schema(example = json!(["products:read"]))]
    unused_scopes: Vec<String>,
    /// When the key was created.
    #[schema(format = DateTime, example = "2026-01-20T10:00:00.000Z")]
    created_at: String,
    /// The instant from which the key is refused; `null` means never.
    #[schema(required, format = DateTime, example = "2099-01-20T00:00:00.000Z")]
    expires_at: Option<String>,
    /// When the key was last accepted; `null` means never.
    #[schema(required, format = DateTime, example = "2026-01-21T08:30:00.000Z")]
    last_used_at: Option<String>,
    /// The account that the key belongs to.
    #[schema(example = "acct_01KYq8Zt3mV5xW7aBcDeFg")]
    account_id: String,
    /// The status. `expiring` means that fewer than 7 days are left.
    status: StatusBody,
    /// A disabled key is refused until it is enabled again.
    #[schema(example = true)]
    enabled: bool,
    /// The key that created this key; `null` for a key that was created at the command line. An
    /// account sees `operator` in place of a key of the operator.
    #[schema(required, example = "key_01KYq8Zt3mV5xW7aBcDeFf")]
    created_by: Option<String>,
    /// When the settings of the key last changed.
    #[schema(format = DateTime, example = "2026-01-20T10:00:00.000Z")]
    updated_at: String,
    /// When the key was last rotated; `null` means never.
    #[schema(required, format = DateTime, example = "2026-01-20T10:00:00.000Z")]
    rotated_at: Option<String>,
    /// Earlier credentials that are still accepted, the oldest first.
    previous_keys: Vec<PreviousKeyBody>,
    /// The networks from which the key is accepted; `null` means all.
    #[schema(required, example = json!(["203.0.113.0/24", "2001:db8::/32"]))]
    allowed_ips: Option<Vec<String>>,
    /// The rate limit of this key; `null` means the default of its account.
    #[schema(required)]
    rate_limit: Option<RateLimitBody>,
    /// Whether this is the key of a console link. It cannot be changed, and is not counted by `maxKeys`.
    #[schema(example = false)]
    console_link: bool,
    /// Your own data. keyward stores and returns it but never reads it.
    #[schema(value_type = MetadataBody)]
    metadata: Value,
}

enum_body! {
    /// The status of a key.
    pub struct StatusBody(KeyStatus) as "KeyStatus";
}

/// An earlier credential of a key, in its grace period.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PreviousKey)]
pub struct PreviousKeyBody {
    /// The first 12 characters of the credential.
    #[schema(example = "rg_7Yd2kLm0P")]
    key_prefix: String,
    /// The instant from which the credential is refused.
    #[schema(format = DateTime, example = "2026-01-20T10:05:00.000Z")]
    valid_until: String,
    /// When the credential was last accepted; `null` means never.
    #[schema(required, format = DateTime, example = "2026-01-20T10:01:00.000Z")]
    last_used_at: Option<String>,
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKeyList)]
pub struct ApiKeyListBody {
    /// The keys of this page.
    pub data: Vec<ApiKeyBody>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
    /// The number of keys on all pages. Only the answer to a request with `total=true` contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, example = 1)]
    pub total: Option<u64>,
}

enum_body! {
    /// The order of a list by age: the oldest or the newest first.
    pub struct ListOrderBody(ListOrder) as "ListOrder";
}

/// The filters of a list of keys.
#[derive(IntoParams)]
#[into_params(rename_all = "camelCase", parameter_in = Query)]
pub struct KeyFilterQuery {
    /// Filter by status.
    pub status: Option<StatusBody>,
    /// Filter by scope.
    pub scope: Option<String>,
    /// Return only keys that were created before this instant and not used since.
    #[param(format = DateTime)]
    pub unused_since: Option<String>,
    /// Return only keys with `unusedScopes`. With `false`, return only keys without.
    pub unused_scopes: Option<bool>,
    /// Return only keys that expire before this instant.
    #[param(format = DateTime)]
    pub expiring_before: Option<String>,
    /// Return only keys whose name contains this text, or whose `keyPrefix` or `id` starts with it.
    pub q: Option<String>,
    /// Return only keys that this key created. `operator` means the keys of the operator account.
    pub created_by: Option<String>,
    /// The order by age. Defaults to `asc`, the oldest first. A cursor is valid only in its own order.
    pub order: Option<ListOrderBody>,
    /// Whether to return `total`. The server counts all matching keys, which costs time for each
    /// key. Ask for it once, with the first page.
    pub total: Option<bool>,
}

/// The settings of a new key.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CreateKeyRequest {
    /// The display name. It need not be unique.
    #[schema(example = "Production Integration", min_length = 1, max_length = 100)]
    pub name: String,
    /// All scopes of the key. The caller can add only scopes that it holds and that the account
    /// allows.
    #[schema(example = json!(["orders:read", "products:read"]), min_items = 1)]
    pub scopes: Vec<String>,
    /// The instant from which the key is refused; `null` means never. If it is left out, a new key
    /// gets the default lifetime of its account, and expires when the caller expires at the latest. A
    /// caller that expires cannot give a later instant or `null`. An account can have a maximum lifetime,
    /// which counts from the creation or the last rotation of the key.
    #[schema(format = DateTime, example = "2099-01-20T00:00:00Z")]
    pub expires_at: Option<String>,
    /// In place of `expiresAt`: the number of seconds from now after which the key is refused.
    #[schema(nullable = false, format = Int64, minimum = 1, maximum = 3_153_600_000_u32)]
    pub expires_in: Option<u32>,
    /// Whether the key is enabled. A disabled key is refused until it is enabled again. A new key is
    /// enabled by default.
    #[schema(nullable = false, example = true)]
    pub enabled: Option<bool>,
    /// The networks from which the key is accepted, IPv4 or IPv6; `null` means all. If it is left out,
    /// a new key gets the list of the caller. A caller with a list gives only lists within its own.
    #[schema(min_items = 1, max_items = 50, example = json!(["203.0.113.0/24", "2001:db8::/32"]))]
    pub allowed_ips: Option<Vec<String>>,
    /// The rate limit of this key. `null` means the default of its account, as for a new key without
    /// this member.
    pub rate_limit: Option<RateLimitBody>,
    /// All of your own data: at most 50 members and 4 KiB. `null` removes it.
    #[schema(value_type = Option<MetadataBody>)]
    pub metadata: Option<Value>,
}

/// The settings to change: the members of a [`CreateKeyRequest`].
pub struct UpdateKeyRequest;

impl PartialSchema for UpdateKeyRequest {
    fn schema() -> RefOr<Schema> {
        update_of::<CreateKeyRequest>().into()
    }
}

impl ToSchema for UpdateKeyRequest {}

/// The options of a rotation.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RotateKeyRequest {
    /// How long the old credential stays accepted, in seconds, but never beyond `expiresAt`. With 0,
    /// every earlier credential ends at once. Defaults to the server's setting, 300 unless changed.
    #[schema(nullable = false, minimum = 0, maximum = 604_800, example = 300)]
    pub grace_period_seconds: Option<i64>,
}

impl ApiKeyBody {
    /// As answers show a key; `plaintext` only right after it was made.
    pub fn new(app: &Keyward, view: &KeyView, plaintext: Option<&PlaintextKey>) -> Self {
        // Without `..`, so that the compiler leads here from a new field.
        let ApiKey {
            id,
            account_id,
            name,
            scopes,
            enabled,
            expires_at,
            metadata,
            created_at,
            created_by,
            updated_at,
            rotated_at,
            revoked_at: _,
            announced_days: _,
            console_link,
            allowed_ips,
            rate_limit,
            revision: _,
        } = &view.key;
        let shown = |it: Option<Timestamp>| it.map(|it| it.to_string());
        let scopes = app.catalogue().ordered(scopes);
        Self {
            id: id.to_string(),
            name: name.as_str().to_owned(),
            key: plaintext.map(|it| it.expose().to_owned()),
            key_prefix: view.prefix.map(|it| it.as_str().to_owned()).unwrap_or_default(),
            scopes: scopes.into_iter().map(str::to_owned).collect(),
            unused_scopes: view.unused_scopes.clone(),
            created_at: created_at.to_string(),
            expires_at: shown(*expires_at),
            last_used_at: shown(view.last_used_at),
            account_id: account_id.to_string(),
            status: view.status.into(),
            enabled: *enabled,
            created_by: match *created_by {
                Some(_) if view.creator_hidden => Some(OPERATOR.to_owned()),
                shown => shown.map(|it| it.to_string()),
            },
            updated_at: updated_at.to_string(),
            rotated_at: shown(*rotated_at),
            previous_keys: view.previous.iter().map(PreviousKeyBody::from).collect(),
            allowed_ips: shown_networks(allowed_ips.as_ref()),
            rate_limit: rate_limit.map(RateLimitBody::from),
            console_link: console_link.is_some(),
            metadata: metadata.to_value(),
        }
    }
}

impl From<&PreviousCredential> for PreviousKeyBody {
    fn from(value: &PreviousCredential) -> Self {
        Self {
            key_prefix: value.prefix.as_str().to_owned(),
            valid_until: value.valid_until.to_string(),
            last_used_at: value.last_used_at.map(|it| it.to_string()),
        }
    }
}

/// Reads a [`CreateKeyRequest`].
pub fn read_new_key(
    mut members: Members,
    catalogue: &Catalogue,
    expiry: Expiry<'_>,
) -> Result<NewKey, Faults> {
    let mut settings = read_settings(&mut members, catalogue, None);
    members.faults.extend(expiry.fault(settings.expires_at));
    members.faults.extend(expiry.address_fault(settings.allowed_ips.as_ref()));
    let name = members.required("name", settings.name.take());
    let scopes = members.required("scopes", settings.scopes.take());
    let new = |(name, scopes)| NewKey { settings, ..NewKey::new(name, scopes) };
    let read = name.zip(scopes).map(new);
    members.finish(read)
}

/// Reads an [`UpdateKeyRequest`] about `existing`.
pub fn read_key_patch(
    mut members: Members,
    catalogue: &Catalogue,
    expiry: Expiry<'_>,
    existing: &ApiKey,
) -> Result<KeyPatch, Faults> {
    let patch = read_settings(&mut members, catalogue, Some(&existing.scopes));
    members.faults.extend(expiry.faults(Gain::Settings(&patch)));
    members.finish(Some(patch))
}

/// Reads the settings that a file declares for a key.
pub fn read_declared_key(mut members: Members, catalogue: &Catalogue) -> Result<KeyPatch, Faults> {
    let patch = read_settings(&mut members, catalogue, None);
    members.finish(Some(patch))
}

/// Reads the settings of a key; `held` are the scopes that it has already.
fn read_settings(
    members: &mut Members,
    catalogue: &Catalogue,
    held: Option<&ScopeSet>,
) -> KeyPatch {
    KeyPatch {
        name: read_name(members),
        scopes: members.optional("scopes", |it: Vec<_>| read_scopes(&it, catalogue, held)),
        expires_at: read_expiry(members),
        enabled: members.optional("enabled", as_it_is),
        metadata: read_metadata(members),
        allowed_ips: read_allowed_ips(members),
        rate_limit: read_rate_limit(members, "rateLimit"),
    }
}

/// Reads `expiresAt` or `expiresIn`.
fn read_expiry(members: &mut Members) -> RequestedExpiry {
    let both = members.holds("expiresAt") && members.holds("expiresIn");
    let at = members.nullable("expiresAt", |it: String| read_instant(&it));
    let within = members.optional("expiresIn", |it| read_number(it, &(1..=LONGEST_SECONDS)));
    if both {
        let detail = "must not be given together with `expiresAt`";
        members.fault("expiresIn", "invalid_combination", detail);
    }
    within.map_or_else(|| RequestedExpiry::from(at), RequestedExpiry::In)
}

/// Reads a [`RotateKeyRequest`]; `None` for the configured grace.
pub fn read_grace(mut members: Members) -> Result<Option<Duration>, Faults> {
    let allowed = 0..=Keyward::LONGEST_GRACE.as_secs();
    let seconds = members.optional("gracePeriodSeconds", |it| read_number(it, &allowed));
    members.finish(Some(seconds.map(Duration::from_secs)))
}
