//! The caller of a request, and the key that it wants to read or change.

use std::net::IpAddr;

use crate::{
    domain::{
        address_list::AddressList,
        id::{AccountId, KeyId},
        plaintext_key::KeyPrefix,
        scope::ScopeBits,
    },
    env::Timestamp,
    service::CallerSource,
};

/// The authenticated caller of a request.
///
/// A snapshot: `Change` is the caller as its transaction sees it.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The presented key; `None` on the control socket.
    pub presented: Option<Presented>,
    pub account: AccountId,
    /// Whether the key belongs to the operator account.
    pub operator: bool,
    /// The scopes of the caller; `*` is replaced by all scopes.
    pub powers: ScopeBits,
    /// The latest end that the caller gives to a key: its own, except for a console link. `None` means any.
    pub gives_until: Option<Timestamp>,
    /// The addresses from which the presented key is accepted; `None` means all.
    pub allowed_ips: Option<AddressList>,
    pub client_ip: Option<IpAddr>,
    pub source: CallerSource,
}

/// The credential that was presented. A key may have several that are valid.
#[derive(Clone, Copy, Debug)]
pub struct Presented {
    pub key: KeyId,
    pub prefix: KeyPrefix,
}

impl Principal {
    /// Returns the id of the presented key.
    pub fn key(&self) -> Option<KeyId> {
        self.presented.map(|it| it.key)
    }
}

/// The kind of access to a key. It decides which scopes allow the access.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyAccess {
    Read,
    Write,
    /// The caller acts on the very key that it presents.
    Itself,
}

/// The key to change, the access, and the revision that the client expects, if it names one.
#[derive(Clone, Copy, Debug)]
pub struct KeyChange {
    pub id: KeyId,
    pub access: KeyAccess,
    pub expected: Option<i64>,
}
