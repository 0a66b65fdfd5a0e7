//! Answers that are long: lists page by page, and bodies that are handed over in pieces.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    http::header,
    web::{self, Bytes},
};
use serde::Serialize;

use crate::{
    http::{
        blocking::run,
        problem::Problem,
        request::query,
        stream_limits::{StreamPermit, Streams},
    },
    service::{Error, Keyward, Principal},
};

/// A page ends before it is longer, with any `limit`, in bytes.
const LONGEST_PAGE: usize = 1024 * 1024;
/// A longer answer takes a place while its client has not taken it, in bytes.
const LONG: usize = 64 * 1024;
/// What the connection is handed at a time, in bytes: it copies it.
const PIECE: usize = 16 * 1024;
/// Rows that are in memory at a time.
const ROWS: u32 = 128;

/// A body that needs no copy but of the piece that is being sent.
pub(super) struct InPieces {
    rest: Bytes,
    _place: Option<StreamPermit>,
}

impl InPieces {
    pub fn of(body: Bytes) -> Self {
        Self { rest: body, _place: None }
    }

    /// Refused if too many long answers wait for their clients already.
    pub fn in_place(
        body: Bytes,
        streams: &Streams,
        caller: Option<&Principal>,
    ) -> Result<Self, Problem> {
        if body.len() <= LONG {
            return Ok(Self::of(body));
        }
        let place = streams.long_answers.take(caller).ok_or_else(Problem::too_many_answers)?;
        Ok(Self { rest: body, _place: Some(place) })
    }

    /// Refuses as [`InPieces::in_place`] would, before the work is done for nothing.
    pub fn expect_place(streams: &Streams, caller: Option<&Principal>) -> Result<(), Problem> {
        if streams.long_answers.has_place(caller) {
            return Ok(());
        }
        Err(Problem::too_many_answers())
    }
}

impl MessageBody for InPieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let length = self.rest.len().min(PIECE);
        Poll::Ready((length != 0).then(|| Ok(self.rest.split_to(length))))
    }
}

/// Answers with a page: at most `limit` rows, and at most [`LONGEST_PAGE`].
///
/// `read` returns the rows after the one that it is given, or the first ones, and at most so many;
/// `show` is their JSON, `cursor` marks a row as the last of a page.
pub(super) async fn page<T: Send + 'static, Shown: Serialize>(
    app: &web::Data<Keyward>,
    caller: &Principal,
    req: &HttpRequest,
    limit: u32,
    read: impl Fn(&Keyward, Option<&T>, u32) -> Result<Vec<T>, Error> + Send + 'static,
    show: impl Fn(&Keyward, &T) -> Shown + Send + 'static,
    cursor: fn(&T) -> String,
) -> Result<HttpResponse, Problem> {
    let streams = req.app_data::<web::Data<Streams>>().ok_or_else(Problem::internal)?;
    let turn = streams.writing.acquire().await;
    InPieces::expect_place(streams, Some(caller))?;
    let (text, next) = run(app, move |app| {
        let read = |last: Option<&T>, count| read(app, last, count);
        let show = |row: &T| show(app, row);
        written(limit, read, show, cursor)
    })
    .await?;
    drop(turn);
    let body = InPieces::in_place(text.into(), streams, Some(caller))?;
    let mut response = HttpResponse::Ok();
    if let Some(next) = next {
        response.insert_header((header::LINK, query::next_link(req, &next)));
    }
    Ok(response.content_type("application/json").body(body))
}

/// `{"data":[…],"nextCursor":…}`, and the cursor.
fn written<T, Shown: Serialize>(
    limit: u32,
    read: impl Fn(Option<&T>, u32) -> Result<Vec<T>, Error>,
    show: impl Fn(&T) -> Shown,
    cursor: fn(&T) -> String,
) -> Result<(Vec<u8>, Option<String>), Error> {
    let mut text = b"{\"data\":[".to_vec();
    let (mut told, mut last, mut next) = (0, None, None);
    'rows: loop {
        // One more than may be told shows whether there is another page.
        let count = ROWS.min(limit - told + 1);
        let rows = read(last.as_ref(), count)?;
        let there_may_be_more = count as usize <= rows.len();
        for row in rows {
            let before = text.len();
            if last.is_some() {
                text.push(b',');
            }
            json(&mut text, &show(&row));
            if last.is_some() && (told == limit || LONGEST_PAGE < text.len()) {
                text.truncate(before);
                next = last.as_ref().map(cursor);
                break 'rows;
            }
            told += 1;
            last = Some(row);
        }
        if !there_may_be_more {
            break;
        }
    }
    text.extend_from_slice(b"],\"nextCursor\":");
    json(&mut text, &next);
    text.extend_from_slice(b"}\n");
    Ok((text, next))
}

fn json(text: &mut Vec<u8>, value: &impl Serialize) {
    // The types of answers all have a JSON form, and a vector takes it.
    let _ = serde_json::to_writer(text, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(limit: u32, row: &str, rows: usize) -> Vec<usize> {
        let (mut pages, mut start) = (Vec::new(), 0);
        loop {
            let read = |last: Option<&usize>, count: u32| {
                let first = last.map_or(start, |it| it + 1);
                Ok((first..rows.min(first + count as usize)).collect())
            };
            let page = written(limit, read, |_| row, usize::to_string).unwrap();
            let (text, next) = page;
            assert!(text.len() < LONGEST_PAGE + 100);
            let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap();
            pages.push(parsed["data"].as_array().unwrap().len());
            match next {
                Some(last) => start = last.parse::<usize>().unwrap() + 1,
                None => return pages,
            }
        }
    }

    #[test]
    fn a_page_ends_with_its_limit_or_with_its_bytes_and_loses_nothing() {
        assert_eq!(pages(1000, "", 0), [0]);
        assert_eq!(pages(1, "", 3), [1, 1, 1]);
        assert_eq!(pages(127, "", 256), [127, 127, 2]);
        assert_eq!(pages(128, "", 256), [128, 128]);
        assert_eq!(pages(1000, "", 1000), [1000]);
        assert_eq!(pages(1000, "", 1001), [1000, 1]);
        let large = "x".repeat(10_000);
        assert_eq!(pages(1000, &large, 250), [104, 104, 42]);
        assert_eq!(pages(50, &large, 120), [50, 50, 20]);
    }
}
