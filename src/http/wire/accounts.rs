//! Accounts on the wire.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    domain::{
        account::{Account, AccountStatus},
        scope::{Catalogue, Holder, ScopeSet},
        text::{ExternalId, Metadata},
    },
    http::{
        request::json::{Given, Members},
        wire::{
            fields::{read_metadata, read_name, read_scopes},
            keys::ApiKeyBody,
        },
    },
    service::{AccountDraft, AccountPatch, Fault, Keyward},
};

/// An account, to which keys belong.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Account)]
pub struct AccountBody {
    #[schema(example = "acct_01KYq8Zt3mV5xW7aBcDeFg", pattern = "^acct_[0-9A-Za-z]{22}$")]
    id: String,
    #[schema(example = "Acme Corp", min_length = 1, max_length = 100)]
    name: String,
    /// Your own unique identifier of this customer.
    #[schema(required, example = "cust_42")]
    external_id: Option<String>,
    status: AccountStatusBody,
    /// The scopes that keys of this account can hold; `null` means all scopes.
    #[schema(required, example = json!(["orders:read", "orders:write"]))]
    allowed_scopes: Option<Vec<String>>,
    /// The maximum number of keys; `null` means the server's own limit.
    #[schema(required, example = 50)]
    max_keys: Option<u32>,
    /// Your own data. keyward stores and returns it but never reads it.
    #[schema(value_type = HashMap<String, Value>, example = json!({"plan": "pro"}))]
    metadata: Value,
    #[schema(format = DateTime, example = "2026-01-20T10:00:00.000Z")]
    created_at: String,
    /// The first key of the account, including the full key. Only the answer to create contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    api_key: Option<ApiKeyBody>,
}

/// The status of an account. All keys of a suspended account are refused.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AccountStatus)]
pub enum AccountStatusBody {
    Active,
    Suspended,
}

/// A page of accounts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AccountList)]
pub struct AccountListBody {
    pub data: Vec<AccountBody>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// The settings of a new account.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CreateAccountRequest {
    #[schema(example = "Acme Corp", min_length = 1, max_length = 100)]
    pub name: String,
    /// Your own identifier of this customer: 1 to 255 visible ASCII characters, unique.
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    /// The scopes that keys of this account can hold. Left out or `null` means all scopes.
    #[schema(min_items = 1)]
    pub allowed_scopes: Option<Vec<String>>,
    /// The maximum number of keys. Left out or `null` means the server's own limit.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_keys: Option<u32>,
    /// At most 50 members and 4 KiB.
    #[schema(value_type = Option<HashMap<String, Value>>)]
    pub metadata: Option<Value>,
}

/// The members to change. Members that are left out keep their values.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct UpdateAccountRequest {
    #[schema(nullable = false, example = "Acme Corporation", min_length = 1, max_length = 100)]
    pub name: Option<String>,
    /// Your own identifier of this customer: 1 to 255 visible ASCII characters, unique; `null`
    /// removes it.
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    #[schema(nullable = false)]
    pub status: Option<AccountStatusBody>,
    /// The scopes that keys of this account can hold; `null` means all scopes.
    #[schema(min_items = 1)]
    pub allowed_scopes: Option<Vec<String>>,
    /// The maximum number of keys; `null` means the server's own limit.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_keys: Option<u32>,
    /// Replaces all metadata; `null` removes it. At most 50 members and 4 KiB.
    #[schema(value_type = Option<HashMap<String, Value>>)]
    pub metadata: Option<Value>,
}

const MOST_KEYS: u32 = 1_000_000;

impl AccountBody {
    pub fn new(app: &Keyward, account: &Account, first_key: Option<ApiKeyBody>) -> Self {
        let catalogue = app.catalogue();
        let scopes = account.allowed_scopes.as_ref().map(|it| catalogue.ordered(it));
        Self {
            id: account.id.to_string(),
            name: account.name.as_str().to_owned(),
            external_id: account.external_id.as_ref().map(|it| it.as_str().to_owned()),
            status: match account.status {
                AccountStatus::Active => AccountStatusBody::Active,
                AccountStatus::Suspended => AccountStatusBody::Suspended,
            },
            allowed_scopes: scopes.map(|it| it.into_iter().map(str::to_owned).collect()),
            max_keys: account.max_keys,
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
) -> Result<AccountDraft, Vec<Fault>> {
    let name = members.string("name");
    let name = members.required("name", name);
    let name = read_name(&mut members, name);
    let external_id = read_external_id(&mut members).flatten();
    let allowed_scopes = read_allowed(&mut members, catalogue, None).flatten();
    let max_keys = read_max_keys(&mut members).flatten();
    let metadata = read_metadata(&mut members).unwrap_or_else(Metadata::empty);
    let read =
        name.map(|name| AccountDraft { name, external_id, allowed_scopes, max_keys, metadata });
    members.finish(read)
}

/// Reads an [`UpdateAccountRequest`] about `existing`.
pub fn read_account_patch(
    mut members: Members,
    catalogue: &Catalogue,
    existing: &Account,
) -> Result<AccountPatch, Vec<Fault>> {
    let name = members.string("name");
    let name = members.not_null("name", name);
    let name = read_name(&mut members, name);
    let external_id = read_external_id(&mut members);
    let status = members.string("status");
    let status = members.not_null("status", status);
    let status = status.and_then(|it| {
        let known = AccountStatus::parse(&it);
        if known.is_none() {
            members.fault("status", "invalid_value", "must be `active` or `suspended`");
        }
        known
    });
    let held = existing.allowed_scopes.as_ref();
    let allowed_scopes = read_allowed(&mut members, catalogue, held);
    let max_keys = read_max_keys(&mut members);
    let metadata = read_metadata(&mut members);
    members.finish(Some(AccountPatch {
        name,
        external_id,
        status,
        allowed_scopes,
        max_keys,
        metadata,
    }))
}

fn read_external_id(members: &mut Members) -> Option<Option<ExternalId>> {
    let text = match members.string("externalId") {
        Given::Absent => return None,
        Given::Null => return Some(None),
        Given::Value(text) => text,
    };
    match ExternalId::parse(&text) {
        Ok(id) => Some(Some(id)),
        Err(err) => {
            members.fault("externalId", err.code(), err.to_string());
            None
        }
    }
}

fn read_allowed(
    members: &mut Members,
    catalogue: &Catalogue,
    held: Option<&ScopeSet>,
) -> Option<Option<ScopeSet>> {
    let items = match members.array("allowedScopes") {
        Given::Absent => return None,
        Given::Null => return Some(None),
        Given::Value(items) => items,
    };
    let scopes = read_scopes(members, "allowedScopes", Some(items), catalogue, held)?;
    let entries = catalogue.entries().iter().filter(|it| it.holder == Holder::Operator);
    for entry in entries.filter(|it| scopes.contains(&it.scope)) {
        let detail = format!("`{}` is for the operator alone", entry.scope.as_str());
        members.fault("allowedScopes", "not_for_accounts", detail);
    }
    Some(Some(scopes))
}

fn read_max_keys(members: &mut Members) -> Option<Option<u32>> {
    let given = match members.integer("maxKeys") {
        Given::Absent => return None,
        Given::Null => return Some(None),
        Given::Value(it) => it,
    };
    match u32::try_from(given) {
        Ok(limit) if (1..=MOST_KEYS).contains(&limit) => Some(Some(limit)),
        Ok(_) | Err(_) => {
            members.fault("maxKeys", "out_of_range", format!("must be from 1 to {MOST_KEYS}"));
            None
        }
    }
}
