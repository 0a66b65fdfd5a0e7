//! Members that several requests have in common, and the JSON form of enums.

use std::{borrow::Cow, fmt::Display, ops::RangeInclusive};

use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{AdditionalProperties, Object, ObjectBuilder},
    },
};

use crate::{
    domain::{
        scope::{Catalogue, Scope, ScopeSet},
        text::{InvalidText, Metadata, Name, quotable},
    },
    env::{InvalidTimestamp, Timestamp},
    http::request::json::Members,
    service::{Fault, Faults},
};

/// Declares the JSON form of an enum of the domain: its names, in answers and in the API document.
macro_rules! enum_body {
    (
        $(#[doc = $doc:literal])+
        pub struct $Body:ident($Enum:ty) as $schema:literal $(, example = $example:expr)?;
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug)]
        pub struct $Body($Enum);

        impl From<$Enum> for $Body {
            fn from(it: $Enum) -> Self {
                Self(it)
            }
        }

        impl serde::Serialize for $Body {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.0.as_str())
            }
        }

        impl utoipa::PartialSchema for $Body {
            #[expect(deprecated, reason = "the derive writes `example`, not `examples`")]
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let example = None::<$Enum>$(.or(Some($example)))?;
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .description(Some(concat!($($doc, "\n"),+).replace("\n ", "\n").trim()))
                    .enum_values(Some(<$Enum>::ALL.map(<$Enum>::as_str)))
                    .example(example.map(|it| it.as_str().into()))
                    .into()
            }
        }

        impl utoipa::ToSchema for $Body {
            fn name() -> std::borrow::Cow<'static, str> {
                $schema.into()
            }
        }
    };
}

pub(super) use enum_body;

/// The schema of metadata, for all objects that have some.
pub(super) struct MetadataBody;

impl PartialSchema for MetadataBody {
    #[expect(deprecated, reason = "the derive writes `example`, not `examples`")]
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("Your own data. keyward stores and returns it but never reads it."))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .max_properties(Some(Metadata::MAX_MEMBERS))
            .example(Some(json!({"team": "billing"})))
            .into()
    }
}

impl ToSchema for MetadataBody {
    fn name() -> Cow<'static, str> {
        "Metadata".into()
    }
}

/// Returns the schema of an update: the members of `T`, none of them required.
pub(super) fn update_of<T: PartialSchema>() -> Object {
    let RefOr::T(Schema::Object(mut update)) = T::schema() else { return Object::new() };
    update.required.clear();
    update.description =
        Some("The members to change. Members that are left out keep their values.".to_owned());
    update
}

impl From<InvalidText> for Faults {
    fn from(err: InvalidText) -> Self {
        Fault::new("", err.code(), err.to_string()).into()
    }
}

pub(super) fn read_name(members: &mut Members) -> Option<Name> {
    members.optional("name", |it: String| Name::parse(&it))
}

pub(super) fn read_metadata(members: &mut Members) -> Option<Metadata> {
    let read = |it: Map<String, Value>| Metadata::parse(&it);
    members.nullable("metadata", read).map(|it| it.unwrap_or_else(Metadata::empty))
}

pub(super) fn read_instant(text: &str) -> Result<Timestamp, Faults> {
    Timestamp::parse(text).map_err(|err| {
        let code = match err {
            InvalidTimestamp::Syntax | InvalidTimestamp::NoSuchDate => "invalid_format",
            InvalidTimestamp::OutOfRange => "out_of_range",
        };
        Fault::new("", code, err.to_string()).into()
    })
}

/// Reads a whole number that must lie in `range`.
pub(super) fn read_number<N: TryFrom<i64> + PartialOrd + Display>(
    number: i64,
    range: &RangeInclusive<N>,
) -> Result<N, Faults> {
    N::try_from(number).ok().filter(|it| range.contains(it)).ok_or_else(|| {
        let detail = format!("must be from {} to {}", range.start(), range.end());
        Fault::new("", "out_of_range", detail).into()
    })
}

/// Reads an array of scopes, each of which must be in the catalogue or in `held`, the scopes that
/// the key or account has already.
pub(super) fn read_scopes(
    items: &[Value],
    catalogue: &Catalogue,
    held: Option<&ScopeSet>,
) -> Result<ScopeSet, Faults> {
    let known = |text: &str| {
        let scope = Scope::parse(text).ok()?;
        let held = held.is_some_and(|held| held.contains(&scope));
        (held || catalogue.find(text).is_some()).then_some(scope)
    };
    let (scopes, mut faults) = each_scope(items, catalogue, known);
    if items.is_empty() {
        faults.push(Fault::new("", "out_of_range", "must name at least one scope"));
    }
    match ScopeSet::new(scopes) {
        Some(scopes) if faults.is_empty() => Ok(scopes),
        Some(_) | None => Err(faults),
    }
}

/// How many faults about scopes suggest similar scopes. A search for similar ones compares with the
/// whole catalogue.
const MOST_SUGGESTIONS: usize = 10;

/// Returns what `find` finds for each scope, and a fault for each item for which it finds nothing.
pub(super) fn each_scope<T>(
    items: &[Value],
    catalogue: &Catalogue,
    find: impl Fn(&str) -> Option<T>,
) -> (Vec<T>, Faults) {
    let (mut found, mut faults) = (Vec::with_capacity(items.len()), Faults::default());
    for (i, item) in items.iter().enumerate() {
        if faults.is_full() {
            break;
        }
        let (code, detail) = match item.as_str().map(|it| find(it).ok_or(it)) {
            Some(Ok(scope)) => {
                found.push(scope);
                continue;
            }
            Some(Err(text)) if faults.len() < MOST_SUGGESTIONS => {
                ("unknown_scope", unknown_scope(catalogue, text))
            }
            Some(Err(text)) => ("unknown_scope", no_such_scope(text)),
            None => ("invalid_type", "must be a string".to_owned()),
        };
        faults.push(Fault::new(format!("/{i}"), code, detail));
    }
    (found, faults)
}

/// Returns the sentence about a scope that is not in the catalogue.
pub fn unknown_scope(catalogue: &Catalogue, text: &str) -> String {
    match catalogue.nearest(text)[..] {
        [] => no_such_scope(text),
        ref near => {
            let short = quotable(text, Scope::MAX_LEN);
            format!("there is no scope `{short}`; did you mean {}?", near.join(" or "))
        }
    }
}

fn no_such_scope(text: &str) -> String {
    let short = quotable(text, Scope::MAX_LEN);
    format!("there is no scope `{short}`; GET /api/v1/scopes lists all scopes")
}
