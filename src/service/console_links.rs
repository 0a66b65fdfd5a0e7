//! Console links: keys of an account that end soon, for its holder to manage keys on a page.

use std::time::Duration;

use crate::{
    domain::{
        account::Account,
        api_key::{ConsoleLink, RequestedExpiry},
        credential::Credential,
        id::AccountId,
        scope::{KEYS_ROTATE, Scope, ScopeSet},
        text::Name,
    },
    env::Timestamp,
    service::{
        ChangePermit, Checks, Conflict, Error, IssuedKey, KeyPatch, Keyward, Minted, NewKey,
        Principal,
        accounts::{MANAGERS, first_scopes},
    },
};

/// The name of a link whose request names none.
const NAME: &str = "Console link";

/// The properties of a new console link. An absent one has its default.
#[derive(Clone, Debug, Default)]
pub struct ConsoleLinkDraft {
    pub name: Option<Name>,
    pub scopes: Option<ScopeSet>,
    pub lifetime: Option<Duration>,
}

impl Keyward {
    pub const SHORTEST_LINK: Duration = Duration::from_mins(1);
    pub const LONGEST_LINK: Duration = Duration::from_hours(24);
    /// How long an expired link is kept: shorter than other keys, because an account may have many.
    pub const LINKS_KEPT: Duration = Duration::from_hours(24);

    /// Takes a change from the caller's budget, and refuses what [`Keyward::create_console_link`] would
    /// refuse now, before a key is minted for nothing.
    pub fn permit_console_link(
        &self,
        caller: &Principal,
        account: AccountId,
        draft: &ConsoleLinkDraft,
    ) -> Result<ChangePermit, Error> {
        let permit = self.permit_change(caller)?;
        self.store.read(|tx| self.checks(tx, caller).scopes_of_link(account, draft))?;
        Ok(permit)
    }

    /// Creates the key of a console link in this account.
    pub fn create_console_link(
        &self,
        permit: ChangePermit,
        account: AccountId,
        draft: ConsoleLinkDraft,
        minted: Minted,
    ) -> Result<IssuedKey, Error> {
        let Minted { plaintext, hash } = minted;
        self.change(permit, MANAGERS, move |change| {
            let (account, scopes) = change.checks().scopes_of_link(account, &draft)?;
            let lifetime = draft.lifetime.unwrap_or(change.settings.console_link_lifetime);
            let gives_until = change.caller().gives_until;
            let name = draft.name.or_else(|| Name::parse(NAME).ok()).ok_or(Error::NotFound)?;
            let settings = KeyPatch {
                expires_at: RequestedExpiry::At(end(change.now(), lifetime, gives_until)),
                ..KeyPatch::default()
            };
            let console_link = Some(ConsoleLink { gives_until });
            let new = NewKey { settings, console_link, ..NewKey::new(name, scopes) };
            let credential = Credential::new(plaintext.prefix(), hash, change.now());
            let record = new.insert(&change, change.maker(&account), account.id, &credential)?;
            IssuedKey::new(&change, record, plaintext, None)
        })
    }
}

/// Returns when a link ends: never after the key that makes it.
fn end(now: Timestamp, lifetime: Duration, gives_until: Option<Timestamp>) -> Timestamp {
    let end = now.after(lifetime);
    gives_until.map_or(end, |it| it.min(end))
}

impl Checks<'_> {
    /// Returns the account of a new link, and the scopes of the link, if the caller may create it.
    ///
    /// Without scopes in the request, the link has those of the first key of the account. It can always
    /// rotate itself. The limit on the number of keys does not apply: the holder of a full account needs a
    /// link to revoke a key.
    fn scopes_of_link(
        self,
        account: AccountId,
        draft: &ConsoleLinkDraft,
    ) -> Result<(Account, ScopeSet), Error> {
        let Self { tx, caller, authorizer, settings, .. } = self;
        let account = tx.account(account)?.filter(|it| it.deleted_at.is_none());
        let account = account.ok_or(Error::NO_ACCOUNT)?;
        if account.is_operator() {
            return Err(Conflict::OperatorLink.into());
        }
        if !settings.console {
            return Err(Conflict::NoConsole.into());
        }
        let catalogue = &authorizer.catalogue;
        let wanted = match &draft.scopes {
            Some(scopes) => scopes.clone(),
            None => first_scopes(catalogue, &account).ok_or(Error::NotFound)?,
        };
        authorizer
            .refuse_beyond(catalogue.bits(&wanted), authorizer.grantable(caller, &account))?;
        let rotate = Scope::parse(KEYS_ROTATE).ok();
        let scopes = ScopeSet::new(wanted.iter().cloned().chain(rotate));
        Ok((account, scopes.ok_or(Error::NotFound)?))
    }
}
