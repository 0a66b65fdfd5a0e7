//! The limits of a verification: from where a key is accepted, and how often.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use serde_json::json;

use crate::{
    domain::{
        client_address::AddressRecording,
        event::{EventSource, EventType, NewEvent, Subject},
        id::AccountId,
        policy::RequiredScopes,
        rate_limit::{Exceeded, RateLimit, Rates},
    },
    env::Timestamp,
    service::{Error, Keyward},
    store::{AccountEntry, IndexedCredential, KeyIndex, RateWindow, WindowUse, WriteTx},
};

/// What a verification asks about a key.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub required: RequiredScopes,
    /// Finds the address of the client; `None` means that it is unknown. Not called for a key that is
    /// refused anyway.
    pub client_ip: &'a dyn Fn() -> Option<IpAddr>,
    /// What the request uses of the rate limits. With 0, no rate limit refuses it.
    pub cost: u32,
    /// Whether the request is refused even if the key is accepted. It then uses no rate limit and is no
    /// use of the key.
    pub is_ambiguous: bool,
}

impl<'a> Question<'a> {
    /// Asks whether a key is accepted, for a call of this API: it needs no scopes and uses no rate limit.
    pub fn of_call(client_ip: &'a dyn Fn() -> Option<IpAddr>) -> Self {
        Self { required: RequiredScopes::default(), client_ip, cost: 0, is_ambiguous: false }
    }
}

impl From<RequiredScopes> for Question<'static> {
    /// Asks for a request with the usual cost, from an unknown address.
    fn from(required: RequiredScopes) -> Self {
        Self { required, client_ip: &|| None, cost: 1, is_ambiguous: false }
    }
}

/// The use of a rate limit, to be stored.
#[derive(Clone, Copy, Debug)]
struct UsedWindow {
    subject: Subject,
    account: AccountId,
    rate: RateLimit,
    known: WindowUse,
}

impl Keyward {
    /// Returns the address of the client, if the key has an address list or addresses are stored.
    pub(super) fn client_of(
        &self,
        entry: &IndexedCredential,
        question: &Question<'_>,
    ) -> Option<IpAddr> {
        let is_needed = self.settings.client_addresses != AddressRecording::Off
            || entry.key.allowed_ips().is_some();
        if is_needed { (question.client_ip)() } else { None }
    }

    /// Takes the cost of a request from the rate limits of its key and of the account, from both or
    /// from none.
    pub(super) fn consume_rates(
        &self,
        entry: &IndexedCredential,
        account: Option<&AccountEntry>,
        cost: u32,
        now: Timestamp,
    ) -> Rates {
        let of_key = key_rate(entry, account);
        let of_account = account.and_then(|it| Some((it.rate?, &*it.rate_window)));
        let mut rates = Rates::default();
        if of_key.is_none() && of_account.is_none() {
            return rates;
        }
        let index = self.store.index();
        if let Some(rate) = of_key {
            let left = index.rate_window(entry, |it| it.consume(rate, cost, now));
            rates.exceeded = left.is_err().then_some(Exceeded::Key);
            rates.key = Some(left.unwrap_or_else(|it| it));
        }
        let Some((rate, window)) = of_account else { return rates };
        let cost = if rates.exceeded.is_some() { 0 } else { cost };
        let left = window.consume(rate, cost, now);
        rates.account = Some(left.unwrap_or_else(|it| it));
        if left.is_err() {
            rates.exceeded = Some(Exceeded::Account);
            let give_back =
                |charged| index.rate_window(entry, |it| it.give_back(charged, cost, now));
            rates.key = rates.key.map(give_back);
        }
        rates
    }
}

/// Returns the use of the rate limits of these keys and of their accounts, each once.
fn used_windows(index: &KeyIndex, used: &[Arc<IndexedCredential>]) -> Vec<UsedWindow> {
    let (mut found, mut accounts) = (Vec::new(), HashSet::new());
    let mut last = None;
    for entry in used {
        let (id, account) = (entry.key.id, entry.key.account);
        let (of_key, of_account) = index
            .account(account, |it| {
                let of_account = it.rate.map(|rate| (rate, it.rate_window.newest()));
                (key_rate(entry, Some(it)), of_account)
            })
            .unwrap_or((key_rate(entry, None), None));
        if let Some(rate) = of_key
            && last.replace(id) != Some(id)
        {
            let known = index.rate_window(entry, RateWindow::newest);
            found.push(UsedWindow { subject: Subject::Key(id), account, rate, known });
        }
        if let Some((rate, known)) = of_account
            && accounts.insert(account)
        {
            found.push(UsedWindow { subject: Subject::Account(account), account, rate, known });
        }
    }
    found.retain(|it| it.rate.is_stored());
    found
}

/// Returns the rate limit of the key: its own, or the default of its account.
fn key_rate(entry: &IndexedCredential, account: Option<&AccountEntry>) -> Option<RateLimit> {
    entry.key.rate().or_else(|| account?.key_rate)
}

/// Stores what these keys and their accounts used of their rate limits. The events that announce it
/// are recorded here, off the path of the answers: each once for a window and its limit.
///
/// The use is read inside the transaction. If it were read before, the second of two flushes could
/// store an older use than the first.
pub(super) fn store_windows(
    tx: &WriteTx<'_>,
    index: &KeyIndex,
    used: &[Arc<IndexedCredential>],
) -> Result<(), Error> {
    for UsedWindow { subject, account, rate, known } in used_windows(index, used) {
        let told = tx.told_of_window(subject, known, rate)?;
        let reached = rate.announced(known.used);
        if !tx.store_rate_window(subject, known, rate, told.max(reached))? {
            continue; // It was purged meanwhile.
        }
        for percent in [80, 100].into_iter().filter(|it| (told + 1..=reached).contains(it)) {
            let data = json!({
                "limit": rate.limit(),
                "windowSeconds": rate.window_secs(),
                "used": known.used,
                "resetAt": known.ends_at(rate).to_string(),
            });
            let event_type = announcement(subject, percent);
            let event = NewEvent { event_type, account: Some(account), subject, data };
            tx.record(&EventSource::SCHEDULER, &event)?;
        }
    }
    Ok(())
}

fn announcement(subject: Subject, percent: u8) -> EventType {
    let of_account = matches!(subject, Subject::Account(_));
    match (of_account, percent < 100) {
        (false, true) => EventType::ApiKeyRateLimitNear,
        (false, false) => EventType::ApiKeyRateLimitReached,
        (true, true) => EventType::AccountRateLimitNear,
        (true, false) => EventType::AccountRateLimitReached,
    }
}
