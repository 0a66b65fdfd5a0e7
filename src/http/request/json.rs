//! JSON as it comes in: strict, and with every fault reported, not just the first.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{domain::text::masked, service::Fault};

/// How deep arrays and objects may nest.
const MAX_DEPTH: usize = 32;

/// Why a body is not JSON, in words that do not repeat it.
#[derive(Debug)]
pub struct NotJson(pub String);

/// Reads a document in which no member occurs twice and nothing nests too deeply.
pub fn parse(bytes: &[u8]) -> Result<Value, NotJson> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(NotJson("the body is not UTF-8".to_owned()));
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }.deserialize(&mut reader);
    value.and_then(|it| reader.end().map(|()| it)).map_err(|err| {
        // serde's own sentences may quote the text; ours never do.
        let told = if err.is_data() { err.to_string() } else { "the body is not JSON".to_owned() };
        let sentence = told.split(" at line ").next().unwrap_or_default();
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

/// A member of a body: not there, there to clear something, or there with a value.
#[derive(Debug)]
pub enum Given<T> {
    Absent,
    Null,
    Value(T),
}

impl<T> Given<T> {
    /// The value; an explicit null counts as absent.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(it) => Some(it),
            Self::Absent | Self::Null => None,
        }
    }
}

/// The members of a body, taken one by one; what is wrong with any of them is collected.
#[derive(Debug, Default)]
pub struct Members {
    members: Map<String, Value>,
    pub faults: Vec<Fault>,
}

impl Members {
    pub fn new(body: Value) -> Self {
        let mut faults = Vec::new();
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

    /// With the faults that the rest of the request has, before those of the body.
    #[must_use]
    pub fn with(mut self, faults: Vec<Fault>) -> Self {
        self.faults.splice(0..0, faults);
        self
    }

    /// Takes a member; `read` says whether it has the right type, which `expected` names.
    pub fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Given<T> {
        match self.members.shift_remove(name) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(value) => read(value).map_or_else(
                || {
                    self.fault(name, "invalid_type", format!("must be {expected}"));
                    Given::Absent
                },
                Given::Value,
            ),
        }
    }

    pub fn string(&mut self, name: &str) -> Given<String> {
        self.take(name, "a string", |it| match it {
            Value::String(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        })
    }

    pub fn bool(&mut self, name: &str) -> Given<bool> {
        self.take(name, "true or false", |it| it.as_bool())
    }

    pub fn integer(&mut self, name: &str) -> Given<i64> {
        self.take(name, "a whole number", |it| it.as_i64().or_else(|| whole(it.as_f64()?)))
    }

    pub fn object(&mut self, name: &str) -> Given<Map<String, Value>> {
        self.take(name, "an object", |it| match it {
            Value::Object(members) => Some(members),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => None,
        })
    }

    pub fn array(&mut self, name: &str) -> Given<Vec<Value>> {
        self.take(name, "an array of strings", |it| match it {
            Value::Array(items) => Some(items),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => None,
        })
    }

    pub fn fault(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        self.faults.push(Fault::new(format!("/{}", escaped(name)), code, detail));
    }

    /// Refuses null where it means nothing.
    pub fn not_null<T>(&mut self, name: &str, given: Given<T>) -> Option<T> {
        if let Given::Null = given {
            self.fault(name, "not_nullable", "must not be null");
        }
        given.value()
    }

    /// As [`Members::not_null`], and the member must be there.
    pub fn required<T>(&mut self, name: &str, given: Given<T>) -> Option<T> {
        let faulty = self.faults.iter().any(|it| it.pointer == format!("/{name}"));
        if let (Given::Absent, false) = (&given, faulty) {
            self.fault(name, "required", "is required");
        }
        self.not_null(name, given)
    }

    /// Whatever was not taken is unknown; then, if nothing is wrong, what was read.
    pub fn finish<T>(mut self, read: Option<T>) -> Result<T, Vec<Fault>> {
        let unknown: Vec<String> = self.members.keys().cloned().collect();
        for name in unknown {
            self.fault(&name, "unknown_field", "is not a member that is known here");
        }
        match read {
            Some(it) if self.faults.is_empty() => Ok(it),
            Some(_) | None => Err(self.faults),
        }
    }
}

/// A number that was written with a fraction or an exponent but is a whole one, which is what JSON
/// Schema calls an integer (2020-12, core, 4.2.3).
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within what both types hold")]
    let whole = (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64);
    whole
}

/// A name as a part of a JSON pointer (RFC 6901), without anything that looks like a key, and no
/// longer than is good for an answer.
fn escaped(name: &str) -> String {
    let short: String = masked(name).chars().take(100).collect();
    short.replace('~', "~0").replace('/', "~1")
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
        let name = members.string("name");
        let name = members.required("name", name);
        let enabled = members.bool("enabled");
        members.not_null("enabled", enabled);
        let scopes = members.array("scopes");
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
