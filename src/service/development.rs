//! The accounts and keys of development mode: one for every verdict.

use std::time::Duration;

use crate::{
    domain::{
        account::AccountStatus,
        address_list::AddressList,
        api_key::RequestedExpiry,
        development_key::DevelopmentKey as Key,
        event::EventSource,
        id::{AccountId, KeyId},
        lifetime::Lifetimes,
        plaintext_key::PlaintextKey,
        policy::RequiredScopes,
        rate_limit::RateLimit,
        scope::{self, Scope, ScopeSet},
        text::{ExternalId, Metadata, Name},
        verdict::Verdict,
    },
    env::Timestamp,
    service::{
        AccountDraft, AccountPatch, Error, Identity, KeyAccess, KeyChange, Keyward, Minted, NewKey,
        Principal,
    },
};

const HOUR: Duration = Duration::from_hours(1);

/// A key, its name, the external identifier of its account, the number of scopes of the question, the
/// answer, and what there is to say about the key.
type Row = (Key, &'static str, Option<&'static str>, usize, Verdict, &'static str);

const ACME: Option<&str> = Some("acme");
const SAMPLES: [Row; 19] = [
    (Key::Root, "root", None, 0, Verdict::Valid, "may do everything"),
    (Key::Gateway, "gateway", None, 0, Verdict::Valid, "may verify keys, and nothing else"),
    (Key::Admin, "acme-admin", ACME, 1, Verdict::Valid, "manages the keys of its account"),
    (Key::Valid, "valid", ACME, 2, Verdict::Valid, "has both scopes"),
    (Key::ReadOnly, "read-only", ACME, 2, Verdict::InsufficientScopes, "has the first scope only"),
    (Key::Expiring, "expiring", ACME, 1, Verdict::Valid, "expires an hour after the start"),
    (Key::Expired, "expired", ACME, 1, Verdict::Expired, "expired an hour before the start"),
    (Key::Disabled, "disabled", ACME, 1, Verdict::Disabled, "has `enabled` false"),
    (Key::Revoked, "revoked", ACME, 1, Verdict::Revoked, "was revoked"),
    (
        Key::InGrace,
        "in-grace",
        ACME,
        1,
        Verdict::Valid,
        "the old credential of a rotated key; works for an hour after the start",
    ),
    (Key::Renewed, "in-grace-new", ACME, 1, Verdict::Valid, "the new credential of that key"),
    (
        Key::Rotated,
        "rotated",
        ACME,
        1,
        Verdict::Rotated,
        "the old credential of a rotated key; its grace period is over",
    ),
    (Key::Successor, "rotated-new", ACME, 1, Verdict::Valid, "the new credential of that key"),
    (Key::Limited, "limited", ACME, 1, Verdict::Valid, "may make 3 requests in each hour"),
    (
        Key::UsedUp,
        "used-up",
        ACME,
        1,
        Verdict::RateLimited,
        "may make 1 request a day, and has made it",
    ),
    (Key::Network, "network", ACME, 1, Verdict::IpNotAllowed, "is accepted from 192.0.2.0/24 only"),
    (
        Key::OtherAccount,
        "globex",
        Some("globex"),
        1,
        Verdict::Valid,
        "manages the keys of another account",
    ),
    (
        Key::Suspended,
        "suspended",
        Some("initech"),
        1,
        Verdict::AccountSuspended,
        "belongs to a suspended account",
    ),
    (Key::Unknown, "unknown", None, 1, Verdict::NotFound, "was never issued"),
];

/// A key of development mode, and a question about it that has a known answer.
#[derive(Clone, Debug)]
pub struct SampleKey {
    pub name: &'static str,
    pub key: String,
    /// The external identifier of the account; `None` for the operator account and for no account.
    pub account: Option<&'static str>,
    /// The scopes of the question.
    pub scopes: Vec<String>,
    /// The answer, until the clock is moved or a request changes something.
    pub verdict: Verdict,
    pub about: &'static str,
}

/// Makes the sample keys in the name of the operator.
struct Samples<'a> {
    app: &'a Keyward,
    operator: Principal,
    /// A scope that most keys have, and one that `read-only` lacks.
    scopes: [String; 2],
    /// When the samples are needed.
    start: Timestamp,
}

impl Keyward {
    /// How long before the start the sample keys are made. Some of them have a past.
    pub const SAMPLE_AGE: Duration = Duration::from_hours(24);

    /// Makes the operator account with the root key of development mode, and the sample keys, in an
    /// empty database. They are as the list says at `start`, after [`Keyward::use_up_sample`].
    pub fn make_samples(&self, start: Timestamp) -> Result<Vec<SampleKey>, Error> {
        self.system_change(|tx| {
            tx.mark_as_development()?;
            Ok::<_, Error>(())
        })?;
        self.make_operator(self.minted_for_development(Key::Root)?)?;
        let samples = Samples {
            app: self,
            operator: self.local_operator(EventSource::CLI)?,
            scopes: self.two_scopes(),
            start,
        };
        samples.make_of_operator()?;
        samples.make_of_acme()?;
        samples.make_of_other_accounts()?;
        Ok(samples.list())
    }

    /// Uses the rate limit of the sample key that has none left.
    pub fn use_up_sample(&self) -> Result<(), Error> {
        let identity = match self.identify(Key::UsedUp.text().as_bytes()) {
            Identity::Unverified(unverified) => self.verify_secret(unverified)?.0,
            other @ (Identity::Known(_) | Identity::Unknown | Identity::Malformed) => other,
        };
        self.judge(&identity, RequiredScopes::default());
        Ok(())
    }

    fn minted_for_development(&self, key: Key) -> Result<Minted, Error> {
        let plaintext = PlaintextKey::parse(key.text().as_bytes()).map_err(|_| Error::NotFound)?;
        Ok(self.hashed(plaintext))
    }

    /// Returns the first two scopes of the catalogue. If it has fewer of its own, those that manage keys
    /// follow.
    fn two_scopes(&self) -> [String; 2] {
        let own = self.catalogue().entries().iter().filter(|it| !it.reserved);
        let own = own.map(|it| it.scope.as_str());
        let mut all = own.chain([scope::KEYS_READ, scope::KEYS_WRITE]).map(str::to_owned);
        [(); 2].map(|()| all.next().unwrap_or_default())
    }
}

impl Samples<'_> {
    fn make_of_operator(&self) -> Result<(), Error> {
        let gateway = new_key("gateway", &[scope::KEYS_VERIFY])?;
        self.create(self.operator.account, Key::Gateway, gateway)?;
        Ok(())
    }

    /// Makes the account whose keys have every state.
    fn make_of_acme(&self) -> Result<(), Error> {
        let acme = self.account("Acme Corp", "acme", Key::Admin)?;
        let create = |key, name, change: &dyn Fn(&mut NewKey)| {
            let mut new = new_key(name, &self.scopes.each_ref().map(String::as_str))?;
            change(&mut new);
            self.create(acme, key, new)
        };
        create(Key::Valid, "valid", &|_| ())?;
        let narrow = new_key("read-only", &[&self.scopes[0]])?;
        self.create(acme, Key::ReadOnly, narrow)?;
        let ends = |end| move |it: &mut NewKey| it.settings.expires_at = RequestedExpiry::At(end);
        create(Key::Expiring, "expiring", &ends(self.start.after(HOUR)))?;
        create(Key::Expired, "expired", &ends(self.start.before(HOUR)))?;
        create(Key::Disabled, "disabled", &|it| it.settings.enabled = Some(false))?;
        let revoked = create(Key::Revoked, "revoked", &|_| ())?;
        self.app.revoke_key(&self.operator, to_change(revoked), None)?;
        let in_grace = create(Key::InGrace, "in-grace", &|_| ())?;
        self.rotate(in_grace, self.start.after(HOUR), Key::Renewed)?;
        let rotated = create(Key::Rotated, "rotated", &|_| ())?;
        self.rotate(rotated, self.start.before(HOUR), Key::Successor)?;
        let limit = |limit, window| {
            move |it: &mut NewKey| it.settings.rate_limit = Some(RateLimit::new(limit, window))
        };
        create(Key::Limited, "limited", &limit(3, 60 * 60))?;
        create(Key::UsedUp, "used-up", &limit(1, 24 * 60 * 60))?;
        let network = AddressList::parse_network("192.0.2.0/24").ok();
        create(Key::Network, "network", &|it| {
            it.settings.allowed_ips = Some(AddressList::new(network));
        })?;
        Ok(())
    }

    fn make_of_other_accounts(&self) -> Result<(), Error> {
        self.account("Globex", "globex", Key::OtherAccount)?;
        let suspended = self.account("Initech", "initech", Key::Suspended)?;
        let patch =
            AccountPatch { status: Some(AccountStatus::Suspended), ..AccountPatch::default() };
        self.app.update_account(&self.operator, suspended, None, patch)?;
        Ok(())
    }

    /// Makes an account with its first key.
    fn account(
        &self,
        name: &'static str,
        external_id: &'static str,
        key: Key,
    ) -> Result<AccountId, Error> {
        let draft = AccountDraft {
            name: named(name)?,
            external_id: ExternalId::parse(external_id).ok(),
            allowed_scopes: None,
            max_keys: None,
            lifetimes: Lifetimes::default(),
            rate_limit: None,
            key_rate_limit: None,
            token_exchange: true,
            metadata: Metadata::empty(),
        };
        let permit = self.app.permit_new_account(&self.operator, &draft)?;
        let minted = self.app.minted_for_development(key)?;
        Ok(self.app.create_account(permit, draft, minted)?.account.id)
    }

    fn create(&self, account: AccountId, key: Key, new: NewKey) -> Result<KeyId, Error> {
        let permit = self.app.permit_new_key(&self.operator, account, &new)?;
        let minted = self.app.minted_for_development(key)?;
        Ok(self.app.create_key(permit, account, new, minted)?.view.key.id)
    }

    /// Rotates a key. The grace period of the old credential ends in the second before `end`.
    fn rotate(&self, id: KeyId, end: Timestamp, to: Key) -> Result<(), Error> {
        let grace = end.before(Duration::from_secs(1)).since(self.app.env.time.now());
        let (wanted, grace) = (to_change(id), Some(grace));
        let permit = self.app.permit_rotation(&self.operator, wanted, grace)?;
        let minted = self.app.minted_for_development(to)?;
        self.app.rotate_key(permit, wanted, grace, minted)?;
        Ok(())
    }

    fn list(&self) -> Vec<SampleKey> {
        let sample = |(key, name, account, asked, verdict, about): Row| SampleKey {
            name,
            key: key.text(),
            account,
            scopes: self.scopes[..asked].to_vec(),
            verdict,
            about,
        };
        let mistyped = mistyped(&self.scopes[..1]);
        SAMPLES.into_iter().map(sample).chain([mistyped]).collect()
    }
}

/// Returns the valid key with another last character, so that its checksum is wrong.
fn mistyped(scopes: &[String]) -> SampleKey {
    let mut key = Key::Valid.text();
    let last = if key.pop() == Some('0') { '1' } else { '0' };
    key.push(last);
    SampleKey {
        name: "mistyped",
        key,
        account: None,
        scopes: scopes.to_vec(),
        verdict: Verdict::Malformed,
        about: "is the key `valid` with another last character",
    }
}

fn new_key(name: &'static str, scopes: &[&str]) -> Result<NewKey, Error> {
    let scopes = ScopeSet::new(scopes.iter().filter_map(|it| Scope::parse(it).ok()));
    Ok(NewKey::new(named(name)?, scopes.ok_or(Error::NotFound)?))
}

fn to_change(id: KeyId) -> KeyChange {
    KeyChange { id, access: KeyAccess::Write, expected: None }
}

fn named(text: &'static str) -> Result<Name, Error> {
    Name::parse(text).map_err(|err| Error::invalid("/name", err.code(), err.to_string()))
}
