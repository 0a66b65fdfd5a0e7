//! Verify requests and their answers.

use std::{borrow::Cow, fmt::Display, net::IpAddr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use crate::{
    domain::{
        id::{AccountId, KeyId},
        policy::RequiredScopes,
        rate_limit::RateLimit,
        scope::{Catalogue, ScopeBits},
        verdict::Verdict,
    },
    env::Timestamp,
    http::{
        request::json::{Members, as_it_is},
        wire::{
            fields::{MetadataBody, each_scope, enum_body, read_number},
            limits::RateStateBody,
        },
    },
    service::{Fault, Faults, Keyward, Verification},
};

/// A presented key and the scopes that a request needs.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct VerifyKeyRequest {
    /// The key as the client presented it.
    #[schema(example = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK")]
    pub key: String,
    /// The required scopes. The key must grant all of them.
    #[schema(nullable = false, example = json!(["orders:read"]))]
    pub scopes: Option<Vec<String>>,
    /// Scopes of which the key must grant at least one, in addition to all of `scopes`.
    #[schema(nullable = false, min_items = 1, example = json!(["orders:read", "products:read"]))]
    pub any_scopes: Option<Vec<String>>,
    /// The IP address of the client that presented the key.
    #[schema(nullable = false, example = "203.0.113.7")]
    pub client_ip: Option<String>,
    /// What the request uses of the rate limits; 1 if it is left out. With 0 it uses nothing, and no rate
    /// limit refuses it.
    // Not `default`: generators for TypeScript would make the member required.
    #[schema(nullable = false, minimum = 0, maximum = 1_000_000_000)]
    pub cost: Option<u32>,
}

/// The outcome of a verification.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Verification)]
pub struct VerificationBody<'a> {
    /// Whether to allow the request: `true` only for the code `VALID`.
    valid: bool,
    /// The reason of the outcome.
    code: VerifyCode,
    /// The key; `null` for `MALFORMED` and `NOT_FOUND`.
    #[schema(required, value_type = Option<String>, example = "key_01KYq8Zt3mV5xW7aBcDeFg")]
    key_id: Option<Printed<KeyId>>,
    /// The prefix of the presented credential; `null` if the key is unknown.
    #[schema(required, example = "rg_8fK2mQ9zT")]
    key_prefix: Option<&'a str>,
    /// The name of the key; `null` for a revoked key.
    #[schema(required, example = "Production Integration")]
    name: Option<&'a str>,
    /// The account of the key; `null` if the key is unknown.
    #[schema(required, value_type = Option<String>, example = "acct_01KYq8Zt3mV5xW7aBcDeFg")]
    account_id: Option<Printed<AccountId>>,
    /// Your own identifier of the customer; `null` if there is none.
    #[schema(required, example = "cust_42")]
    external_id: Option<&'a str>,
    /// The scopes that the key grants, in the order of the catalogue.
    #[schema(example = json!(["orders:read"]))]
    scopes: Vec<&'a str>,
    /// The requested scopes that the key does not grant: those of `scopes`, and all of `anyScopes` if
    /// the key grants none of them.
    #[schema(example = json!([]))]
    missing_scopes: Vec<&'a str>,
    /// The instant from which the key is refused; `null` means never, or that the key is unknown.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2099-01-20T00:00:00.000Z")]
    expires_at: Option<Printed<Timestamp>>,
    /// The rate limit that refused the request, or else that with the least left: of the key or of its
    /// account. `null` means that there is none, or that the key is refused for another reason.
    #[schema(required)]
    rate_limit: Option<RateStateBody>,
    /// The metadata of the key; empty for a revoked or expired key. The customer writes it, so do not
    /// trust it.
    #[schema(value_type = MetadataBody)]
    metadata: StoredObject<&'a str>,
    /// The metadata of the account. Only the operator can write it.
    #[schema(value_type = MetadataBody)]
    account_metadata: StoredObject<Arc<str>>,
}

/// Goes onto the wire as it is printed, without a string in between.
#[derive(Debug)]
struct Printed<T>(T);

impl<T: Display> Serialize for Printed<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

enum_body! {
    /// The reason of an outcome: the first that applies, in this order. `MALFORMED` and `NOT_FOUND`
    /// are the only codes for a text that is not a complete key of this server.
    pub struct VerifyCode(Verdict) as "VerifyCode", example = Verdict::Valid;
}

/// A scope of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Scope)]
pub struct ScopeBody {
    /// The name of the scope.
    #[schema(example = "orders:read")]
    pub name: String,
    /// What the scope allows.
    #[schema(example = "Read order data")]
    pub description: String,
    /// Whether the scope belongs to keyward itself, and not to your API.
    #[schema(example = false)]
    pub reserved: bool,
}

/// The catalogue of scopes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScopeList)]
pub struct ScopeListBody {
    /// The scopes, in the order of the catalogue.
    pub data: Vec<ScopeBody>,
}

/// A parsed [`VerifyKeyRequest`]. Dropping it wipes the key.
pub struct VerifyQuestion {
    pub key: zeroize::Zeroizing<String>,
    pub required: RequiredScopes,
    pub client_ip: Option<IpAddr>,
    pub cost: u32,
}

/// A [`VerifyKeyRequest`] that borrows from the body. Nearly every gateway sends this form, and
/// reading it costs a third of reading the members one by one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlainQuestion<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    scopes: Vec<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    client_ip: Option<&'a str>,
    #[serde(default = "usual_cost")]
    cost: u32,
    #[serde(borrow, default, deserialize_with = "not_null")]
    any_scopes: Option<Vec<Cow<'a, str>>>,
}

/// Reads a list where serde would take `null` for an absent one.
fn not_null<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Vec<Cow<'a, str>>>, D::Error> {
    Vec::deserialize(from).map(Some)
}

/// Reads a member that must not be null.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a str>, D::Error> {
    <&str>::deserialize(from).map(Some)
}

fn usual_cost() -> u32 {
    1
}

/// Reads a [`VerifyKeyRequest`] without faults and in the usual form; `None` for any other, which
/// [`read_question`] then examines.
pub fn read_plain_question(body: &[u8], catalogue: &Catalogue) -> Option<VerifyQuestion> {
    // serde also takes an array for a struct.
    body.trim_ascii_start().starts_with(b"{").then_some(())?;
    let plain: PlainQuestion<'_> = serde_json::from_slice(body).ok()?;
    let key = zeroize::Zeroizing::new(plain.key.into_owned());
    let bits = |names: &[Cow<'_, str>]| {
        names.iter().try_fold(ScopeBits::default(), |all, it| Some(all.or(catalogue.find(it)?)))
    };
    let any = match &plain.any_scopes {
        Some(names) => bits(names).filter(|it| !it.is_empty())?,
        None => ScopeBits::default(),
    };
    let required = RequiredScopes { all: bits(&plain.scopes)?, any };
    let client_ip = plain.client_ip.map(str::parse).transpose().ok()?;
    (plain.cost <= RateLimit::MAX_LIMIT).then_some(())?;
    Some(VerifyQuestion { key, required, client_ip, cost: plain.cost })
}

/// Reads a [`VerifyKeyRequest`].
pub fn read_question(
    mut members: Members,
    catalogue: &Catalogue,
) -> Result<VerifyQuestion, Faults> {
    let key = members.optional("key", as_it_is::<String>);
    let key = members.required("key", key).map(zeroize::Zeroizing::new);
    let all = members.optional("scopes", |it: Vec<_>| read_wanted(&it, catalogue));
    let any = members.optional("anyScopes", |it: Vec<_>| {
        if it.is_empty() {
            // No key grants one of no scopes. A gateway that sends this would refuse every key.
            return Err(Fault::new("", "out_of_range", "must name at least one scope").into());
        }
        read_wanted(&it, catalogue)
    });
    let client_ip = members.optional("clientIp", |it: String| {
        let fault = || Fault::new("", "invalid_format", "must be an IP address");
        it.parse().map_err(|_| Faults::from(fault()))
    });
    let cost = members.optional("cost", |it| read_number(it, &(0..=RateLimit::MAX_LIMIT)));
    members.finish(key.map(|key| VerifyQuestion {
        key,
        required: RequiredScopes { all: all.unwrap_or_default(), any: any.unwrap_or_default() },
        client_ip,
        cost: cost.unwrap_or_else(usual_cost),
    }))
}

fn read_wanted(items: &[Value], catalogue: &Catalogue) -> Result<ScopeBits, Faults> {
    let (found, faults) = each_scope(items, catalogue, |it| catalogue.find(it));
    let all = found.into_iter().fold(ScopeBits::default(), ScopeBits::or);
    if faults.is_empty() { Ok(all) } else { Err(faults) }
}

impl<'a> VerificationBody<'a> {
    pub fn new(app: &'a Keyward, found: &'a Verification) -> Self {
        let (catalogue, now) = (app.catalogue(), app.env().time.now());
        let entry = found.entry.as_deref();
        let Some(key) = entry.map(|it| &it.key) else {
            return Self::of_nobody(found.verdict);
        };
        Self {
            valid: found.verdict == Verdict::Valid,
            code: found.verdict.into(),
            key_id: Some(Printed(key.id)),
            key_prefix: entry.map(|it| it.prefix.as_str()),
            name: (!key.revoked).then(|| key.name()),
            account_id: Some(Printed(key.account)),
            external_id: found.account.as_ref().and_then(|it| it.external_id.as_deref()),
            scopes: catalogue.names(key.scopes()).collect(),
            missing_scopes: catalogue.names(found.missing).collect(),
            expires_at: key.expires_at().map(Printed),
            rate_limit: found.rates.tightest().map(RateStateBody::from),
            metadata: StoredObject(key.metadata().filter(|_| !key.is_expired_at(now))),
            account_metadata: StoredObject(app.account_metadata(key.account)),
        }
    }

    fn of_nobody(verdict: Verdict) -> Self {
        Self {
            valid: false,
            code: verdict.into(),
            key_id: None,
            key_prefix: None,
            name: None,
            account_id: None,
            external_id: None,
            scopes: Vec::new(),
            missing_scopes: Vec::new(),
            expires_at: None,
            rate_limit: None,
            metadata: StoredObject(None),
            account_metadata: StoredObject(None),
        }
    }
}

/// Stored metadata goes out as it is, byte for byte; none is the empty object.
#[derive(Debug)]
struct StoredObject<T>(Option<T>);

impl<T: AsRef<str>> Serialize for StoredObject<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text = self.0.as_ref().map(AsRef::as_ref);
        match text.and_then(|it| serde_json::from_str::<&RawValue>(it).ok()) {
            Some(raw) => raw.serialize(to),
            None => to.collect_map(std::iter::empty::<(&str, &str)>()),
        }
    }
}
