//! Safe retries: the answer to a create or rotate is kept for its `Idempotency-Key`.
//!
//! The answer is stored in the transaction of the change, so a change never lacks its answer. It is
//! sealed under the API key of the caller: see [`crate::domain::sealed_answer`].

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    domain::{
        account::Account,
        id::KeyId,
        plaintext_key::PlaintextKey,
        sealed_answer::{IdempotentRequest, SealingSecret},
    },
    env::Entropy,
    service::{Conflict, Error, Gain, KeyAccess, KeyChange, KeyView, Keyward, Principal},
    store::{KeptAnswer, StoreError, WriteTx},
};

/// The text of an answer.
pub type Answer = Zeroizing<Vec<u8>>;
/// Writes the answer that shows a key with its plaintext, and the account that was made with it.
type WriteAnswer = Box<dyn Fn(&KeyView, &PlaintextKey, Option<&Account>) -> Answer + Send>;

/// The requests with an `Idempotency-Key` that run now. Each belongs to an open connection.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningRequests(Arc<Mutex<HashSet<RunningId>>>);

/// The caller and the digest of the `Idempotency-Key`.
type RunningId = (KeyId, [u8; 32]);

/// Marks a request as running until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    running: RunningRequests,
    id: RunningId,
}

/// A request with an `Idempotency-Key`.
pub struct IdempotentCall {
    pub request: IdempotentRequest,
    pub secret: SealingSecret,
    /// How the operation reaches the key that its answer shows.
    pub access: KeyAccess,
}

/// What a request with an `Idempotency-Key` is.
pub enum Attempt {
    /// No answer is kept for it.
    First(FirstAttempt),
    /// It repeats a request that was answered with this.
    Repeated(Answer),
}

/// A request whose answer is to be kept. No other request with its `Idempotency-Key` runs.
pub struct FirstAttempt {
    request: IdempotentRequest,
    secret: SealingSecret,
    entropy: Arc<dyn Entropy>,
    /// Shared with the change, which holds it until the commit.
    turn: Arc<Turn>,
}

/// Keeps the answer to one request, inside the transaction of its change.
pub struct AnswerKeeper {
    first: FirstAttempt,
    write: WriteAnswer,
}

impl RunningRequests {
    fn take(&self, request: &IdempotentRequest) -> Result<Turn, Conflict> {
        let id = (request.caller, request.token);
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        let turn = || Turn { running: self.clone(), id };
        is_new.then(turn).ok_or(Conflict::IdempotencyInProgress)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl FirstAttempt {
    /// Returns what keeps the answer, which `write` writes.
    pub fn keeper(
        self,
        write: impl Fn(&KeyView, &PlaintextKey, Option<&Account>) -> Answer + Send + 'static,
    ) -> AnswerKeeper {
        AnswerKeeper { first: self, write: Box::new(write) }
    }
}

impl AnswerKeeper {
    /// Keeps the answer that shows this key.
    ///
    /// # Errors
    /// [`Conflict::IdempotencyInProgress`] if an answer to another request is kept already.
    pub(super) fn keep(
        &self,
        tx: &WriteTx<'_>,
        view: &KeyView,
        plaintext: &PlaintextKey,
        account: Option<&Account>,
    ) -> Result<(), Error> {
        let FirstAttempt { request, secret, entropy, .. } = &self.first;
        let answer = (self.write)(view, plaintext, account);
        let kept = KeptAnswer {
            request: *request,
            subject: view.key.id,
            prefix: plaintext.prefix(),
            sealed: secret.seal(request, answer, &**entropy),
        };
        let is_kept = tx.keep_answer(&kept, tx.now().before(Keyward::ANSWERS_KEPT))?;
        tx.empty_ended_answers(view.key.id)?;
        is_kept.then_some(()).ok_or(Error::Conflict(Conflict::IdempotencyInProgress))
    }

    /// Returns what marks the request as running. It must last until the commit.
    pub(super) fn turn(&self) -> Arc<Turn> {
        Arc::clone(&self.first.turn)
    }
}

impl Keyward {
    /// How long an answer is kept for its `Idempotency-Key`.
    pub const ANSWERS_KEPT: Duration = Duration::from_hours(24);

    /// Returns the answer to the request that this one repeats, if there is one. Costs no change of the
    /// budget.
    ///
    /// # Errors
    /// If the same caller runs a request with this `Idempotency-Key` now, or used it for another request;
    /// if the value that the answer shows is not accepted any more; or if the caller may no longer
    /// receive it.
    pub fn attempt(&self, caller: &Principal, call: IdempotentCall) -> Result<Attempt, Error> {
        let IdempotentCall { request, secret, access } = call;
        let turn = self.running_requests.take(&request)?;
        self.store.read(|tx| {
            // Since the request was authenticated, the caller may have been revoked or limited.
            let caller = &self.authorizer.reauthorize(tx, self.env.time.now(), caller, &[])?;
            let checks = self.checks(tx, caller);
            let cutoff = checks.now.before(Self::ANSWERS_KEPT);
            let Some(kept) = tx.kept_answer(&request, cutoff)? else {
                let entropy = Arc::clone(&self.env.entropy);
                return Ok(Attempt::First(FirstAttempt {
                    request,
                    secret,
                    entropy,
                    turn: Arc::new(turn),
                }));
            };
            if kept.request != request {
                return Err(Error::IdempotencyKeyReused);
            }
            let record = tx.key(kept.subject)?.filter(|it| it.key.revoked_at.is_none());
            let shown = record.as_ref().and_then(|it| it.find(kept.prefix));
            let is_accepted = shown.is_some_and(|it| {
                let in_time = it.ended_at.is_none() && it.credential.is_valid_at(checks.now);
                in_time && !self.store.index().grace_is_over(kept.prefix)
            });
            if !is_accepted || kept.sealed.is_empty() {
                return Err(Conflict::IdempotentResultRevoked.into());
            }
            let answer = secret.open(&request, &kept.sealed).ok_or_else(|| unreadable(&request))?;
            // The answer gives a secret, so the caller must still be one that could change the key.
            let change = KeyChange { id: kept.subject, access, expected: None };
            checks.key_to_change(change, Gain::Secret)?;
            Ok(Attempt::Repeated(answer))
        })
    }
}

fn unreadable(request: &IdempotentRequest) -> StoreError {
    let row = request.caller.to_string();
    StoreError::Corrupt { table: "idempotent_answers", column: "sealed", row }
}
