//! Members that several requests have in common.

use crate::{
    domain::{
        scope::{Catalogue, Scope, ScopeSet},
        text::{Metadata, Name, masked},
    },
    http::request::json::{Given, Members},
};

/// The name, if one was given and is good.
pub(super) fn read_name(members: &mut Members, given: Option<String>) -> Option<Name> {
    match Name::parse(&given?) {
        Ok(name) => Some(name),
        Err(err) => {
            members.fault("name", err.code(), err.to_string());
            None
        }
    }
}

pub(super) fn read_metadata(members: &mut Members) -> Option<Metadata> {
    match members.object("metadata") {
        Given::Absent => None,
        Given::Null => Some(Metadata::empty()),
        Given::Value(object) => match Metadata::parse(&object) {
            Ok(metadata) => Some(metadata),
            Err(err) => {
                members.fault("metadata", err.code(), err.to_string());
                None
            }
        },
    }
}

/// The scopes in `given`, each of which must be in the catalogue or among those that the key has
/// already.
pub(super) fn read_scopes(
    members: &mut Members,
    name: &str,
    given: Option<Vec<serde_json::Value>>,
    catalogue: &Catalogue,
    held: Option<&ScopeSet>,
) -> Option<ScopeSet> {
    let given = given?;
    let mut scopes = Vec::with_capacity(given.len());
    for (i, item) in given.iter().enumerate() {
        let at = |code, detail: String| crate::service::Fault {
            pointer: format!("/{name}/{i}"),
            code,
            detail,
        };
        let Some(text) = item.as_str() else {
            members.faults.push(at("invalid_type", "must be a string".to_owned()));
            continue;
        };
        let scope = Scope::parse(text).ok();
        let known = scope.filter(|it| {
            catalogue.find(it.as_str()).is_some() || held.is_some_and(|held| held.contains(it))
        });
        match known {
            Some(scope) => scopes.push(scope),
            None => members.faults.push(at("unknown_scope", unknown_scope(catalogue, text))),
        }
    }
    if given.is_empty() {
        members.fault(name, "out_of_range", "must name at least one scope");
    }
    ScopeSet::new(scopes)
}

/// The sentence about a scope that is not in the catalogue.
pub fn unknown_scope(catalogue: &Catalogue, text: &str) -> String {
    let short: String = masked(text).chars().take(Scope::MAX_LEN).collect();
    match catalogue.nearest(text)[..] {
        [] => format!("there is no scope `{short}`"),
        ref near => format!("there is no scope `{short}`; did you mean {}?", near.join(" or ")),
    }
}
