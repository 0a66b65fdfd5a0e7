//! What only development mode has: a settable clock, the list of the sample keys, and a header on every
//! answer.

use std::{net::IpAddr, sync::Arc};

use actix_web::{
    Error as FrameworkError, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
        uri::Authority,
    },
    middleware::{Next, from_fn},
    web,
};

use crate::{
    env::{Clock, SettableClock, Timestamp},
    http::{
        control::JobRunner,
        problem::Problem,
        request::{body::RequestBody, query::Query},
        system::pages,
        wire::{ClockBody, ClockMove, SampleListBody, read_clock_move},
    },
    service::{Error, Job, Keyward, SampleKey},
};

/// The parts of development mode that its operations use.
#[derive(Debug)]
pub struct Development {
    pub clock: Arc<SettableClock>,
    pub samples: Vec<SampleKey>,
}

/// The name of the mode, in the header and in the log.
pub const MODE: &str = "development";
const MODE_HEADER: HeaderName = HeaderName::from_static("x-keyward-mode");

/// Says in every answer that this is development mode.
pub async fn mark<B>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, FrameworkError> {
    let mut response = next.call(req).await?;
    response.headers_mut().insert(MODE_HEADER, HeaderValue::from_static(MODE));
    Ok(response)
}

/// Refuses a query, and a `Host` that a page of another site could have chosen: its name may resolve to
/// this machine, so a browser would let the page read the answers and move the clock.
async fn guard<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, FrameworkError> {
    let host = req.headers().get(header::HOST);
    let is_local = host.is_none_or(|it| it.to_str().is_ok_and(is_local_name));
    let refused = if is_local {
        Query::of(req.request()).finish().err()
    } else {
        let detail =
            "below /dev, the host must be an IP address, `localhost` or a name without a dot";
        Some(Problem::new(StatusCode::FORBIDDEN, "host_not_allowed", detail))
    };
    Ok(match refused {
        Some(problem) => req.error_response(problem).map_into_right_body(),
        None => next.call(req).await?.map_into_left_body(),
    })
}

/// Returns whether no other site can have this name. Containers reach one another by names without a dot.
fn is_local_name(host: &str) -> bool {
    // A user before the host is for URLs only (RFC 9110, 7.2).
    let Some(authority) = host.parse::<Authority>().ok().filter(|_| !host.contains('@')) else {
        return false;
    };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

/// The operations below `/dev`. They need no key: every key of this server is public.
pub fn routes(cfg: &mut web::ServiceConfig) {
    let other = || async {
        Err::<HttpResponse, _>(Problem::method_not_allowed("GET, HEAD, POST".to_owned()))
    };
    let clock = web::resource("/dev/clock")
        .route(web::get().to(show_clock))
        .route(web::post().to(move_clock))
        .default_service(web::to(other))
        .wrap(from_fn(guard));
    cfg.service(clock);
    let keys = pages::resource("/dev/keys").route(web::get().to(list_samples));
    cfg.service(keys.wrap(from_fn(guard)));
}

async fn show_clock(app: web::Data<Keyward>) -> HttpResponse {
    clock_of(&app)
}

async fn list_samples(development: web::Data<Development>) -> HttpResponse {
    HttpResponse::Ok().json(SampleListBody::new(&development.samples))
}

/// Moves the clock ahead, and runs the jobs that may be due then.
async fn move_clock(
    development: web::Data<Development>,
    app: web::Data<Keyward>,
    jobs: web::Data<JobRunner>,
    body: RequestBody,
) -> Result<HttpResponse, Problem> {
    let clock = &development.clock;
    let wanted = read_clock_move(body.members()?).map_err(Problem::invalid)?;
    let (pointer, goal) = match wanted {
        ClockMove::By(span) => ("/advanceSeconds", clock.wall().after(span)),
        ClockMove::To(instant) => ("/now", instant),
    };
    if !SettableClock::RANGE.contains(&goal) {
        let detail = "the clock shows only the years 2000 to 2499";
        return Err(Error::invalid(pointer, "out_of_range", detail).into());
    }
    match wanted {
        ClockMove::By(span) => clock.advance(span),
        ClockMove::To(instant) => clock.advance_to(instant).map_err(goes_back)?,
    }
    // A job that is not due finds no work. A backup would be made at each call.
    for job in Job::ALL.into_iter().filter(|it| it.runs_at_start()) {
        jobs.0(job).await.ok_or_else(Problem::internal)??;
    }
    Ok(clock_of(&app))
}

fn goes_back(now: Timestamp) -> Problem {
    let detail = format!(
        "the clock shows {now} and never goes back; start `keyward dev` again for an earlier time"
    );
    Error::invalid("/now", "clock_goes_back", detail).into()
}

fn clock_of(app: &Keyward) -> HttpResponse {
    HttpResponse::Ok().json(ClockBody { now: app.env().time.now().to_string() })
}
