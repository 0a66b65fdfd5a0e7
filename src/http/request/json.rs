//! Strict reading of JSON, which reports all faults up to a limit, and not just the first.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    domain::{json::MAX_DEPTH, text::quotable},
    http::request::query::MAX_NAME_CHARS,
    service::{Fault, Faults},
};

/// Why a body is not JSON. Never quotes the body.
#[derive(Debug)]
pub struct NotJson(pub String);

/// Parses a document in which no member occurs twice and nothing nests too deeply.
pub fn parse(bytes: &[u8]) -> Result<Value, NotJson> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(NotJson("the body is not UTF-8".to_owned()));
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }.deserialize(&mut reader);
    value.and_then(|it| reader.end().map(|()| it)).map_err(|err| {
        // The sentences of serde may quote the text; ours never do.
        let sentence =
            if err.is_data() { err.to_string() } else { "the body is not JSON".to_owned() };
        let sentence = sentence.split(" at line ").next().unwrap_or_default();
        NotJson(format!("{sentence} (line {}, column {})", err.line(), err.column()))
    })
}

struct Strict {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if MAX_DEPTH <= self.depth {
            return Err(E::custom(format!("the body nests deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_string<E>(self, it: String) -> Result<Value, E> {
        Ok(Value::String(it))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper::<A::Error>()?)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.deeper::<A::Error>()?)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member occurs twice in one object"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// A JSON type that a member can have.
pub trait MemberType: DeserializeOwned {
    /// The end of the sentence "must be …".
    const EXPECTED: &str;

    fn from_json(value: Value) -> Option<Self> {
        serde_json::from_value(value).ok()
    }
}

impl MemberType for String {
    const EXPECTED: &str = "a string";
}

impl MemberType for bool {
    const EXPECTED: &str = "true or false";
}

impl MemberType for Map<String, Value> {
    const EXPECTED: &str = "an object";
}

impl MemberType for Vec<Value> {
    const EXPECTED: &str = "an array of strings";
}

impl MemberType for i64 {
    const EXPECTED: &str = "a whole number";

    fn from_json(value: Value) -> Option<Self> {
        value.as_i64().or_else(|| whole(value.as_f64()?))
    }
}

/// Returns a value of the right JSON type as it is: every such value is good.
pub fn as_it_is<J>(value: J) -> Result<J, Faults> {
    Ok(value)
}

/// The members of a body, which are taken one by one. Their faults are collected.
#[derive(Debug, Default)]
pub struct Members {
    members: Map<String, Value>,
    pub faults: Faults,
}

impl Members {
    pub fn new(body: Value) -> Self {
        let mut faults = Faults::default();
        let members = match body {
            Value::Object(members) => members,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                faults.push(Fault::new("", "invalid_type", "the body must be a JSON object"));
                Map::new()
            }
        };
        Self { members, faults }
    }

    /// Adds the faults of the rest of the request before those of the body.
    #[must_use]
    pub fn with(mut self, mut faults: Faults) -> Self {
        faults.extend(self.faults);
        self.faults = faults;
        self
    }

    /// Returns whether a member of this name was given and not yet taken.
    pub fn holds(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Takes a member that cannot be null. Returns `None` if it is absent or at fault.
    ///
    /// `read` parses a value of the right JSON type. The pointers of its faults start at the value.
    pub fn optional<J: MemberType, T, E: Into<Faults>>(
        &mut self,
        name: &str,
        read: impl FnOnce(J) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.nullable(name, read)?;
        if value.is_none() {
            self.fault(name, "not_nullable", "must not be null");
        }
        value
    }

    /// Takes a member as [`Members::optional`] does; null is `Some(None)`.
    pub fn nullable<J: MemberType, T, E: Into<Faults>>(
        &mut self,
        name: &str,
        read: impl FnOnce(J) -> Result<T, E>,
    ) -> Option<Option<T>> {
        let value = self.members.shift_remove(name)?;
        if value.is_null() {
            return Some(None);
        }
        let Some(typed) = J::from_json(value) else {
            self.fault(name, "invalid_type", format!("must be {}", J::EXPECTED));
            return None;
        };
        let below = |it: Fault| Fault { pointer: format!("/{name}{}", it.pointer), ..it };
        match read(typed) {
            Ok(it) => Some(Some(it)),
            Err(faults) => {
                self.faults.extend(faults.into().into_iter().map(below));
                None
            }
        }
    }

    /// Refuses the absence of a member that [`Members::optional`] has taken.
    pub fn required<T>(&mut self, name: &str, taken: Option<T>) -> Option<T> {
        let at = format!("/{name}");
        let below = |it: &str| it.is_empty() || it.starts_with('/');
        let is_about = |it: &Fault| it.pointer.strip_prefix(&at).is_some_and(below);
        if taken.is_none() && !self.faults.iter().any(is_about) {
            self.fault(name, "required", "is required");
        }
        taken
    }

    pub fn fault(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        self.faults.push(Fault::new(format!("/{}", escaped(name)), code, detail));
    }

    /// Returns what was read, or all faults. Every member that was not taken is a fault.
    pub fn finish<T>(mut self, read: Option<T>) -> Result<T, Faults> {
        for (name, _) in std::mem::take(&mut self.members) {
            if self.faults.is_full() {
                break;
            }
            self.fault(&name, "unknown_field", "is not a member of this body");
        }
        match read {
            Some(it) if self.faults.is_empty() => Ok(it),
            Some(_) | None => Err(self.faults),
        }
    }
}

/// Returns a whole number that was written with a fraction or an exponent, which JSON Schema calls an
/// integer, too (2020-12, core, 4.2.3).
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within what both types hold")]
    let whole = (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64);
    whole
}

/// Returns a name as a part of a JSON pointer (RFC 6901), with every key masked and its length limited.
fn escaped(name: &str) -> String {
    quotable(name, MAX_NAME_CHARS).replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_strict_json_is_refused_without_being_repeated() {
        for bad in [
            "",
            "{",
            "{\"a\":1,}",
            "{\"a\":1} x",
            "nul",
            "'a'",
            "{\"a\":1e999}",
            "[1,]",
            "\u{feff}{}",
        ] {
            let NotJson(why) = parse(bad.as_bytes()).unwrap_err();
            assert!(why.starts_with("the body is not JSON"), "{bad}: {why}");
        }
        let NotJson(why) = parse(br#"{"a": {"secret": 1, "secret": 2}}"#).unwrap_err();
        assert!(why.starts_with("a member occurs twice"), "{why}");
        let NotJson(why) = parse(b"{\"a\": \"\xff\"}").unwrap_err();
        assert_eq!(why, "the body is not UTF-8");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        let NotJson(why) = parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(why.starts_with("the body nests deeper than 32 levels"), "{why}");
        assert!(parse(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let body = parse(br#"{"name": 1, "enabled": null, "a/b": 2}"#).unwrap();
        let mut members = Members::new(body);
        let name = members.optional("name", as_it_is::<String>);
        let name = members.required("name", name);
        members.optional("enabled", as_it_is::<bool>);
        let scopes = members.optional("scopes", as_it_is::<Vec<_>>);
        members.required("scopes", scopes);
        let faults = members.finish(name).unwrap_err();
        let told: Vec<_> = faults.iter().map(|it| (it.pointer.as_str(), it.code)).collect();
        assert_eq!(
            told,
            [
                ("/name", "invalid_type"),
                ("/enabled", "not_nullable"),
                ("/scopes", "required"),
                ("/a~1b", "unknown_field"),
            ]
        );
    }
}
