//! The query of a URL, in which every parameter is known, well-formed and given once; and cursors.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::HttpRequest;

use crate::{
    domain::{
        id::{AccountId, KeyId},
        list_order::ListOrder,
        text::{ReasonText, quotable},
    },
    env::Timestamp,
    http::problem::Problem,
    service::{Fault, Faults},
};

pub const MAX_LIMIT: u32 = 1000;
/// The most characters of an unknown name that a fault repeats.
pub(super) const MAX_NAME_CHARS: usize = 100;
/// The greatest length of a text to search for, in characters.
pub const MAX_SEARCH_CHARS: usize = 100;

/// The parameters of a query, which are taken one by one. Their faults are collected.
#[derive(Debug)]
pub struct Query {
    parameters: BTreeMap<String, String>,
    faults: Faults,
}

impl Query {
    pub fn of(req: &HttpRequest) -> Self {
        Self::parse(req.query_string())
    }

    /// Returns the faults of a query that may hold the parameters `known`, whose values are not read.
    pub fn faults_beyond(text: &str, known: &[String]) -> Faults {
        let mut query = Self::parse(text);
        query.parameters.retain(|name, _| !known.contains(name));
        query.refuse_rest();
        query.faults
    }

    fn parse(text: &str) -> Self {
        let mut query = Self { parameters: BTreeMap::new(), faults: Faults::default() };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if query.faults.is_full() {
                break;
            }
            if value.contains('\u{FFFD}') {
                query.fault(&name, "invalid_format", "is not UTF-8");
            }
            if query.parameters.insert(name.to_string(), value.into_owned()).is_some() {
                query.fault(&name, "duplicate", "must not be given twice");
            }
        }
        query
    }

    /// Returns whether a parameter was given and not yet taken.
    pub fn holds(&self, name: &str) -> bool {
        self.parameters.contains_key(name)
    }

    /// Takes a parameter. `read` returns `None` if its value is not what `expected` names.
    pub fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.parameters.remove(name)?;
        let value = read(&text);
        if value.is_none() {
            self.fault(name, "invalid_format", format!("must be {expected}"));
        }
        value
    }

    /// Does the same as [`Query::take`] for a required parameter.
    pub fn required<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if !self.holds(name) {
            self.fault(name, "required", format!("must be given: {expected}"));
        }
        self.take(name, expected, read)
    }

    pub fn limit(&mut self) -> u32 {
        let expected = format!("a whole number from 1 to {MAX_LIMIT}");
        self.take("limit", &expected, |it| {
            let plain = it.bytes().all(|b| b.is_ascii_digit());
            it.parse().ok().filter(|n| plain && (1..=MAX_LIMIT).contains(n))
        })
        .unwrap_or(MAX_LIMIT)
    }

    pub fn instant(&mut self, name: &str) -> Option<Timestamp> {
        self.take(name, "a date and time like 2030-01-31T12:00:00Z", |it| Timestamp::parse(it).ok())
    }

    /// Takes a text to search for, of at most [`MAX_SEARCH_CHARS`].
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.take(name, &format!("1 to {MAX_SEARCH_CHARS} characters"), |it| {
            (1..=MAX_SEARCH_CHARS).contains(&it.chars().count()).then(|| it.to_owned())
        })
    }

    /// Takes `true` or `false`; a parameter that is not given is `false`.
    pub fn flag(&mut self, name: &str) -> bool {
        self.optional_flag(name).unwrap_or(false)
    }

    /// Takes `true` or `false`, if it is given.
    pub fn optional_flag(&mut self, name: &str) -> Option<bool> {
        self.take(name, "true or false", |it| it.parse().ok())
    }

    /// Takes `asc` or `desc`; ascending unless it is given.
    pub fn order(&mut self) -> ListOrder {
        self.take("order", "asc or desc", ListOrder::parse).unwrap_or(ListOrder::Ascending)
    }

    pub fn fault(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        let name = quotable(name, MAX_NAME_CHARS);
        self.faults.push(Fault::new(format!("/{name}"), code, detail));
    }

    /// Refuses every parameter that was not taken.
    pub fn finish(mut self) -> Result<(), Problem> {
        self.refuse_rest();
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }
}

impl Query {
    fn refuse_rest(&mut self) {
        for name in std::mem::take(&mut self.parameters).into_keys() {
            if self.faults.is_full() {
                return;
            }
            self.fault(&name, "unknown_parameter", "is not a parameter of this operation");
        }
    }
}

/// The parameters of the operation, stored with the request. The query is examined only when a handler
/// takes its input: a request whose key is refused costs no more.
pub(super) struct KnownParameters(pub Arc<[String]>);

/// Returns the reason that the caller gives for a deletion, and the faults of that parameter. A
/// `RequestBody` holds the faults of all others.
pub fn reason(req: &HttpRequest) -> (Option<ReasonText>, Faults) {
    let mut query = Query::of(req);
    query.faults = Faults::default();
    let Some(text) = query.parameters.remove("reason") else { return (None, query.faults) };
    match ReasonText::parse(&text) {
        Ok(reason) => (Some(reason), query.faults),
        Err(err) => {
            query.fault("reason", err.code(), err.to_string());
            (None, query.faults)
        }
    }
}

/// Returns the cursor of a page that ends with this row: `v1.` + instant + `.` + identifier. Clients
/// must not parse it.
pub fn cursor(created_at: Timestamp, id: u128) -> String {
    format!("v1.{:x}.{id:032x}", created_at.as_millis())
}

/// As [`cursor`], for a list with the newest row first: no list of the other order takes it.
pub fn descending_cursor(created_at: Timestamp, id: u128) -> String {
    cursor(created_at, id).replacen("v1.", "v1d.", 1)
}

pub fn key_cursor(text: &str, order: ListOrder) -> Option<(Timestamp, KeyId)> {
    let found = match order {
        ListOrder::Ascending => read_cursor(text)?,
        ListOrder::Descending => read_cursor(&format!("v1.{}", text.strip_prefix("v1d.")?))?,
    };
    Some((found.0, KeyId::from_raw(found.1)))
}

pub fn account_cursor(text: &str) -> Option<(Timestamp, AccountId)> {
    read_cursor(text).map(|(at, id)| (at, AccountId::from_raw(id)))
}

fn read_cursor(text: &str) -> Option<(Timestamp, u128)> {
    let (millis, id) = text.strip_prefix("v1.")?.split_once('.')?;
    let millis = i64::from_str_radix(millis, 16).ok()?;
    let found = (Timestamp::from_millis(millis), u128::from_str_radix(id, 16).ok()?);
    (cursor(found.0, found.1) == text).then_some(found)
}

/// Returns the `Link` to the next page: the same address with another cursor.
pub fn next_link(req: &HttpRequest, next: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(req.query_string().as_bytes()) {
        if name != "cursor" {
            query.append_pair(&name, &value);
        }
    }
    query.append_pair("cursor", next);
    format!("<{}?{}>; rel=\"next\"", req.path(), query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_round_trip_and_nothing_else_parses() {
        let mark = (Timestamp::from_millis(1_767_225_600_000), 42);
        let text = cursor(mark.0, mark.1);
        assert_eq!(read_cursor(&text), Some(mark));
        let shouted = text.to_uppercase();
        for bad in ["", "v1..", "v1.1.2", "v2.0.0", &shouted, &format!("{text}0")] {
            assert_eq!(read_cursor(bad), None, "{bad}");
        }
    }
}
