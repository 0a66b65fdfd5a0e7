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
pub fn expected_revision(req: &HttpRequest, revision: i64) -> Result<Option<i64>, Error> {
    let Some(wanted) = req.headers().get(header::IF_MATCH) else { return Ok(None) };
    let wanted = wanted.as_bytes().trim_ascii();
    if wanted == b"*" {
        return Ok(None);
    }
    let (_, tag) = entity_tag(revision);
    let listed = tags(wanted).is_some_and(|it| it.contains(&tag.as_bytes()));
    if listed { Ok(Some(revision)) } else { Err(Error::PreconditionFailed) }
}

/// Splits a list of entity tags (RFC 9110, 8.8.3). A tag may hold commas. Returns `None` if the list is
/// malformed.
fn tags(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut found, mut rest) = (Vec::new(), list);
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Some(found);
        }
        let quoted = rest.strip_prefix(b"W/").unwrap_or(rest).strip_prefix(b"\"")?;
        let end = quoted.iter().position(|it| matches!(it, b'"' | b' ' | b'\t'))?;
        let after = quoted.get(end..)?.strip_prefix(b"\"")?;
        found.push(rest.get(..rest.len() - after.len())?);
        rest = after.trim_ascii_start();
        if !(rest.is_empty() || rest.starts_with(b",")) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_list_of_tags_is_read_as_the_standard_says() {
        for (value, expected) in [
            ("\"7\"", Some(Some(7))),
            (" \"6\" ,, W/\"7\",\"7\"", Some(Some(7))),
            ("\"x,y\", \"7\"", Some(Some(7))),
            (" * ", Some(None)),
            ("", None),
            ("\"6\"", None),
            ("W/\"7\"", None),
            ("7", None),
            ("\"*\"", None),
            ("\"x,*,y\"", None),
            ("\"x,\"7\",y\"", None),
            ("*, \"6\"", None),
            ("\"7\" \"7\"", None),
            ("\"7\", \"", None),
            ("\"a b\", \"7\"", None),
        ] {
            let request = TestRequest::get().insert_header((header::IF_MATCH, value));
            let found = expected_revision(&request.to_http_request(), 7).ok();
            assert_eq!(found, expected, "{value}");
        }
    }
}
