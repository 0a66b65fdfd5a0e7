//! The audit log on the wire.

use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::event::EventType,
    http::wire::{checkpoints::EXAMPLE_HASH, fields::enum_body},
    service::EventView,
};

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event)]
pub struct EventBody {
    /// The number of the event. Numbers have no gaps.
    #[schema(example = 1, minimum = 1)]
    seq: i64,
    /// When the event was recorded.
    #[schema(format = DateTime, example = "2026-01-20T10:00:00.000Z")]
    time: String,
    /// The type of the event. Later versions add types, so expect others than those of `EventType`.
    #[schema(example = "api_key.created")]
    r#type: String,
    /// The account that the event is about; `null` for an event of keyward itself.
    #[schema(required, example = "acct_01KYq8Zt3mV5xW7aBcDeFg")]
    account_id: Option<String>,
    /// The cause of the event.
    actor: EventActorBody,
    /// The subject of the event: the identifier of a key or an account, or `keyward`.
    #[schema(example = "key_01KYq8Zt3mV5xW7aBcDeFg")]
    subject: String,
    /// The request that caused the event; `null` if no request did.
    #[schema(required, example = "req_5f3a9c0100000000002a")]
    request_id: Option<String>,
    /// The IP address of the client. An account sees `operator` in place of the operator's address.
    #[schema(required, example = "203.0.113.7")]
    client_ip: Option<String>,
    /// The details of the event; for a change, the changed members `before` and `after`.
    #[schema(value_type = HashMap<String, Value>, example = json!({"name": "Production Integration"}))]
    data: Value,
    /// The hash of the event before this one, in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$", example = json!(EXAMPLE_HASH))]
    prev_hash: String,
    /// The hash of this event and, through `prevHash`, of all before it.
    #[schema(pattern = "^[0-9a-f]{64}$", example = json!(EXAMPLE_HASH))]
    hash: String,
}

/// The cause of an event: a key, a command, or a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventActor)]
pub struct EventActorBody {
    /// The kind of actor.
    r#type: ActorType,
    /// The key, if a key caused the event.
    #[schema(required, example = "key_01KYq8Zt3mV5xW7aBcDeFg")]
    key_id: Option<String>,
    /// The name of that key now. Of a purged key, the name with which it was created. An account sees no
    /// names of the operator's keys.
    #[schema(required, example = "Alice")]
    key_name: Option<String>,
    /// The prefix of the presented credential.
    #[schema(required, example = "rg_8fK2mQ9zT")]
    key_prefix: Option<String>,
    /// The account of that key.
    #[schema(required, example = "acct_01KYq8Zt3mV5xW7aBcDeFg")]
    account_id: Option<String>,
}

/// The kind of actor: a key, a command on the server, or a job. An account sees `operator` in place of a key of the operator.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActorType {
    Key,
    Operator,
    Cli,
    Scheduler,
}

enum_body! {
    /// The types of events that this version records. A later version may record others.
    pub struct EventTypeBody(EventType) as "EventType";
}

/// The filters of the list and the stream of events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventFilterQuery {
    /// Filter by the account that the event is about; `all` selects all that the caller sees.
    pub account: Option<String>,
    /// Filter by event type.
    pub r#type: Option<EventTypeBody>,
    /// Filter by the key or account that the event is about, or `keyward`.
    pub subject: Option<String>,
    /// Filter by the key that caused the event, or `cli`, `scheduler`, or `operator` for any key of
    /// the operator.
    pub actor: Option<String>,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventList)]
pub struct EventListBody {
    /// The events of this page.
    pub data: Vec<EventBody>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl From<EventView> for EventBody {
    fn from(view: EventView) -> Self {
        let event = view.event;
        let actor_type = match event.actor.as_str() {
            _ if view.operator_hidden => ActorType::Operator,
            "cli" => ActorType::Cli,
            "scheduler" => ActorType::Scheduler,
            _ => ActorType::Key,
        };
        let shown = matches!(actor_type, ActorType::Key);
        let client_ip = if view.operator_hidden {
            event.client_ip.map(|_| "operator".to_owned())
        } else {
            event.client_ip
        };
        Self {
            seq: event.seq,
            time: event.time.to_string(),
            r#type: event.event_type,
            account_id: event.account_id,
            actor: EventActorBody {
                r#type: actor_type,
                key_id: shown.then_some(event.actor),
                key_name: view.actor_name,
                key_prefix: event.actor_prefix.filter(|_| shown),
                account_id: event.actor_account_id.filter(|_| shown),
            },
            subject: event.subject,
            request_id: event.request_id,
            client_ip,
            data: serde_json::from_str(&event.data).unwrap_or_default(),
            prev_hash: event.prev_hash.to_string(),
            hash: event.hash.to_string(),
        }
    }
}
