//! `ETag` and `If-Match`: the revision of a key or an account.

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderValue},
};

use crate::service::Error;

pub(super) fn entity_tag(revision: i64) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{revision}\""))
}

/// The revision that a change is meant for, if the client names any; refused if it is another.
///
/// Strong comparison (RFC 9110, 8.8.3.2): a weak tag never matches.
pub(super) fn expected_revision(req: &HttpRequest, revision: i64) -> Result<Option<i64>, Error> {
    let Some(wanted) = req.headers().get(header::IF_MATCH) else { return Ok(None) };
    let (_, tag) = entity_tag(revision);
    let names = |it: &HeaderValue| {
        it.to_str().is_ok_and(|it| it.split(',').map(str::trim).any(|it| it == tag || it == "*"))
    };
    if names(wanted) { Ok(Some(revision)) } else { Err(Error::PreconditionFailed) }
}
