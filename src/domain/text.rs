//! Text from clients: names, external ids and metadata. Also hides keys in text that is repeated.

use serde_json::{Map, Value};

pub use crate::domain::mask::{masked, quotable};
use crate::domain::{id::AccountId, mask, visible};

/// The display name of a key or an account: 1 to 100 characters that people can tell apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name(String);

/// The operator's own id of a customer: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalId(String);

/// Where a leaked key was found, such as a URL: 1 to 200 characters, with every key in it masked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location(String);

/// Why a caller revokes a key or deletes an account: 1 to 200 characters that people can tell apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReasonText(String);

/// A JSON object that keyward stores and returns but never reads: at most 50 members and 4 KiB.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Metadata(String);

/// The reason why a text is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidText {
    #[error("must have 1 to {0} characters besides surrounding white space")]
    Length(usize),
    #[error(
        "must not contain characters that are invisible, control the output, or change the text direction"
    )]
    Hidden,
    #[error("must have a visible character")]
    Blank,
    #[error("must be 1 to {} visible ASCII characters", ExternalId::MAX_LEN)]
    NotVisibleAscii,
    #[error("must have at most {} members", Metadata::MAX_MEMBERS)]
    TooManyMembers,
    #[error("must be at most {} bytes of JSON", Metadata::MAX_LEN)]
    TooLong,
    #[error("must not contain anything that looks like an API key")]
    HoldsKey,
}

impl InvalidText {
    /// Returns the stable name of the fault in an answer.
    pub fn code(self) -> &'static str {
        match self {
            Self::Length(_) | Self::TooManyMembers | Self::TooLong => "out_of_range",
            Self::Hidden | Self::Blank | Self::NotVisibleAscii => "invalid_format",
            Self::HoldsKey => "contains_api_key",
        }
    }
}

impl Name {
    pub const MAX_CHARS: usize = 100;

    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        readable(text, Self::MAX_CHARS).map(Self)
    }

    /// Reads a name from a row. It was valid by the rules of its time.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ReasonText {
    pub const MAX_CHARS: usize = 200;

    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        readable(text, Self::MAX_CHARS).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the text without surrounding white space, if people can read all of it.
fn readable(text: &str, max_chars: usize) -> Result<String, InvalidText> {
    if visible::hides_something(text) {
        return Err(InvalidText::Hidden);
    }
    let text = text.trim();
    if text.is_empty() || max_chars < text.chars().count() {
        return Err(InvalidText::Length(max_chars));
    }
    if !text.chars().any(visible::is_visible) {
        return Err(InvalidText::Blank);
    }
    if mask::holds_key(text) {
        return Err(InvalidText::HoldsKey);
    }
    Ok(text.to_owned())
}

impl ExternalId {
    pub const MAX_LEN: usize = 255;

    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let visible = text.bytes().all(|it| it.is_ascii_graphic());
        if !visible || text.is_empty() || Self::MAX_LEN < text.len() {
            return Err(InvalidText::NotVisibleAscii);
        }
        if mask::holds_key(text) {
            return Err(InvalidText::HoldsKey);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns whether a command or an import would take this for the identifier of an account.
    pub fn is_like_account_id(&self) -> bool {
        matches!(&*self.0, "self" | "all") || self.0.starts_with(AccountId::PREFIX)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Location {
    pub const MAX_CHARS: usize = 200;

    /// Masks keys instead of refusing them: a report must not fail because the URL holds the key.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        readable(&masked(text), Self::MAX_CHARS).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Metadata {
    pub const MAX_MEMBERS: usize = 50;
    pub const MAX_LEN: usize = 4096;

    pub fn empty() -> Self {
        Self("{}".to_owned())
    }

    pub fn parse(members: &Map<String, Value>) -> Result<Self, InvalidText> {
        if Self::MAX_MEMBERS < members.len() {
            return Err(InvalidText::TooManyMembers);
        }
        let Ok(text) = serde_json::to_string(members) else { return Err(InvalidText::TooLong) };
        if Self::MAX_LEN < text.len() {
            return Err(InvalidText::TooLong);
        }
        if mask::holds_key(&text) {
            return Err(InvalidText::HoldsKey);
        }
        Ok(Self(text))
    }

    /// Reads metadata from a row.
    pub fn from_stored(text: String) -> Option<Self> {
        (text.starts_with('{') && text.ends_with('}')).then_some(Self(text))
    }

    /// Returns the object as compact JSON.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0 == "{}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_to_a_hundred_visible_characters() {
        let longest = "ü".repeat(100);
        for good in ["a", " padded ", &longest, "Jörgs Schlüssel 🔑"] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good.trim());
        }
        let long = "ü".repeat(101);
        for bad in ["", "   ", &long, "a\nb", "a\u{0}b", "\u{85}", "safe\u{202E}exe", "\u{301}"] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_refused_wherever_it_would_be_stored() {
        let key = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz012345678901";
        assert_eq!(Name::parse(key), Err(InvalidText::HoldsKey));
        assert_eq!(ExternalId::parse(&format!("x-{key}")), Err(InvalidText::HoldsKey));
        assert_eq!(ReasonText::parse(&format!("lost {key}")), Err(InvalidText::HoldsKey));
        let nested = serde_json::json!({ "deep": [{ "a": key }] });
        let members = nested.as_object().unwrap();
        assert_eq!(Metadata::parse(members), Err(InvalidText::HoldsKey));
    }

    #[test]
    fn metadata_is_bounded_in_members_and_in_bytes() {
        let members =
            |n: usize| (0..n).map(|i| (i.to_string(), Value::Null)).collect::<Map<_, _>>();
        assert!(Metadata::parse(&members(50)).is_ok());
        assert_eq!(Metadata::parse(&members(51)), Err(InvalidText::TooManyMembers));
        let long = serde_json::json!({ "a": "x".repeat(4090) });
        assert_eq!(Metadata::parse(long.as_object().unwrap()), Err(InvalidText::TooLong));
    }

    #[test]
    fn an_external_id_is_one_to_255_visible_ascii_characters() {
        let longest = "x".repeat(255);
        for good in ["a", "cust_42", "-", "~!", &longest] {
            assert_eq!(ExternalId::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(256);
        for bad in ["", &long, "a b", " a", "a\t", "\u{7f}", "\u{fc}"] {
            assert_eq!(ExternalId::parse(bad), Err(InvalidText::NotVisibleAscii), "{bad:?}");
        }
    }

    #[test]
    fn a_reason_and_a_location_may_have_200_characters() {
        let (longest, long) = ("\u{fc}".repeat(200), "\u{fc}".repeat(201));
        assert_eq!(ReasonText::parse(&longest).unwrap().as_str(), longest);
        assert_eq!(ReasonText::parse(&long), Err(InvalidText::Length(200)));
        assert_eq!(Location::parse(&longest).unwrap().as_str(), longest);
        assert_eq!(Location::parse(&long), Err(InvalidText::Length(200)));
        let key = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz012345678901";
        let location = Location::parse(&format!("https://example.com/?k={key}")).unwrap();
        assert_eq!(location.as_str(), "https://example.com/?k=rg_8fK2mQ9zT\u{2026}");
    }

    #[test]
    fn metadata_is_read_and_shown_as_an_object() {
        let members = serde_json::json!({ "plan": "pro", "seats": 3 });
        let metadata = Metadata::parse(members.as_object().unwrap()).unwrap();
        assert_eq!(metadata.as_json(), r#"{"plan":"pro","seats":3}"#);
        assert_eq!(metadata.to_value(), members);
        assert!(!metadata.is_empty() && Metadata::empty().is_empty());
        assert_eq!(Metadata::from_stored("{}".to_owned()), Some(Metadata::empty()));
        for wrong in ["", "{", "}", "[]", "{]", "[}", "null"] {
            assert_eq!(Metadata::from_stored(wrong.to_owned()), None, "{wrong}");
        }
    }

    #[test]
    fn metadata_may_have_exactly_4096_bytes() {
        let of = |len: usize| serde_json::json!({ "a": "x".repeat(len - r#"{"a":""}"#.len()) });
        assert!(Metadata::parse(of(4_096).as_object().unwrap()).is_ok());
        assert_eq!(Metadata::parse(of(4_097).as_object().unwrap()), Err(InvalidText::TooLong));
    }

    #[test]
    fn every_refusal_has_its_stable_code() {
        use InvalidText::{
            Blank, Hidden, HoldsKey, Length, NotVisibleAscii, TooLong, TooManyMembers,
        };
        for fault in [Length(1), TooManyMembers, TooLong] {
            assert_eq!(fault.code(), "out_of_range");
        }
        for fault in [Hidden, Blank, NotVisibleAscii] {
            assert_eq!(fault.code(), "invalid_format");
        }
        assert_eq!(HoldsKey.code(), "contains_api_key");
    }
}
