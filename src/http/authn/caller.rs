//! [`Caller`]: the argument by which a handler names the scopes that it requires.

use std::{
    future::{Ready, ready},
    marker::PhantomData,
};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};

use super::examine::permit;
use crate::{
    domain::scope,
    http::problem::Problem,
    service::{Denial, Error, Keyward, Principal},
};

/// A caller that holds one of the scopes that `P` requires. A handler that takes it cannot run without
/// such a caller.
pub struct Caller<P> {
    pub principal: Principal,
    permission: PhantomData<P>,
}

/// A permission, as a type.
pub trait Permission: 'static {
    /// Scopes of which one is enough. An empty list permits every accepted key.
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
        let permitted = permit(app, &principal, P::ANY_OF);
        ready(permitted.map(|()| Self { principal, permission: PhantomData }))
    }
}
