//! [`Caller`]: what a handler takes to be sure of its caller.

use std::{
    future::{Ready, ready},
    marker::PhantomData,
};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};

use crate::{
    domain::scope,
    http::problem::Problem,
    service::{Denial, Error, Keyward, Principal},
};

/// A caller who holds one of the scopes that `P` asks for. A handler that takes one cannot run
/// without it.
pub struct Caller<P> {
    pub principal: Principal,
    permission: PhantomData<P>,
}

/// A permission, as a type.
pub trait Permission: 'static {
    /// Scopes of which one is enough. None at all: any accepted key.
    const ANY_OF: &'static [&'static str];
}

macro_rules! permissions {
    ($($name:ident: [$($scope:expr),*],)+) => {
        $(
            pub struct $name;

            impl Permission for $name {
                const ANY_OF: &'static [&'static str] = &[$($scope),*];
            }
        )+
    };
}

permissions! {
    AnyKey: [],
    ReadKeys: [scope::KEYS_READ, scope::ACCOUNTS_READ],
    ReadOwnKeys: [scope::KEYS_READ],
    WriteKeys: [scope::KEYS_WRITE, scope::ACCOUNTS_WRITE],
    WriteOwnKeys: [scope::KEYS_WRITE],
    RotateItself: [scope::KEYS_ROTATE, scope::KEYS_WRITE],
    VerifyKeys: [scope::KEYS_VERIFY],
    ReadAccounts: [scope::ACCOUNTS_READ],
    WriteAccounts: [scope::ACCOUNTS_WRITE],
    ReadEvents: [scope::EVENTS_READ],
}

impl<P: Permission> FromRequest for Caller<P> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(principal) = req.extensions().get::<Principal>().cloned() else {
            return ready(Err(Error::Unauthenticated(Denial::MissingKey).into()));
        };
        let Some(app) = req.app_data::<web::Data<Keyward>>() else {
            return ready(Err(Problem::internal()));
        };
        if !P::ANY_OF.is_empty() && !app.permits(principal.powers, P::ANY_OF) {
            return ready(Err(Error::MissingScope(P::ANY_OF).into()));
        }
        ready(Ok(Self { principal, permission: PhantomData }))
    }
}
