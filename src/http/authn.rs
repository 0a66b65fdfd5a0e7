//! Authentication: who is calling, and what they may do.
//!
//! There are two steps, on purpose. actix-web runs the extractors of a handler side by side, so an
//! extractor that awaits loses the race to the one that parses the body: a client without a key would
//! be told what is wrong with its JSON. [`authenticate`] therefore runs as middleware, before any
//! extractor, and [`Caller`] only reads what it left.

mod authenticate;
mod caller;
mod denied;
mod examine;
mod presented;

pub use self::{
    authenticate::{admit_operator, authenticate},
    caller::{
        AnyKey, Caller, Permission, ReadAccounts, ReadEvents, ReadKeys, ReadOwnKeys, RotateItself,
        VerifyKeys, WriteAccounts, WriteKeys, WriteOwnKeys,
    },
    denied::DeniedCaller,
    examine::{Refusal, caller, examine, identified, judged, judged_identity, permit},
    presented::{Ambiguity, IDEMPOTENCY_KEY, PresentedKey, key_in_query, without_key},
};
