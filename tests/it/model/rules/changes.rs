//! The rules of requests that change a key. Each is refused with the code of the first reason that applies.

use super::{Change, Credential, Key, MAX_KEYS, Model, Outcome, Place, SECOND, Scopes, was_used};

impl Model {
    pub fn create(&mut self, caller: Option<Place>, new: Key) -> Outcome {
        self.authenticate(caller, &["api-keys:write"])?;
        if self.accounts[new.account].deleted {
            return Err("not_found");
        }
        let counts = |it: &&Key| {
            it.account == new.account && it.revoked_at.is_none() && !it.is_expired(self.now)
        };
        if MAX_KEYS <= self.keys.iter().filter(counts).count() {
            return Err("too_many_keys");
        }
        self.keys.push(new);
        self.record(self.keys.len() - 1, "api_key.created");
        Ok(())
    }

    /// Repeats a creation with the same `Idempotency-Key`, within 24 hours.
    pub fn repeat(&mut self, caller: Option<Place>, key: usize, same: bool) -> Outcome {
        self.authenticate(caller, &["api-keys:write"])?;
        let it = &self.keys[key];
        if self.accounts[it.account].deleted && caller.is_none() {
            return Err("not_found");
        }
        let ended = it.credentials[0].ends_at.is_some_and(|at| at <= self.now);
        match () {
            () if !same => Err("idempotency_key_reused"),
            () if it.revoked_at.is_some() || ended => Err("idempotent_result_revoked"),
            () => Ok(()),
        }
    }

    pub fn update(&mut self, caller: Option<Place>, key: usize, change: Change) -> Outcome {
        self.authenticate(caller, &["api-keys:write"])?;
        self.find(caller, key)?;
        let (now, it) = (self.now, &mut self.keys[key]);
        let before = it.clone();
        match change {
            Change::Name(name) => it.name = format!("n{name}"),
            Change::Scopes(scopes) => it.scopes = scopes,
            Change::End(_) if it.is_expired(now) => return Err("key_not_active"),
            Change::End(at) => it.expires_at = at,
            Change::List(list) => it.list = list,
            Change::Enabled(enabled) => it.enabled = enabled,
            Change::Limit(limit) => it.limit = Some(limit),
            Change::Declared(scopes) => (it.name, it.scopes) = ("x".to_owned(), scopes),
        }
        let lost =
            before.scopes.iter().any(|scope| !it.scopes.contains(scope)) || before.list < it.list;
        if lost {
            self.tokens.iter_mut().filter(|it| it.place.0 == key).for_each(|it| it.narrowed = true);
        }
        if before.settings() != self.keys[key].settings() {
            self.record(key, "api_key.updated");
        }
        Ok(())
    }

    /// Rotates a key to the text `fresh`, as the server `said`. A caller that is a credential of the key
    /// rotates itself.
    pub fn rotate(
        &mut self,
        caller: Option<Place>,
        key: usize,
        grace: Option<u64>,
        [fresh, said]: [&str; 2],
    ) -> Outcome {
        let own = caller.filter(|(caller, _)| *caller == key).map(|(_, credential)| credential);
        let needs: Scopes = if own.is_some() {
            &["api-keys:rotate", "api-keys:write"]
        } else {
            &["api-keys:write"]
        };
        self.authenticate(caller, needs)?;
        self.find(caller, key)?;
        let (now, it) = (self.now, &mut self.keys[key]);
        let seconds = grace.unwrap_or(300);
        if own.is_some() && seconds < 60 {
            return Err("invalid_request");
        }
        if it.is_expired(now) {
            return Err("key_not_active");
        }
        let last = it.credentials.len() - 1;
        let earlier = own.filter(|presented| *presented < last);
        if let Some(presented) = earlier {
            let newer = it.credentials[presented + 1..].iter().map(|it| it.used);
            if was_used(newer, said == "superseded") {
                return Err("superseded");
            }
        }
        // An earlier credential repeats a rotation of the key itself, whose answer was lost.
        let replaces = earlier.is_some() && it.current().made_by_itself;
        let live = it.in_grace(now).count() + usize::from(!replaces);
        if 0 < seconds && 3 <= live {
            return Err("too_many_live_keys");
        }
        let until = now + seconds * SECOND;
        let until = it.expires_at.map_or(until, |end| end.min(until));
        it.credentials[last].ends_at = Some(if replaces { now } else { until });
        if seconds == 0 {
            it.end_graces(now);
        }
        let made_by_itself = own.is_some();
        it.credentials.push(Credential { made_by_itself, ..Credential::new(fresh) });
        self.record(key, "api_key.rotated");
        Ok(())
    }

    pub fn complete(&mut self, caller: Option<Place>, key: usize, said: &str) -> Outcome {
        self.authenticate(caller, &["api-keys:write"])?;
        self.find(caller, key)?;
        let (now, it) = (self.now, &mut self.keys[key]);
        let by_earlier = caller.is_some_and(|(caller, presented)| {
            caller == key && presented + 1 < it.credentials.len()
        });
        if by_earlier && !was_used([it.current().used], said != "successor_unused") {
            return Err("successor_unused");
        }
        // Also those of a key that has expired.
        if it.credentials.iter().any(|it| it.ends_at.is_some_and(|at| now < at)) {
            it.end_graces(now);
            self.record(key, "api_key.grace_ended");
        }
        Ok(())
    }

    /// Revokes a key. Itself it may always revoke.
    pub fn revoke(&mut self, caller: Option<Place>, key: usize) -> Outcome {
        let own = caller.is_some_and(|(caller, _)| caller == key);
        self.authenticate(caller, if own { &[] } else { &["api-keys:write"] })?;
        self.find(caller, key)?;
        self.end(key);
        Ok(())
    }

    pub(super) fn end(&mut self, key: usize) {
        self.keys[key].revoked_at = Some(self.now);
        self.record(key, "api_key.revoked");
    }

    /// Reports a credential as leaked. The answer tells nothing.
    pub fn leak(&mut self, (key, credential): Place) {
        let (now, it) = (self.now, &mut self.keys[key]);
        let Credential { ends_at, gone, .. } = it.credentials[credential];
        match ends_at {
            _ if gone || it.revoked_at.is_some() => (),
            None => self.end(key),
            Some(at) if now < at => {
                it.credentials[credential].ends_at = Some(now);
                self.record(key, "api_key.grace_ended");
            }
            Some(_) => (),
        }
    }
}
