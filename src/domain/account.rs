//! Whose keys they are.

use crate::{
    domain::{
        id::AccountId,
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
    /// What keys of this account may hold of the catalogue; `None` means all of it.
    pub allowed_scopes: Option<ScopeSet>,
    /// `None` means the server's own limit.
    pub max_keys: Option<u32>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// A deleted account is a tombstone for as long as its keys are.
    pub deleted_at: Option<Timestamp>,
    pub revision: i64,
}

/// There is one operator account, made at the first start; it runs keyward.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccountKind {
    Operator,
    Customer,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccountStatus {
    Active,
    Suspended,
}

impl Account {
    pub fn is_operator(&self) -> bool {
        self.kind == AccountKind::Operator
    }

    /// Whether the name, in any case and any encoding of accents, or the external identifier holds `text`.
    pub fn has_text(&self, text: &str) -> bool {
        folded(self.name.as_str()).contains(&folded(text))
            || self.external_id.as_ref().is_some_and(|it| it.as_str().contains(text))
    }
}

impl AccountKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Customer => "customer",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Operator, Self::Customer].into_iter().find(|it| it.as_str() == text)
    }
}

impl AccountStatus {
    pub const ALL: [Self; 2] = [Self::Active, Self::Suspended];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}
