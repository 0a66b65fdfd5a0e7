//! The scope catalogue as a setting: what ships, and what an operator's scope may look like.

use super::faults::quoted;
use super::settings::text;

/// A scope of the catalogue. `resource:action`, unique, and none of keyward's own.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeSetting {
    pub name: String,
    /// What the scope allows, for the people who choose it: one line.
    pub description: String,
}

pub(super) const MOST: usize = 200;
const LONGEST_NAME: usize = 64;
const LONGEST_DESCRIPTION: usize = 200;

const SHIPPED: [(&str, &str); 9] = [
    ("orders:read", "See orders and their history"),
    ("orders:write", "Create, change and cancel orders"),
    ("products:read", "See products, variants and prices"),
    ("products:write", "Create, change and withdraw products"),
    ("inventory:read", "See stock levels and locations"),
    ("inventory:write", "Adjust stock levels and locations"),
    ("commissions:read", "See commissions and how they were calculated"),
    ("webhooks:read", "See webhook endpoints and their deliveries"),
    ("webhooks:write", "Create, change and remove webhook endpoints"),
];

/// keyward's own scopes: always there, so no catalogue may give them another meaning.
const RESERVED: [&str; 9] = [
    "api-keys:read",
    "api-keys:write",
    "api-keys:rotate",
    "events:read",
    "api-keys:verify",
    "accounts:read",
    "accounts:write",
    "metrics:read",
    "*",
];

impl ScopeSetting {
    pub(super) fn to_toml(&self) -> String {
        let (name, description) = (text(&self.name), text(&self.description));
        format!("\n[[scopes]]\nname = {name}\ndescription = {description}")
    }
}

/// The catalogue of an operator who sets none.
pub(super) fn shipped() -> Vec<ScopeSetting> {
    SHIPPED
        .iter()
        .map(|(name, description)| ScopeSetting {
            name: (*name).to_owned(),
            description: (*description).to_owned(),
        })
        .collect()
}

pub(super) fn check_name(name: &str) -> Result<(), String> {
    if RESERVED.contains(&name) {
        return Err(format!("must not be {}, which is one of keyward's own scopes", quoted(name)));
    }
    let is_word = |it: &str| {
        !it.is_empty() && it.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let sound = name.len() <= LONGEST_NAME
        && name.split_once(':').is_some_and(|(left, right)| is_word(left) && is_word(right));
    if sound {
        return Ok(());
    }
    Err(format!(
        "must look like `orders:read`: lower-case letters, digits and hyphens around one colon, \
         at most {LONGEST_NAME} bytes; not {}",
        quoted(name)
    ))
}

pub(super) fn check_description(description: &str) -> Result<(), String> {
    let length = description.chars().count();
    if description.trim().is_empty() || LONGEST_DESCRIPTION < length {
        return Err(format!("must be 1 to {LONGEST_DESCRIPTION} characters, not {length}"));
    }
    if description.chars().any(char::is_control) {
        return Err("must be one line without control characters".to_owned());
    }
    Ok(())
}
