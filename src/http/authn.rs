//! Who is calling, and may they?
//!
//! Two steps, on purpose. actix-web runs a handler's extractors side by side, so an extractor that
//! awaits loses the race to the one that parses the body: a stranger would be told what is wrong
//! with their JSON. [`authenticate`] therefore runs as middleware, before any extractor, and
//! [`Caller`] only looks at what it left.

mod authenticate;
mod caller;
mod presented;

pub use self::{
    authenticate::{
        DeniedCaller, admit_operator, authenticate, identified, recognise, record_retired_use,
    },
    caller::{
        AnyKey, Caller, Permission, ReadAccounts, ReadEvents, ReadKeys, ReadOwnKeys, RotateItself,
        VerifyKeys, WriteAccounts, WriteKeys, WriteOwnKeys,
    },
    presented::{KEY_ONCE, ambiguity, key_in_query, presented_key, unambiguous, without_key},
};
