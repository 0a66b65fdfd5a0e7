//! The limits of keys and accounts, and what was used of them.

use std::sync::Arc;

use papaya::HashMap;

use crate::{
    domain::{
        address_list::AddressList,
        api_key::ConsoleLink,
        event::Subject,
        id::{AccountId, KeyId},
        rate_limit::RateLimit,
    },
    env::Timestamp,
    store::{ReadTx, StoreError, rate_window::RateWindow},
};

/// The limits of a key that has any, or that is a console link. Few keys have them, so they lie apart.
#[derive(Debug)]
pub struct KeyLimits {
    pub allowed_ips: Option<AddressList>,
    pub rate: Option<RateLimit>,
    pub console_link: Option<ConsoleLink>,
}

impl KeyLimits {
    pub(super) fn new(
        allowed_ips: Option<AddressList>,
        rate: Option<RateLimit>,
        console_link: Option<ConsoleLink>,
    ) -> Option<Arc<Self>> {
        let any = allowed_ips.is_some() || rate.is_some() || console_link.is_some();
        any.then(|| Arc::new(Self { allowed_ips, rate, console_link }))
    }
}

/// The use of rate limits since the start, and before it as far as it was stored. A key is here from
/// its first limited use on.
#[derive(Debug, Default)]
pub(super) struct RateWindows {
    keys: HashMap<KeyId, Arc<RateWindow>>,
    accounts: HashMap<AccountId, Arc<RateWindow>>,
}

impl RateWindows {
    /// Reads the windows that may not be over yet.
    pub fn load(&self, read: &ReadTx<'_>, now: Timestamp) -> Result<(), StoreError> {
        let longest = i64::from(RateLimit::MAX_WINDOW_SECS) * 1_000;
        let since = Timestamp::from_millis(now.as_millis().saturating_sub(longest));
        read.for_each_rate_window(since, |subject, known| {
            let window = Arc::new(RateWindow::new(known));
            match subject {
                Subject::Key(id) => _ = self.keys.pin().insert(id, window),
                Subject::Account(id) => _ = self.accounts.pin().insert(id, window),
                Subject::Server => (),
            }
        })
    }

    pub fn of_key(&self, id: KeyId) -> Arc<RateWindow> {
        Arc::clone(self.keys.pin().get_or_insert_with(id, Arc::default))
    }

    pub fn of_account(&self, id: AccountId) -> Arc<RateWindow> {
        Arc::clone(self.accounts.pin().get_or_insert_with(id, Arc::default))
    }

    /// Forgets a key that is never accepted again.
    pub fn forget_key(&self, id: KeyId) {
        self.keys.pin().remove(&id);
    }

    pub fn forget_account(&self, id: AccountId) {
        self.accounts.pin().remove(&id);
    }
}
