//! The accounts and keys of development mode: one for every verdict.

use std::time::Duration;

use crate::{
    domain::{
        account::AccountStatus,
        address_list::AddressList,
        api_key::RequestedExpiry,
        development_key::DevelopmentKey,
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
        self.system_change(|tx| tx.mark_as_development())?;
        self.make_operator(self.minted_for_development(DevelopmentKey::Root)?)?;
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
        let identity = match self.identify(DevelopmentKey::UsedUp.text().as_bytes()) {
            Identity::Unverified(unverified) => self.verify_secret(unverified)?.0,
            other @ (Identity::Known(_) | Identity::Unknown | Identity::Malformed) => other,
        };
        self.judge(&identity, RequiredScopes::default());
        Ok(())
    }

    fn minted_for_development(&self, key: DevelopmentKey) -> Result<Minted, Error> {
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
        let gateway = self.new_key("gateway", &[scope::KEYS_VERIFY])?;
        self.create(self.operator.account, DevelopmentKey::Gateway, gateway)?;
        Ok(())
    }

    /// Makes the account whose keys have every state.
    fn make_of_acme(&self) -> Result<(), Error> {
        use DevelopmentKey as Key;
        let acme = self.account("Acme Corp", "acme", Key::Admin)?;
        let create = |key, name, change: &dyn Fn(&mut NewKey)| {
            let mut new = self.new_key(name, &self.scopes.each_ref().map(String::as_str))?;
            change(&mut new);
            self.create(acme, key, new)
        };
        create(Key::Valid, "valid", &|_| ())?;
        let narrow = self.new_key("read-only", &[&self.scopes[0]])?;
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
        self.account("Globex", "globex", DevelopmentKey::OtherAccount)?;
        let suspended = self.account("Initech", "initech", DevelopmentKey::Suspended)?;
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
        key: DevelopmentKey,
    ) -> Result<AccountId, Error> {
        let draft = AccountDraft {
            name: named(name)?,
            external_id: ExternalId::parse(external_id).ok(),
            allowed_scopes: None,
            max_keys: None,
            lifetimes: Lifetimes::default(),
            rate_limit: None,
            key_rate_limit: None,
            metadata: Metadata::empty(),
        };
        let permit = self.app.permit_new_account(&self.operator, &draft)?;
        let minted = self.app.minted_for_development(key)?;
        Ok(self.app.create_account(permit, draft, minted)?.account.id)
    }

    fn new_key(&self, name: &'static str, scopes: &[&str]) -> Result<NewKey, Error> {
        let scopes = ScopeSet::new(scopes.iter().filter_map(|it| Scope::parse(it).ok()));
        Ok(NewKey::new(named(name)?, scopes.ok_or(Error::NotFound)?))
    }

    fn create(&self, account: AccountId, key: DevelopmentKey, new: NewKey) -> Result<KeyId, Error> {
        let permit = self.app.permit_new_key(&self.operator, account, &new)?;
        let minted = self.app.minted_for_development(key)?;
        Ok(self.app.create_key(permit, account, new, minted)?.view.key.id)
    }

    /// Rotates a key. The grace period of the old credential ends in the second before `end`.
    fn rotate(&self, id: KeyId, end: Timestamp, to: DevelopmentKey) -> Result<(), Error> {
        let grace = end.before(Duration::from_secs(1)).since(self.app.env.time.now());
        let (wanted, grace) = (to_change(id), Some(grace));
        let permit = self.app.permit_rotation(&self.operator, wanted, grace)?;
        let minted = self.app.minted_for_development(to)?;
        self.app.rotate_key(permit, wanted, grace, minted)?;
        Ok(())
    }

    fn list(&self) -> Vec<SampleKey> {
        use DevelopmentKey as Key;
        let (none, first, both) = (&self.scopes[..0], &self.scopes[..1], &self.scopes[..]);
        let row = |key: Key, name, account, scopes: &[String], verdict, about| SampleKey {
            name,
            key: key.text(),
            account,
            scopes: scopes.to_vec(),
            verdict,
            about,
        };
        let of_acme =
            |key, name, verdict, about| row(key, name, Some("acme"), first, verdict, about);
        use Verdict::Valid;
        vec![
            row(Key::Root, "root", None, none, Valid, "may do everything"),
            row(Key::Gateway, "gateway", None, none, Valid, "may verify keys, and nothing else"),
            of_acme(Key::Admin, "acme-admin", Valid, "manages the keys of its account"),
            row(Key::Valid, "valid", Some("acme"), both, Valid, "has both scopes"),
            row(
                Key::ReadOnly,
                "read-only",
                Some("acme"),
                both,
                Verdict::InsufficientScopes,
                "has the first scope only",
            ),
            of_acme(Key::Expiring, "expiring", Valid, "expires an hour after the start"),
            of_acme(Key::Expired, "expired", Verdict::Expired, "expired an hour before the start"),
            of_acme(Key::Disabled, "disabled", Verdict::Disabled, "has `enabled` false"),
            of_acme(Key::Revoked, "revoked", Verdict::Revoked, "was revoked"),
            of_acme(
                Key::InGrace,
                "in-grace",
                Valid,
                "the old credential of a rotated key; works for an hour after the start",
            ),
            of_acme(Key::Renewed, "in-grace-new", Valid, "the new credential of that key"),
            of_acme(
                Key::Rotated,
                "rotated",
                Verdict::Rotated,
                "the old credential of a rotated key; its grace period is over",
            ),
            of_acme(Key::Successor, "rotated-new", Valid, "the new credential of that key"),
            of_acme(Key::Limited, "limited", Valid, "may make 3 requests in each hour"),
            of_acme(
                Key::UsedUp,
                "used-up",
                Verdict::RateLimited,
                "may make 1 request a day, and has made it",
            ),
            of_acme(
                Key::Network,
                "network",
                Verdict::IpNotAllowed,
                "is accepted from 192.0.2.0/24 only",
            ),
            row(
                Key::OtherAccount,
                "globex",
                Some("globex"),
                first,
                Valid,
                "manages the keys of another account",
            ),
            row(
                Key::Suspended,
                "suspended",
                Some("initech"),
                first,
                Verdict::AccountSuspended,
                "belongs to a suspended account",
            ),
            row(Key::Unknown, "unknown", None, first, Verdict::NotFound, "was never issued"),
            mistyped(first),
        ]
    }
}

/// Returns the valid key with another last character, so that its checksum is wrong.
fn mistyped(scopes: &[String]) -> SampleKey {
    let mut key = DevelopmentKey::Valid.text();
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

fn to_change(id: KeyId) -> KeyChange {
    KeyChange { id, access: KeyAccess::Write, expected: None }
}

fn named(text: &'static str) -> Result<Name, Error> {
    Name::parse(text).map_err(|err| Error::invalid("/name", err.code(), err.to_string()))
}
