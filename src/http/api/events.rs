//! `/events`: the audit log.

use actix_web::{HttpRequest, HttpResponse, get, web};

use crate::{
    domain::{
        event::EventType,
        id::{AccountId, KeyId},
        list_order::ListOrder,
    },
    http::{
        api::keys::read_account,
        authn::{Caller, ReadEvents},
        blocking::run,
        problem::Problem,
        request::query::Query,
        respond::{self, List},
        wire::{EventBody, EventFilterQuery, EventListBody, ListOrderBody},
    },
    service::{Error, EventFilter, EventView, Keyward, OPERATOR},
};

/// List events
///
/// Returns the events of the audit log, the oldest first unless `order` is `desc`. The operator sees all
/// events. An account sees its own events, with `operator` in place of the operator's keys and
/// addresses.
#[utoipa::path(
    operation_id = "listEvents",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(
        ("after" = Option<i64>, Query, description = "Return only events with a greater `seq`.", minimum = 0),
        EventFilterQuery,
        ("since" = Option<String>, Query, format = DateTime, description = "Return only events at or after this instant."),
        ("until" = Option<String>, Query, format = DateTime, description = "Return only events before this instant."),
        ("order" = Option<ListOrderBody>, Query, description = "The order by `seq`. Defaults to `asc`, the oldest first. A cursor is valid only in its own order."),
    ),
    responses((status = 200, description = "A page of events", body = EventListBody)),
)]
#[get("/events")]
pub async fn list_events(
    app: web::Data<Keyward>,
    caller: Caller<ReadEvents>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&req);
    let limit = query.limit();
    let order = query.order();
    let filter = read_filter(&mut query, order);
    query.finish()?;
    let viewer = caller.principal.viewer();
    let read = move |app: &Keyward, last: Option<&EventView>, limit| {
        let filter = EventFilter { limit, ..filter.clone() };
        app.list_events(viewer, last.map_or(filter.clone(), |it| filter.beyond(it.event.seq)))
    };
    let show = |_: &Keyward, it: &EventView| EventBody::from(it.clone());
    let cursor: fn(&EventView) -> String = match order {
        ListOrder::Ascending => |it| event_cursor(it.event.seq),
        ListOrder::Descending => |it| descending_cursor(it.event.seq),
    };
    respond::page(&app, &caller.principal, &req, List { limit, read, show, cursor, total: None })
        .await
}

/// Show an event
///
/// Returns one event of the audit log.
#[utoipa::path(
    operation_id = "getEvent",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(("seq" = i64, Path, description = "The number of the event.", example = 1, minimum = 1)),
    responses((status = 200, description = "The event", body = EventBody)),
)]
#[get("/events/{seq}")]
pub async fn show_event(
    app: web::Data<Keyward>,
    caller: Caller<ReadEvents>,
    seq: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let seq = seq_of(&seq).ok_or(Error::NO_EVENT)?;
    let viewer = caller.principal.viewer();
    let view = run(&app, move |app| app.find_event(viewer, seq)).await?;
    Ok(HttpResponse::Ok().json(EventBody::from(view)))
}

fn read_filter(query: &mut Query, order: ListOrder) -> EventFilter {
    let expected = "the nextCursor of a page in the same order";
    let cursor = query.take("cursor", expected, |it| match order {
        ListOrder::Ascending => read_cursor(it),
        ListOrder::Descending => read_descending_cursor(it),
    });
    let filter = EventFilter {
        after: query.take("after", "a whole number", seq_of).unwrap_or(0),
        since: query.instant("since"),
        until: query.instant("until"),
        newest_first: order == ListOrder::Descending,
        ..read_selection(query)
    };
    cursor.map_or(filter.clone(), |it| filter.beyond(it))
}

/// Reads the filter by account, type, subject and actor, at any time.
pub(super) fn read_selection(query: &mut Query) -> EventFilter {
    let is_subject =
        |it: &str| it == "keyward" || KeyId::parse(it).is_ok() || AccountId::parse(it).is_ok();
    let is_actor =
        |it: &str| matches!(it, "cli" | "scheduler" | OPERATOR) || KeyId::parse(it).is_ok();
    let known = |fits: bool, it: &str| fits.then(|| it.to_owned());
    EventFilter {
        account: query
            .take("account", "the identifier of an account, or all", read_account)
            .flatten(),
        event_type: query.take("type", "a type of event like api_key.created", |it| {
            known(EventType::parse(it).is_some(), it)
        }),
        subject: query.take("subject", "the identifier of a key or an account, or keyward", |it| {
            known(is_subject(it), it)
        }),
        actor: query.take(
            "actor",
            "the identifier of a key, or cli, scheduler or operator",
            |it| known(is_actor(it), it),
        ),
        ..EventFilter::default()
    }
}

pub fn event_cursor(seq: i64) -> String {
    format!("v1.{seq:x}")
}

pub fn read_cursor(text: &str) -> Option<i64> {
    let seq = i64::from_str_radix(text.strip_prefix("v1.")?, 16).ok()?;
    (0 <= seq && event_cursor(seq) == text).then_some(seq)
}

/// As [`event_cursor`], for a list with the newest event first: no list of the other order takes it.
pub fn descending_cursor(seq: i64) -> String {
    event_cursor(seq).replacen("v1.", "v1d.", 1)
}

pub fn read_descending_cursor(text: &str) -> Option<i64> {
    read_cursor(&format!("v1.{}", text.strip_prefix("v1d.")?))
}

/// Parses the number of an event. Only digits are allowed: a sign, which `parse` accepts, would make a
/// second address of the same event.
pub(super) fn seq_of(text: &str) -> Option<i64> {
    let seq = text.parse::<i64>().ok().filter(|it| 0 <= *it)?;
    (seq.to_string() == text).then_some(seq)
}
