//! The scope catalogue as a setting.

use super::{faults::quoted, settings::text};
use crate::domain::{scope::Scope, visible::is_hidden};

/// A scope of the catalogue. It has the form `resource:action`, is unique, and is not one of keyward's own.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeSetting {
    pub name: String,
    /// What the scope allows, on one line, for the people who choose it.
    pub description: String,
}

const LONGEST_DESCRIPTION: usize = 200;

/// The catalogue of an operator who sets none.
const SHIPPED: [(&str, &str); 9] = [
    ("orders:read", "Read order data"),
    ("orders:write", "Create and update orders"),
    ("products:read", "Read product catalog"),
    ("products:write", "Manage products"),
    ("inventory:read", "Read inventory levels"),
    ("inventory:write", "Update inventory"),
    ("commissions:read", "View commissions"),
    ("webhooks:read", "List webhooks"),
    ("webhooks:write", "Manage webhooks"),
];

impl ScopeSetting {
    pub(super) fn to_toml(&self) -> String {
        let (name, description) = (text(&self.name), text(&self.description));
        format!("\n[[scopes]]\nname = {name}\ndescription = {description}")
    }
}

pub(super) fn shipped() -> Vec<ScopeSetting> {
    let scope = |(name, description): (&str, &str)| ScopeSetting {
        name: name.to_owned(),
        description: description.to_owned(),
    };
    SHIPPED.map(scope).into()
}

pub(super) fn check_name(name: &str) -> Result<(), String> {
    match Scope::parse(name) {
        Ok(scope) if scope.is_reserved() => {
            Err(format!("must not be {}, which is one of keyward's own scopes", quoted(name)))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "must look like `orders:read`: lower-case letters, digits and hyphens around one colon, \
             at most {} bytes; not {}",
            Scope::MAX_LEN,
            quoted(name)
        )),
    }
}

pub(super) fn check_description(description: &str) -> Result<(), String> {
    let length = description.chars().count();
    if description.trim().is_empty() || LONGEST_DESCRIPTION < length {
        return Err(format!("must be 1 to {LONGEST_DESCRIPTION} characters, not {length}"));
    }
    if description.chars().any(is_hidden) {
        return Err("must be one line without control or invisible characters".to_owned());
    }
    if !description.chars().any(char::is_alphanumeric) {
        return Err("must say something".to_owned());
    }
    Ok(())
}
