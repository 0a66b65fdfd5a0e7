//! The forms of events for other systems, made from the events of the API.

use serde_json::{Map, Value, json};

use crate::{
    domain::event::{Event, EventType},
    env::Timestamp,
    http::wire::EventBody,
    service::EventView,
};

/// The class of an event that a call of an API caused: Application Activity, API Activity.
const API_ACTIVITY: u32 = 6003;
/// The version of the schema that [`ocsf`] follows.
const OCSF_VERSION: &str = "1.3.0";

/// Returns the event as the API answers it to the operator.
pub(super) fn plain(event: Event, actor_name: Option<String>) -> Value {
    let body = EventBody::from(EventView { event, operator_hidden: false, actor_name });
    serde_json::to_value(body).unwrap_or_default()
}

/// Returns the event as CloudEvents 1.0, JSON form, with the extension `sequence`. `source` names the log.
pub(super) fn cloud_event(body: &Value, source: &str) -> Value {
    let seq = body["seq"].as_i64().unwrap_or_default();
    json!({
        "specversion": "1.0",
        "id": seq.to_string(),
        "source": source,
        "type": format!("dev.keyward.{}", body["type"].as_str().unwrap_or_default()),
        "subject": body["subject"],
        "time": body["time"],
        "datacontenttype": "application/json",
        // Padded, so that comparing texts compares numbers.
        "sequence": format!("{seq:020}"),
        "data": body,
    })
}

/// Returns the event as Open Cybersecurity Schema Framework, class 6003: who did what to which object,
/// from where. Members without a place in the schema are under `unmapped`.
pub(super) fn ocsf(body: &Value) -> Value {
    let time = body["time"].as_str().and_then(|it| Timestamp::parse(it).ok());
    let event_type = body["type"].as_str().unwrap_or_default();
    let (activity, activity_name) = activity(event_type);
    let refused = event_type == EventType::AuthDenied.as_str();
    let actor = &body["actor"];
    // A change without a client address was made on the machine itself.
    let endpoint = body["clientIp"]
        .as_str()
        .map_or_else(|| json!({ "name": "localhost" }), |it| json!({ "ip": it }));
    let who = actor["keyId"].as_str().or_else(|| actor["type"].as_str());
    let mut user = json!({ "uid": who, "name": actor["keyName"], "type_id": 3, "type": "System" });
    if let Some(account) = actor["accountId"].as_str() {
        user["account"] = json!({ "uid": account });
        user["credential_uid"] = actor["keyPrefix"].clone();
    }
    without_unknown(json!({
        "class_uid": API_ACTIVITY,
        "class_name": "API Activity",
        "category_uid": API_ACTIVITY / 1_000,
        "category_name": "Application Activity",
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": API_ACTIVITY * 100 + activity,
        "severity_id": 1,
        "severity": "Informational",
        "status_id": if refused { 2 } else { 1 },
        "status": if refused { "Failure" } else { "Success" },
        "time": time.map(Timestamp::as_millis),
        "metadata": {
            "version": OCSF_VERSION,
            "product": {
                "name": "keyward", "vendor_name": "keyward", "version": env!("CARGO_PKG_VERSION"),
            },
            "log_name": "events",
            "sequence": body["seq"],
            "uid": body["hash"],
        },
        "actor": { "user": user },
        "src_endpoint": endpoint,
        "api": { "operation": body["type"], "request": { "uid": body["requestId"] } },
        "resources": [{ "uid": body["subject"], "owner": { "uid": body["accountId"] } }],
        "unmapped": { "data": body["data"], "prevHash": body["prevHash"], "hash": body["hash"] },
    }))
}

/// Removes null members and empty objects, which the schema does not admit. The event's own data stays
/// unchanged.
fn without_unknown(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        for (_, it) in members.iter_mut().filter(|(name, _)| *name != "unmapped") {
            *it = without_unknown(it.take());
        }
        members.retain(|_, it| !it.is_null() && !it.as_object().is_some_and(Map::is_empty));
    } else if let Some(items) = value.as_array_mut() {
        for it in items {
            *it = without_unknown(it.take());
        }
    }
    value
}

/// Returns the activity of an event in the schema: a number and a name.
fn activity(event_type: &str) -> (u32, &'static str) {
    let Some(event_type) = EventType::parse(event_type) else { return (99, "Other") };
    match event_type {
        EventType::ApiKeyCreated
        | EventType::ApiKeysImported
        | EventType::AccountCreated
        | EventType::RootKeyReset => (1, "Create"),
        EventType::ApiKeyUpdated
        | EventType::ApiKeyRotated
        | EventType::ApiKeyGraceEnded
        | EventType::ApiKeyExpired
        | EventType::ApiKeyRehashed
        | EventType::AccountUpdated => (3, "Update"),
        EventType::ApiKeyRevoked
        | EventType::ApiKeyPurged
        | EventType::AccountDeleted
        | EventType::AccountPurged => (4, "Delete"),
        EventType::AuthDenied
        | EventType::ApiKeyRetiredKeyUsed
        | EventType::ApiKeyExchanged
        | EventType::ApiKeyNewAddress
        | EventType::ApiKeyExpiring
        | EventType::ApiKeyRateLimitNear
        | EventType::ApiKeyRateLimitReached
        | EventType::AccountRateLimitNear
        | EventType::AccountRateLimitReached
        | EventType::ClockStepped
        | EventType::ClockAccepted
        | EventType::BackupCreated
        | EventType::BackupRestored
        | EventType::ServerStarted
        | EventType::ServerStopped
        | EventType::WebhookDisabled
        | EventType::WebhookEnabled => (99, "Other"),
    }
}
