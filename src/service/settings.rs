//! The settings that the use cases work with.

use std::time::Duration;

use crate::{
    domain::{
        account::Account, client_address::AddressRecording, lifetime::Lifetimes,
        plaintext_key::PrefixLabel, token_key::TokenAlgorithm,
    },
    service::{BackupRules, ChangeRate},
};

/// The settings of the operator. They do not change while the server runs.
#[derive(Debug)]
pub struct Settings {
    /// The label that new keys begin with.
    pub prefix_label: PrefixLabel,
    /// The grace period of a rotation that names none.
    pub rotation_grace: Duration,
    /// The iterations of new hashes. Weaker stored hashes are raised to it.
    pub hash_iterations: u32,
    /// The number of live keys in an account that has no limit of its own.
    pub max_keys: u32,
    /// The lifetimes of keys in an account that has none of its own.
    pub lifetimes: Lifetimes,
    /// How long a console link is valid whose request does not say so.
    pub console_link_lifetime: Duration,
    /// Whether the server serves the console.
    pub console: bool,
    /// The change budget of each account; the operator account has no limit.
    pub change_rate: ChangeRate,
    /// How long ended keys and credentials are kept.
    pub retention: Duration,
    /// Whether the addresses from which keys are used are stored, and new ones announced.
    pub client_addresses: AddressRecording,
    pub tokens: TokenRules,
    /// How many rows a job changes in one transaction.
    pub batch: u32,
    pub backup: BackupRules,
}

/// How tokens are issued.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The address of this server, which is `iss` in each token. Without one, there are no tokens.
    pub issuer: Option<String>,
    pub lifetime: Duration,
    pub algorithm: TokenAlgorithm,
    /// The audiences that a token may have, the default first: at least one if there is an issuer.
    pub audiences: Vec<String>,
    /// How long a gateway may keep the status list.
    pub status_ttl: Duration,
}

impl Settings {
    /// Returns the lifetimes of keys in this account. Keys of the operator account follow no rule, because
    /// its root key must never expire.
    pub fn lifetimes_of(&self, account: &Account) -> Lifetimes {
        if account.is_operator() {
            Lifetimes::default()
        } else {
            account.lifetimes.or(self.lifetimes)
        }
    }
}
