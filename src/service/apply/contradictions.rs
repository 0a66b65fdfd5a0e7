//! Contradictions between the sections of an applied file.
//!
//! They depend on no account and no key that exists. So a file that a new server would refuse is refused also if
//! the server has its keys already.

use std::collections::HashMap;

use super::{DeclaredAccount, DeclaredKey, Section};
use crate::{
    domain::{api_key::RequestedExpiry, lifetime::Lifetimes},
    env::Timestamp,
    service::{Fault, Keyward, Principal, keys::expiry::Expiry},
};

/// Returns what is declared of keys and contradicts what is declared of their accounts.
pub(super) fn contradictions(
    app: &Keyward,
    caller: &Principal,
    accounts: &[DeclaredAccount],
    keys: &[DeclaredKey],
) -> Vec<(Section, Fault)> {
    let now = app.env.time.now();
    let mut keys_of: HashMap<&str, Vec<&DeclaredKey>> = HashMap::new();
    for key in keys {
        if let Some(owner) = &key.account {
            keys_of.entry(owner.as_str()).or_default().push(key);
        }
    }
    let mut faults = Vec::new();
    for account in accounts {
        let Some(keys) = keys_of.get(account.external_id.as_str()) else { continue };
        faults.extend(too_many(account, keys, now).map(|it| (account.section, it)));
        let lifetimes =
            Lifetimes { max: account.patch.max_key_lifetime.flatten(), ..Lifetimes::default() };
        let expiry = Expiry { now, caller, lifetimes, existing: None };
        for key in keys {
            // An end in the past is no contradiction: the key has expired since the file was written.
            let late = expiry.fault(key.patch.expires_at);
            let late = late.filter(|it| it.code == Expiry::TOO_LATE);
            let found = [late, beyond_allowed(app, account, key)].into_iter().flatten();
            faults.extend(found.map(|it| (key.section, it)));
        }
    }
    faults
}

fn too_many(account: &DeclaredAccount, keys: &[&DeclaredKey], now: Timestamp) -> Option<Fault> {
    let has_ended =
        |it: &DeclaredKey| matches!(it.patch.expires_at, RequestedExpiry::At(end) if end <= now);
    let count = keys.iter().filter(|it| !has_ended(it)).count();
    let most = account.patch.max_keys.flatten()?;
    let says = || format!("is less than the {count} keys that the file declares for this account");
    usize::try_from(most)
        .is_ok_and(|it| it < count)
        .then(|| Fault::new("/maxKeys", "too_many_keys", says()))
}

fn beyond_allowed(app: &Keyward, account: &DeclaredAccount, key: &DeclaredKey) -> Option<Fault> {
    let (allowed, wanted) = (account.patch.allowed_scopes.as_ref()?, key.patch.scopes.as_ref()?);
    let catalogue = app.catalogue();
    let beyond = catalogue.bits(wanted).minus(catalogue.ceiling(allowed.as_ref()));
    let names: Vec<_> = catalogue.names(beyond).collect();
    let says = || format!("this account cannot have {}", names.join(", "));
    (!names.is_empty()).then(|| Fault::new("/scopes", "scope_escalation", says()))
}
