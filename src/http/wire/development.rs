//! Development mode on the wire. The API document does not contain it.

use std::time::Duration;

use serde::Serialize;

use crate::{
    env::Timestamp,
    http::{
        request::json::Members,
        wire::fields::{read_instant, read_number},
    },
    service::{Faults, SampleKey},
};

/// The longest move of the clock at once, in seconds: a hundred years.
const LONGEST_MOVE: u64 = 100 * 365 * 24 * 60 * 60;

/// Where a request moves the clock.
#[derive(Clone, Copy, Debug)]
pub enum ClockMove {
    To(Timestamp),
    By(Duration),
}

/// The time of the server.
#[derive(Debug, Serialize)]
pub struct ClockBody {
    pub now: String,
}

/// The sample keys.
#[derive(Debug, Serialize)]
pub struct SampleListBody<'a> {
    data: Vec<SampleBody<'a>>,
}

/// A sample key, a request to verify it, and the `code` of the answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SampleBody<'a> {
    name: &'static str,
    about: &'static str,
    /// The external identifier of the account.
    account: Option<&'static str>,
    key: &'a str,
    request: QuestionBody<'a>,
    code: &'static str,
}

#[derive(Debug, Serialize)]
struct QuestionBody<'a> {
    key: &'a str,
    scopes: &'a [String],
}

impl<'a> SampleListBody<'a> {
    pub fn new(samples: &'a [SampleKey]) -> Self {
        let body = |it: &'a SampleKey| SampleBody {
            name: it.name,
            about: it.about,
            account: it.account,
            key: &it.key,
            request: QuestionBody { key: &it.key, scopes: &it.scopes },
            code: it.verdict.as_str(),
        };
        Self { data: samples.iter().map(body).collect() }
    }
}

/// Reads where to move the clock: `now` or `advanceSeconds`.
pub fn read_clock_move(mut members: Members) -> Result<ClockMove, Faults> {
    let to = members.optional("now", |it: String| read_instant(&it)).map(ClockMove::To);
    let by = members.optional("advanceSeconds", |it| read_number(it, &(0..=LONGEST_MOVE)));
    let by = by.map(|it| ClockMove::By(Duration::from_secs(it)));
    if to.is_some() && by.is_some() {
        let detail = "must not be given together with `now`";
        members.fault("advanceSeconds", "invalid_combination", detail);
    }
    let wanted = to.or(by);
    if wanted.is_none() && members.faults.is_empty() {
        members.fault("now", "required", "is required, or else `advanceSeconds`");
    }
    members.finish(wanted)
}
