//! Long answers: pages of lists, and bodies that are sent in pieces.

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

/// The greatest length of a page in bytes, with any `limit`.
const LONGEST_PAGE: usize = 1024 * 1024;
/// A longer answer, in bytes, takes a permit until its client has received it.
const LONG: usize = 64 * 1024;
/// The length of a piece in bytes. The connection copies each piece.
const PIECE: usize = 16 * 1024;
/// Rows in memory at a time.
const ROWS: u32 = 128;

/// A body of which only the piece that is being sent is copied.
pub(super) struct InPieces {
    rest: Bytes,
    _permit: Option<StreamPermit>,
}

impl InPieces {
    pub fn of(body: Bytes) -> Self {
        Self { rest: body, _permit: None }
    }

    /// Takes a permit if the body is long; 503 if too many long answers wait for their clients already.
    pub fn with_permit(
        body: Bytes,
        streams: &Streams,
        caller: Option<&Principal>,
    ) -> Result<Self, Problem> {
        if body.len() <= LONG {
            return Ok(Self::of(body));
        }
        let permit = streams.long_answers.take(caller).ok_or_else(Problem::too_many_answers)?;
        Ok(Self { rest: body, _permit: Some(permit) })
    }

    /// Returns the error of [`InPieces::with_permit`] in advance, before the body is made in vain.
    pub fn check_permit(streams: &Streams, caller: Option<&Principal>) -> Result<(), Problem> {
        if streams.long_answers.has_permit(caller) {
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

/// How the rows of a list are read and shown.
pub(super) struct List<T, Read, Show> {
    /// The greatest number of rows on the page.
    pub limit: u32,
    /// Returns the rows after the given one, or the first rows, and at most the given number.
    pub read: Read,
    /// Returns the JSON of a row.
    pub show: Show,
    /// Returns the cursor of a page that ends with this row.
    pub cursor: fn(&T) -> String,
    /// The number of rows on all pages, if it was asked for.
    pub total: Option<u64>,
}

/// Answers with a page of the list, of at most [`LONGEST_PAGE`].
pub(super) async fn page<T: Send + 'static, Shown: Serialize>(
    app: &web::Data<Keyward>,
    caller: &Principal,
    req: &HttpRequest,
    list: List<
        T,
        impl Fn(&Keyward, Option<&T>, u32) -> Result<Vec<T>, Error> + Send + 'static,
        impl Fn(&Keyward, &T) -> Shown + Send + 'static,
    >,
) -> Result<HttpResponse, Problem> {
    let List { limit, read, show, cursor, total } = list;
    let streams = req.app_data::<web::Data<Streams>>().ok_or_else(Problem::internal)?;
    let turn = streams.writing.acquire().await;
    InPieces::check_permit(streams, Some(caller))?;
    let (text, next) = run(app, move |app| {
        let read = |last: Option<&T>, count| read(app, last, count);
        let show = |row: &T| show(app, row);
        written(limit, read, show, cursor)
            .map(|(text, next)| (ended(text, next.as_deref(), total), next))
    })
    .await?;
    drop(turn);
    let body = InPieces::with_permit(text.into(), streams, Some(caller))?;
    let mut response = HttpResponse::Ok();
    if let Some(next) = next {
        response.insert_header((header::LINK, query::next_link(req, &next)));
    }
    Ok(response.content_type("application/json").body(body))
}

/// Returns the beginning of the answer, `{"data":[…]`, and the cursor.
fn written<T, Shown: Serialize>(
    limit: u32,
    read: impl Fn(Option<&T>, u32) -> Result<Vec<T>, Error>,
    show: impl Fn(&T) -> Shown,
    cursor: fn(&T) -> String,
) -> Result<(Vec<u8>, Option<String>), Error> {
    let mut text = b"{\"data\":[".to_vec();
    let (mut count, mut last, mut next) = (0, None, None);
    'rows: loop {
        // One row more than may be written shows whether there is another page.
        let wanted = ROWS.min(limit - count + 1);
        let rows = read(last.as_ref(), wanted)?;
        let there_may_be_more = wanted as usize <= rows.len();
        for row in rows {
            let before = text.len();
            if last.is_some() {
                text.push(b',');
            }
            json(&mut text, &show(&row));
            if last.is_some() && (count == limit || LONGEST_PAGE < text.len()) {
                text.truncate(before);
                next = last.as_ref().map(cursor);
                break 'rows;
            }
            count += 1;
            last = Some(row);
        }
        if !there_may_be_more {
            break;
        }
    }
    text.push(b']');
    Ok((text, next))
}

/// Returns `{"data":[…],"nextCursor":…}`, with `total` if it was asked for.
fn ended(mut text: Vec<u8>, next: Option<&str>, total: Option<u64>) -> Vec<u8> {
    text.extend_from_slice(b",\"nextCursor\":");
    json(&mut text, &next);
    if let Some(total) = total {
        text.extend_from_slice(b",\"total\":");
        json(&mut text, &total);
    }
    text.extend_from_slice(b"}\n");
    text
}

fn json(text: &mut Vec<u8>, value: &impl Serialize) {
    // Every type of an answer has a JSON form, and writing to a vector cannot fail.
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
            let text = ended(text, next.as_deref(), None);
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
