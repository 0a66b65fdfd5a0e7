//! Exchange of an API key for a token that a gateway verifies on its own (RFC 8693, RFC 9068).
//!
//! A token says no more than its key: it holds scopes that the key grants, ends with the key or before
//! it, and names a place in the status list, which tells when the key grants less.

use std::{net::IpAddr, sync::Arc};

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};

use crate::{
    domain::{
        address_list::AddressList, plaintext_key::KeyPrefix, policy::RequiredScopes,
        scope::ScopeBits, verdict::Verdict,
    },
    env::Timestamp,
    service::{Error, Identity, Keyward, TokenRefusal, Verification},
    store::{IndexedCredential, StoreError},
};

/// What a request wants of its token.
#[derive(Clone, Debug)]
pub struct TokenTerms {
    /// `None` means all that the key grants.
    scopes: Option<ScopeBits>,
    /// At least one.
    audiences: Vec<String>,
}

impl TokenTerms {
    /// Returns the scopes that the key must grant.
    pub fn required(&self) -> RequiredScopes {
        RequiredScopes::all(self.scopes.unwrap_or_default())
    }
}

/// A token, and what its receiver must know of it.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub token: String,
    /// The scopes of the token, with blanks between them.
    pub scope: String,
    pub expires_in_secs: i64,
}

impl Keyward {
    /// Returns the issuer of tokens: the address of this server.
    pub fn issuer(&self) -> Result<&str, Error> {
        self.settings.tokens.issuer.as_deref().ok_or_else(|| TokenRefusal::NoIssuer.into())
    }

    /// Reads what a request wants of its token: scopes, and audiences, of which none means the default.
    pub fn token_terms(
        &self,
        scopes: Option<&str>,
        audiences: Vec<String>,
    ) -> Result<TokenTerms, Error> {
        self.issuer()?;
        let catalogue = self.catalogue();
        let mut wanted = ScopeBits::default();
        let scopes = scopes.unwrap_or_default();
        // They must not count as a request for every scope.
        if !scopes.is_empty() && scopes.bytes().all(|it| it == b' ') {
            return Err(TokenRefusal::BlankScope.into());
        }
        for name in scopes.split(' ').filter(|it| !it.is_empty()) {
            let bit = catalogue.find(name).filter(|it| it.is_subset_of(catalogue.own()));
            wanted = wanted.or(bit.ok_or_else(|| TokenRefusal::UnknownScope(name.to_owned()))?);
        }
        let known = &self.settings.tokens.audiences;
        if let Some(unknown) = audiences.iter().find(|it| !known.contains(it)) {
            return Err(TokenRefusal::UnknownAudience(unknown.clone()).into());
        }
        let default = known.iter().take(1).cloned();
        let audiences = if audiences.is_empty() { default.collect() } else { audiences };
        Ok(TokenTerms { scopes: (!wanted.is_empty()).then_some(wanted), audiences })
    }

    /// Refuses a known key of an account whose keys may not be exchanged.
    pub fn refuse_exchange(&self, identity: &Identity) -> Result<(), Error> {
        match identity {
            Identity::Known(entry) if !self.has_exchange(entry) => {
                Err(TokenRefusal::ExchangeOff.into())
            }
            Identity::Known(_)
            | Identity::Malformed
            | Identity::Unknown
            | Identity::Unverified(_) => Ok(()),
        }
    }

    /// Refuses terms under which a token of a known key would hold no scope.
    pub fn refuse_empty_token(&self, identity: &Identity, terms: &TokenTerms) -> Result<(), Error> {
        match identity {
            Identity::Known(entry)
                if terms.scopes.is_none() && self.scopes_for_tokens(entry).is_empty() =>
            {
                Err(TokenRefusal::NoScope.into())
            }
            Identity::Known(_)
            | Identity::Malformed
            | Identity::Unknown
            | Identity::Unverified(_) => Ok(()),
        }
    }

    pub(super) fn has_exchange(&self, entry: &IndexedCredential) -> bool {
        self.store.index().account(entry.key.account, |it| it.token_exchange).unwrap_or(false)
    }

    /// Issues a token for a key that was verified just now. Writes to the database if the credential has no
    /// place in the status list yet.
    pub fn issue_token(
        &self,
        found: &Verification,
        terms: &TokenTerms,
        client_ip: Option<IpAddr>,
    ) -> Result<IssuedToken, Error> {
        let issuer = self.issuer()?;
        let verified = found.entry.as_ref().ok_or_else(|| Error::of_caller(found.verdict))?;
        let (place, entry) = self.placed(verified.prefix)?;
        let now = self.env.time.now();
        let issued_at = now.as_millis().div_euclid(1_000);
        let end_of_second = Timestamp::from_millis(issued_at * 1_000 + 999);
        // Judged again: the key may have changed while the place was given. A token ends with a whole
        // second, so a key that ends within this one gets none.
        if let Some(verdict) = self.refusal_now(&entry, end_of_second) {
            return Err(Error::of_caller(verdict));
        }
        if !AddressList::admits(entry.key.allowed_ips(), client_ip) {
            return Err(Error::of_caller(Verdict::IpNotAllowed));
        }
        self.refuse_exchange(&Identity::Known(Arc::clone(&entry)))?;
        let scopes = self.token_scopes(&entry, terms)?;
        // In whole seconds, both ends earlier: a token never outlives its key.
        let lifetime = now.after(self.settings.tokens.lifetime);
        let ends = [Some(lifetime), entry.ends_at()].into_iter().flatten().min();
        let ends = ends.unwrap_or(lifetime).as_millis().div_euclid(1_000);
        let catalogue = self.catalogue();
        let scope = catalogue.names(scopes).collect::<Vec<_>>().join(" ");
        let claims = json!({
            "iss": issuer,
            "sub": entry.key.account.to_string(),
            "aud": audience(&terms.audiences),
            "client_id": entry.key.id.to_string(),
            "scope": scope,
            "iat": issued_at,
            "exp": ends,
            "jti": self.token_id(),
            "status": { "status_list": { "idx": place, "uri": self.status_list_uri()? } },
        });
        let token = self.token_signer(now)?.sign("at+jwt", &claims);
        self.count_exchange(&entry, now);
        // Requests with the token are not counted, so the exchange uses all that the token may use.
        let used = self.authorizer.used(&entry, RequiredScopes::all(scopes));
        self.usage.use_scopes(&entry, used, now);
        Ok(IssuedToken { token, scope, expires_in_secs: ends - issued_at })
    }

    /// Returns the place of a credential in the status list, and then the credential as it is now. Gives
    /// it a place if it has none.
    ///
    /// The index retires a place before it narrows the credential. So if the place is still the same, a
    /// later change that narrows what was read here retires this place.
    fn placed(&self, prefix: KeyPrefix) -> Result<(u32, Arc<IndexedCredential>), Error> {
        const ATTEMPTS: usize = 8;
        let index = self.store.index();
        for _ in 0..ATTEMPTS {
            let Some(place) = index.status_place_of(prefix) else {
                self.system_change(move |tx| Ok::<_, Error>(tx.give_status_place(prefix)?))?;
                continue;
            };
            let entry = index.find(prefix).ok_or(Error::NotFound)?;
            if index.status_place_of(prefix) == Some(place) {
                return Ok((place, entry));
            }
        }
        // Only a storm of changes of this very key comes here.
        Err(StoreError::Busy(None).into())
    }

    fn token_scopes(
        &self,
        entry: &IndexedCredential,
        terms: &TokenTerms,
    ) -> Result<ScopeBits, Error> {
        let catalogue = self.catalogue();
        let granted = self.scopes_for_tokens(entry);
        let scopes = terms.scopes.unwrap_or(granted);
        let missing = scopes.minus(granted);
        if !missing.is_empty() {
            return Err(Error::LacksScopes(catalogue.names(missing).map(str::to_owned).collect()));
        }
        if scopes.is_empty() {
            return Err(TokenRefusal::NoScope.into());
        }
        Ok(scopes)
    }

    /// Returns the scopes of the protected API that the key grants.
    fn scopes_for_tokens(&self, entry: &IndexedCredential) -> ScopeBits {
        let catalogue = self.catalogue();
        catalogue.powers(entry.key.scopes()).and(catalogue.own())
    }

    /// Returns an identifier that no other token has.
    fn token_id(&self) -> String {
        let mut random = [0; 16];
        self.env.entropy.fill(&mut random);
        Base64UrlUnpadded::encode_string(&random)
    }

    /// Returns the description of this server for clients of OAuth (RFC 8414).
    pub fn token_metadata(&self) -> Result<Value, Error> {
        let issuer = self.issuer()?;
        let catalogue = self.catalogue();
        Ok(json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/api/v1/token"),
            "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
            "scopes_supported": catalogue.names(catalogue.own()).collect::<Vec<_>>(),
            "response_types_supported": [],
            "grant_types_supported": [Self::TOKEN_EXCHANGE],
            "token_endpoint_auth_methods_supported": ["none"],
        }))
    }

    /// The grant type of an exchange.
    pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
}

/// Returns the claim `aud`: one audience as a text, several as an array (RFC 7519, 4.1.3).
fn audience(audiences: &[String]) -> Value {
    match audiences {
        [one] => one.as_str().into(),
        several => several.into(),
    }
}
