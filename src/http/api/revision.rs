//! `ETag` and `If-Match`: the revision of a key or an account.

use actix_web::{HttpRequest, http::header};

use crate::service::Error;

pub(super) fn entity_tag(revision: i64) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{revision}\""))
}

/// Returns the revision that a change is meant for, and `None` if it is meant for any: without
/// `If-Match`, and with `*` (RFC 9110, 13.1.1). 412 if it is meant for another than `revision`.
///
/// Tags are compared strongly (RFC 9110, 8.8.3.2): a weak tag never matches.
pub(super) fn expected_revision(req: &HttpRequest, revision: i64) -> Result<Option<i64>, Error> {
    let Some(wanted) = req.headers().get(header::IF_MATCH) else { return Ok(None) };
    let (_, tag) = entity_tag(revision);
    let names = |it: &str| {
        let listed = wanted.to_str().unwrap_or_default();
        listed.split(',').any(|listed| listed.trim() == it)
    };
    match (names("*"), names(&tag)) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(revision)),
        (false, false) => Err(Error::PreconditionFailed),
    }
}
