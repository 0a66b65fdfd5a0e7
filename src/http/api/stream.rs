//! `/events/stream`: new events of the audit log, as server-sent events (WHATWG HTML, 9.2).

mod feed;
mod reader;

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::{
        Version,
        header::{self, HeaderName},
    },
    web,
};

use self::{
    feed::{EventStream, Feed},
    reader::Reader,
};
use crate::{
    http::{
        api::events::{read_selection, seq_of},
        authn::{Caller, ReadEvents},
        blocking::run,
        problem::Problem,
        request::query::Query,
        stream_limits::Streams,
        wire::EventFilterQuery,
    },
    service::{EventFilter, Fault, Keyward},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks nginx, and every proxy that does as nginx does, to pass on each event at once.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Where a stream begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// After this event; with the pointer to the member that named it.
    After(i64, &'static str),
    /// With the next event that is recorded.
    Now,
    /// With this many of the newest events.
    Last(i64),
}

/// Follow the events
///
/// Returns server-sent events: each event of the audit log as it is recorded, until the client
/// disconnects. `id` is the event's `seq`, `event` its type, `data` an `Event` as JSON. The stream
/// starts with the next event, or after the event that `Last-Event-ID` or `after` names. A client
/// that reconnects with the last `id` gets every event exactly once. When the caller's key is no
/// longer accepted, a last `event: end` gives the `reason`: the code that refuses the next request.
/// Filters and visibility are as in the list of events. The status is 503 with the code `too_many_streams`
/// while too many streams are open.
#[utoipa::path(
    operation_id = "streamEvents",
    tag = "Audit log",
    security(("ApiKeyAuth" = ["events:read"])),
    params(
        ("Last-Event-ID" = Option<i64>, Header, nullable = false, description = "The last `id` that the client received. Takes precedence over `after`.", minimum = 0),
        ("after" = Option<i64>, Query, description = "The same as `Last-Event-ID`, for clients that cannot set headers.", minimum = 0),
        EventFilterQuery,
    ),
    responses(
        (
            status = 200,
            description = "The events, without an end",
            body = String,
            content_type = "text/event-stream",
            example = json!(EXAMPLE),
        ),
    ),
)]
#[get("/events/stream")]
pub async fn stream_events(
    app: web::Data<Keyward>,
    streams: web::Data<Streams>,
    caller: Caller<ReadEvents>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&req);
    let start = read_start(&mut query, &req)?;
    let filter = read_selection(&mut query);
    query.finish()?;
    let (after, _) = locate(&app, start).await?;
    let permit = streams.permits.take(Some(&caller.principal));
    let permit = permit.ok_or_else(Problem::too_many_streams)?;
    let reader = Reader::Caller { principal: Box::new(caller.principal), _permit: permit };
    let feed = Feed::new(app, &streams, reader, EventFilter { after, ..filter });
    Ok(respond(&req, feed))
}

/// Does the same for the control socket, which may also ask for the `last` events. With
/// `follow=false`, the stream ends with the newest event.
pub async fn stream_to_operator(
    app: web::Data<Keyward>,
    streams: web::Data<Streams>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&req);
    let start = read_start(&mut query, &req)?;
    let last = query.take("last", "a whole number", seq_of).map(Start::Last);
    let follow = query.take("follow", "true or false", |it| it.parse().ok()).unwrap_or(true);
    query.finish()?;
    let (after, newest) = locate(&app, last.unwrap_or(start)).await?;
    let filter = EventFilter { after, ..EventFilter::default() };
    let mut feed = Feed::new(app, &streams, Reader::Operator, filter);
    if !follow {
        feed.end_at(newest);
    }
    Ok(respond(&req, feed))
}

/// Returns the start that the client asks for. The header takes precedence over the parameter: on a
/// reconnect, a browser repeats the address unchanged and sets the header.
fn read_start(query: &mut Query, req: &HttpRequest) -> Result<Start, Problem> {
    let after = query.take("after", "a whole number", seq_of);
    let mut given = req.headers().get_all(&LAST_EVENT_ID);
    let header = given.next();
    if given.next().is_some() {
        let detail = format!("the header {LAST_EVENT_ID} must not be given twice");
        return Err(Problem::bad_request("duplicate_header", detail));
    }
    let seen = header.and_then(|it| it.to_str().ok()).and_then(seq_of);
    if header.is_some() && seen.is_none() {
        query.fault("Last-Event-ID", "invalid_format", "must be the id of an event");
    }
    let seen = seen.map(|it| Start::After(it, "/Last-Event-ID"));
    let after = after.map(|it| Start::After(it, "/after"));
    Ok(seen.or(after).unwrap_or(Start::Now))
}

/// Returns the event after which the stream begins, and the newest event. Reads the file: a client that
/// has just read an event from it may come back before the writer announces that event.
async fn locate(app: &web::Data<Keyward>, start: Start) -> Result<(i64, i64), Problem> {
    let newest = run(app, Keyward::newest_event).await?;
    let after = match start {
        Start::After(seq, given_as) if newest < seq => {
            let detail = "is beyond the end of the log; an older copy may have been put in place";
            return Err(Problem::invalid(Fault::new(given_as, "out_of_range", detail)));
        }
        Start::After(seq, _) => seq,
        Start::Now => newest,
        Start::Last(count) => newest.saturating_sub(count).max(0),
    };
    Ok((after, newest))
}

fn respond(req: &HttpRequest, feed: Feed) -> HttpResponse {
    let mut response = HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .force_close() // Every client sees the end of a connection.
        .streaming(EventStream::of(feed));
    if req.version() < Version::HTTP_11 {
        response.head_mut().no_chunking(true); // RFC 9112, 6.1
    }
    response
}

const EXAMPLE: &str = r#"retry: 2000
id: 11

id: 12
event: api_key.revoked
data: {"seq":12,"time":"2026-01-20T10:00:00.000Z","type":"api_key.revoked","accountId":"acct_01KYq8Zt3mV5xW7aBcDeFg","actor":{"type":"key","keyId":"key_01KYq8Zt3mV5xW7aBcDeFg","keyPrefix":"rg_8fK2mQ9zT","accountId":"acct_01KYq8Zt3mV5xW7aBcDeFg"},"subject":"key_01KYq8Zt3mV5xW7aBcDeFh","requestId":"req_5f3a9c0100000000002a","clientIp":"203.0.113.7","data":{},"prevHash":"6f5902ac237024bdd0c176cb93063dc4f9b4b2c6b8a6a2f1c2f3d6e0a7c1b2d3","hash":"9e107d9d372bb6826bd81d3542a419d6e277252d0a3b1c4f5e6d7c8b9a0f1e2d"}

"#;
