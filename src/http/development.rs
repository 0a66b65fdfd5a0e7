//! What only development mode has: a settable clock, the list of the sample keys, and a header on every
//! answer.

use std::sync::Arc;

use actix_web::{
    Error as FrameworkError, HttpResponse,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderName, HeaderValue},
    middleware::Next,
    web,
};

use crate::{
    env::{Clock, SettableClock, Timestamp},
    http::{
        control::JobRunner,
        problem::Problem,
        request::body::RequestBody,
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

/// The operations below `/dev`. They need no key: every key of this server is public.
pub fn routes(cfg: &mut web::ServiceConfig) {
    let other = || async {
        Err::<HttpResponse, _>(Problem::method_not_allowed("GET, HEAD, POST".to_owned()))
    };
    let clock = web::resource("/dev/clock")
        .route(web::get().to(show_clock))
        .route(web::post().to(move_clock))
        .default_service(web::to(other));
    cfg.service(clock);
    cfg.service(pages::resource("/dev/keys").route(web::get().to(list_samples)));
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
