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

/// The nine that ship, in the owner's words.
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

/// Characters that show nothing or turn others around; joiners and variation selectors, which belong in
/// words and emoji, are not among them. The same as `domain::visible` has for names, which a test holds.
fn turns_or_hides(c: char) -> bool {
    matches!(
        c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}' | '\u{200E}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FEFF}'
            | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E00FF}'
            | '\u{E01F0}'..='\u{E0FFF}'
    )
}

pub(super) fn check_description(description: &str) -> Result<(), String> {
    let length = description.chars().count();
    if description.trim().is_empty() || LONGEST_DESCRIPTION < length {
        return Err(format!("must be 1 to {LONGEST_DESCRIPTION} characters, not {length}"));
    }
    if description.chars().any(|it| it.is_control() || turns_or_hides(it)) {
        return Err("must be one line without control or invisible characters".to_owned());
    }
    if !description.chars().any(char::is_alphanumeric) {
        return Err("must say something".to_owned());
    }
    Ok(())
}
