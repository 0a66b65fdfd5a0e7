//! Accounts: the owners of keys.

use crate::{
    domain::{
        id::AccountId,
        lifetime::Lifetimes,
        named_enum,
        rate_limit::RateLimit,
        scope::ScopeSet,
        text::{ExternalId, Metadata, Name},
        visible::folded,
    },
    env::Timestamp,
};

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    pub id: AccountId,
    pub kind: AccountKind,
    pub name: Name,
    pub external_id: Option<ExternalId>,
    pub status: AccountStatus,
    /// The scopes of the catalogue that keys of this account may have; `None` means all.
    pub allowed_scopes: Option<ScopeSet>,
    /// `None` means the limit in the settings.
    pub max_keys: Option<u32>,
    /// The lifetimes of its keys. Each replaces that in the settings.
    pub lifetimes: Lifetimes,
    /// The ceiling that all keys of the account share.
    pub rate_limit: Option<RateLimit>,
    /// The rate limit of each key that has none of its own.
    pub key_rate_limit: Option<RateLimit>,
    /// Whether its keys may be exchanged for tokens.
    pub token_exchange: bool,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// A deleted account is a tombstone as long as its keys are.
    pub deleted_at: Option<Timestamp>,
    pub revision: i64,
}

named_enum! {
    /// The kind of an account. There is one operator account, made at the first start.
    pub enum AccountKind {
        Operator => "operator",
        Customer => "customer",
    }
}

named_enum! {
    pub enum AccountStatus {
        Active => "active",
        Suspended => "suspended",
    }
}

impl Account {
    pub fn is_operator(&self) -> bool {
        self.kind == AccountKind::Operator
    }

    /// Returns whether the name (in any case and any encoding of accents) or the external id
    /// contains `text`, or the identifier begins with it.
    pub fn has_text(&self, text: &str) -> bool {
        folded(self.name.as_str()).contains(&folded(text))
            || self.external_id.as_ref().is_some_and(|it| it.as_str().contains(text))
            || AccountId::is_start(text) && self.id.to_string().starts_with(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(kind: AccountKind) -> Account {
        let at = Timestamp::from_millis(0);
        Account {
            id: AccountId::from_raw(42),
            kind,
            name: Name::parse("B\u{fc}cher GmbH").unwrap(),
            external_id: Some(ExternalId::parse("cust_7").unwrap()),
            status: AccountStatus::Active,
            allowed_scopes: None,
            max_keys: None,
            lifetimes: Lifetimes::default(),
            rate_limit: None,
            key_rate_limit: None,
            token_exchange: false,
            metadata: Metadata::empty(),
            created_at: at,
            updated_at: at,
            deleted_at: None,
            revision: 1,
        }
    }

    #[test]
    fn a_search_finds_the_name_in_any_case_the_external_id_and_the_beginning_of_the_id() {
        let account = account(AccountKind::Customer);
        let id = account.id.to_string();
        let cut = id.get(..id.len() - 1).unwrap();
        for text in ["b\u{dc}CHER", "bu\u{308}cher", "gmbh", "cust_7", "st_7", &id, cut] {
            assert!(account.has_text(text), "{text}");
        }
        for text in ["CUST_7", "cust_8", "acct_", "acct_1", id.get(1..).unwrap(), "x"] {
            assert!(!account.has_text(text), "{text}");
        }
        let nameless = Account { external_id: None, ..account };
        assert!(!nameless.has_text("cust_7") && nameless.has_text(&id));
    }

    #[test]
    fn the_kind_says_whether_an_account_is_the_operators() {
        assert!(account(AccountKind::Operator).is_operator());
        assert!(!account(AccountKind::Customer).is_operator());
    }
}
