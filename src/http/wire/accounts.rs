//! Accounts on the wire.

use serde::Serialize;
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Ref, RefOr, Schema},
};

use crate::{
    domain::{
        account::{Account, AccountStatus},
        lifetime::{LONGEST_SECONDS, Lifetimes},
        scope::{Catalogue, Holder, ScopeSet},
        text::{ExternalId, Metadata},
    },
    http::{
        request::json::{Members, as_it_is},
        wire::{
            fields::{
                MetadataBody, enum_body, read_metadata, read_name, read_number, read_scopes,
                update_of,
            },
            keys::ApiKeyBody,
            limits::{RateLimitBody, read_rate_limit},
        },
    },
    service::{AccountDraft, AccountPatch, Fault, Faults, Keyward},
};

/// An account, to which keys belong.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Account)]
pub struct AccountBody {
    /// The identifier of the account. It never changes.
    #[schema(example = "acct_01KYq8Zt3mV5xW7aBcDeFg", pattern = "^acct_[0-9A-Za-z]{22}$")]
    id: String,
    /// The display name.
    #[schema(example = "Acme Corp", min_length = 1, max_length = 100)]
    name: String,
    /// Your own unique identifier of the customer.
    #[schema(required, example = "cust_42")]
    external_id: Option<String>,
    status: AccountStatusBody,
    /// The scopes that keys of this account can hold; `null` means all scopes.
    #[schema(required, example = json!(["orders:read", "orders:write"]))]
    allowed_scopes: Option<Vec<String>>,
    /// The maximum number of keys; `null` means the server's own limit.
    #[schema(required, example = 50)]
    max_keys: Option<u32>,
    /// The longest lifetime of a key, in seconds; `null` means the server's own maximum, if it has one.
    #[schema(required, format = Int64, example = 7_776_000)]
    max_key_lifetime_seconds: Option<u32>,
    /// The lifetime of a new key whose request names no expiry, in seconds; `null` means the server's own
    /// default, if it has one.
    #[schema(required, format = Int64, example = 2_592_000)]
    default_key_lifetime_seconds: Option<u32>,
    /// The rate limit that all keys of the account share; `null` means none.
    #[schema(required)]
    rate_limit: Option<RateLimitBody>,
    /// The rate limit of each key that has none of its own; `null` means none.
    #[schema(required)]
    key_rate_limit: Option<RateLimitBody>,
    /// Whether keys of this account can be exchanged for tokens, which gateways verify on their own.
    #[schema(example = false)]
    token_exchange: bool,
    /// Your own data. keyward stores and returns it but never reads it.
    #[schema(value_type = MetadataBody)]
    metadata: Value,
    /// When the account was created.
    #[schema(format = DateTime, example = "2026-01-20T10:00:00.000Z")]
    created_at: String,
    /// The first key of the account, including the full key. Only the answer to create contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    api_key: Option<ApiKeyBody>,
}

enum_body! {
    /// The status of an account. All keys of a suspended account are refused.
    pub struct AccountStatusBody(AccountStatus) as "AccountStatus";
}

/// A page of accounts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AccountList)]
pub struct AccountListBody {
    /// The accounts of this page.
    pub data: Vec<AccountBody>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// The settings of a new account.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CreateAccountRequest {
    /// The display name. It need not be unique.
    #[schema(example = "Acme Corp", min_length = 1, max_length = 100)]
    pub name: String,
    /// Your own identifier of the customer: 1 to 255 visible ASCII characters, unique, not `self` and not
    /// beginning with `acct_`. `null` removes it.
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    /// The scopes that keys of this account can hold. `null` means all scopes, as for a new account
    /// without this member.
    #[schema(min_items = 1)]
    pub allowed_scopes: Option<Vec<String>>,
    /// The maximum number of keys. `null` means the server's own limit, as for a new account without
    /// this member.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_keys: Option<u32>,
    /// The longest lifetime of a key, in seconds, from its creation or its last rotation. It can be longer
    /// than the server's own maximum. `null` means the server's own maximum, as for a new account without
    /// this member.
    #[schema(format = Int64, minimum = 1, maximum = 3_153_600_000_u32)]
    pub max_key_lifetime_seconds: Option<u32>,
    /// The lifetime of a new key whose request names no expiry, in seconds. The maximum lifetime limits
    /// it. `null` means the server's own default, as for a new account without this member.
    #[schema(format = Int64, minimum = 1, maximum = 3_153_600_000_u32)]
    pub default_key_lifetime_seconds: Option<u32>,
    /// The rate limit that all keys of the account share. `null` means none, as for a new account
    /// without this member.
    pub rate_limit: Option<RateLimitBody>,
    /// The rate limit of each key that has none of its own. `null` means none, as for a new account
    /// without this member.
    pub key_rate_limit: Option<RateLimitBody>,
    /// Whether keys of this account can be exchanged for tokens, which gateways verify on their own. A new
    /// account without this member has `false`.
    #[schema(nullable = false)]
    pub token_exchange: Option<bool>,
    /// All of your own data: at most 50 members and 4 KiB. `null` removes it.
    #[schema(value_type = Option<MetadataBody>)]
    pub metadata: Option<Value>,
}

/// The settings to change: the members of a [`CreateAccountRequest`], and the status.
pub struct UpdateAccountRequest;

impl PartialSchema for UpdateAccountRequest {
    fn schema() -> RefOr<Schema> {
        let mut update = update_of::<CreateAccountRequest>();
        let status = Ref::from_schema_name(AccountStatusBody::name());
        update.properties.insert("status".to_owned(), status.into());
        update.into()
    }
}

impl ToSchema for UpdateAccountRequest {}

const MOST_KEYS: u32 = 1_000_000;

impl AccountBody {
    pub fn new(app: &Keyward, account: &Account, first_key: Option<ApiKeyBody>) -> Self {
        let catalogue = app.catalogue();
        let scopes = account.allowed_scopes.as_ref().map(|it| catalogue.ordered(it));
        Self {
            id: account.id.to_string(),
            name: account.name.as_str().to_owned(),
            external_id: account.external_id.as_ref().map(|it| it.as_str().to_owned()),
            status: account.status.into(),
            allowed_scopes: scopes.map(|it| it.into_iter().map(str::to_owned).collect()),
            max_keys: account.max_keys,
            max_key_lifetime_seconds: account.lifetimes.max,
            default_key_lifetime_seconds: account.lifetimes.default,
            rate_limit: account.rate_limit.map(RateLimitBody::from),
            key_rate_limit: account.key_rate_limit.map(RateLimitBody::from),
            token_exchange: account.token_exchange,
            metadata: account.metadata.to_value(),
            created_at: account.created_at.to_string(),
            api_key: first_key,
        }
    }
}

/// Reads a [`CreateAccountRequest`].
pub fn read_account_draft(
    mut members: Members,
    catalogue: &Catalogue,
) -> Result<AccountDraft, Faults> {
    let settings = read_settings(&mut members, catalogue, None);
    let name = members.required("name", settings.name);
    let read = name.map(|name| AccountDraft {
        name,
        external_id: settings.external_id.flatten(),
        allowed_scopes: settings.allowed_scopes.flatten(),
        max_keys: settings.max_keys.flatten(),
        lifetimes: Lifetimes {
            max: settings.max_key_lifetime.flatten(),
            default: settings.default_key_lifetime.flatten(),
        },
        rate_limit: settings.rate_limit.flatten(),
        key_rate_limit: settings.key_rate_limit.flatten(),
        token_exchange: settings.token_exchange.unwrap_or_default(),
        metadata: settings.metadata.unwrap_or_else(Metadata::empty),
    });
    members.finish(read)
}

/// Reads an [`UpdateAccountRequest`] about an account that allows the scopes `held` already.
pub fn read_account_patch(
    mut members: Members,
    catalogue: &Catalogue,
    held: Option<&ScopeSet>,
) -> Result<AccountPatch, Faults> {
    let settings = read_settings(&mut members, catalogue, held);
    let status = members.optional("status", |it: String| read_status(&it));
    members.finish(Some(AccountPatch { status, ..settings }))
}

/// Reads all settings of an account but its status; `held` are the scopes that it allows already.
fn read_settings(
    members: &mut Members,
    catalogue: &Catalogue,
    held: Option<&ScopeSet>,
) -> AccountPatch {
    AccountPatch {
        name: read_name(members),
        external_id: members.nullable("externalId", |it: String| ExternalId::parse(&it)),
        status: None,
        allowed_scopes: members
            .nullable("allowedScopes", |it: Vec<_>| read_allowed(&it, catalogue, held)),
        max_keys: members.nullable("maxKeys", |it| read_number(it, &(1..=MOST_KEYS))),
        max_key_lifetime: read_lifetime(members, "maxKeyLifetimeSeconds"),
        default_key_lifetime: read_lifetime(members, "defaultKeyLifetimeSeconds"),
        rate_limit: read_rate_limit(members, "rateLimit"),
        key_rate_limit: read_rate_limit(members, "keyRateLimit"),
        token_exchange: members.optional("tokenExchange", as_it_is::<bool>),
        metadata: read_metadata(members),
    }
}

fn read_lifetime(members: &mut Members, name: &str) -> Option<Option<u32>> {
    members.nullable(name, |it| read_number(it, &(1..=LONGEST_SECONDS)))
}

fn read_status(text: &str) -> Result<AccountStatus, Faults> {
    let fault = || Fault::new("", "invalid_value", "must be `active` or `suspended`");
    AccountStatus::parse(text).ok_or_else(|| fault().into())
}

fn read_allowed(
    items: &[Value],
    catalogue: &Catalogue,
    held: Option<&ScopeSet>,
) -> Result<ScopeSet, Faults> {
    let read = read_scopes(items, catalogue, held);
    let reserved = catalogue.entries().iter().filter(|it| it.holder == Holder::Operator);
    let named =
        reserved.map(|it| it.scope.as_str()).filter(|it| items.iter().any(|item| item == it));
    let refused = named.map(|it| {
        let detail = format!("`{it}` can be granted only in the operator account");
        Fault::new("", "not_for_accounts", detail)
    });
    let refused: Faults = refused.collect();
    match read {
        Ok(scopes) if refused.is_empty() => Ok(scopes),
        Ok(_) => Err(refused),
        Err(faults) => Err(faults.into_iter().chain(refused).collect()),
    }
}
