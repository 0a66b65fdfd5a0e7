//! The answers of keyward: a status and a body, or a stream of lines.

use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::error::Error;

/// The path of the API.
pub(super) const API: &str = "/api/v1";

/// The status of an answer, and its body.
pub(crate) type Answer = (u16, Zeroizing<Vec<u8>>);

/// The lines of an answer as they come, until the connection is over.
pub(crate) type Lines = Box<dyn Iterator<Item = String>>;

/// Reads the body of an answer as JSON.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|err| Error::Control(err.into()))
}

/// Returns the error for a problem document: its detail, and each fault on a line of its own.
pub(crate) fn refusal(status: u16, body: &[u8]) -> Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |of: &Value, member: &str| of[member].as_str().unwrap_or_default().to_owned();
    let mut says = match text(&problem, "detail") {
        it if it.is_empty() => format!("status {status}"),
        it => it,
    };
    for fault in problem["errors"].as_array().into_iter().flatten() {
        let (pointer, detail) = (text(fault, "pointer"), text(fault, "detail"));
        says = format!("{says}\n  {}: {detail}", pointer.trim_start_matches('/'));
    }
    match status {
        401 | 403 => Error::Denied(says),
        404 => Error::Absent(says),
        503 => Error::Busy(says),
        _ => Error::Refused(says),
    }
}
