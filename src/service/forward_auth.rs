//! Forward auth: which scopes a request to the protected API needs.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    domain::{
        policy::{Access, Policy, RequiredScopes, Undecided},
        request_path::{Ambiguity, RequestPath, check_method},
        scope::ScopeBits,
    },
    service::{Error, Keyward},
};

/// A request to the protected API, as the proxy describes it. A part that the proxy leaves out is
/// `None`.
#[derive(Clone, Copy, Debug)]
pub struct OriginalRequest<'a> {
    pub method: Option<&'a str>,
    pub host: Option<&'a str>,
    /// Path and query, unchanged.
    pub target: Option<&'a [u8]>,
    /// Whether it is a CORS preflight request (Fetch standard), which carries no key.
    pub preflight: bool,
}

impl Keyward {
    /// Sets whether a CORS preflight request needs no key. May change while the server runs.
    pub fn set_allow_preflight(&self, allow: bool) {
        self.allow_preflight.store(allow, Ordering::Relaxed);
    }

    /// Replaces the route policy. Requests in progress keep the one that they have.
    pub fn use_policy(&self, policy: Option<Policy>) {
        self.policy.store(policy.map(Arc::new));
    }

    /// Returns who may make this request: what the policy says, and in any case the scopes `asked`,
    /// which the proxy asks for. Without a request no policy applies.
    pub fn access(
        &self,
        request: Option<&OriginalRequest<'_>>,
        asked: ScopeBits,
    ) -> Result<Access, Error> {
        let Some(request) = request else { return Ok(Access::Key(RequiredScopes::all(asked))) };
        let policy = self.policy.load();
        let Some(target) = request.target else {
            return match *policy {
                Some(_) => Err(Error::ProxyMistake(
                    "the proxy does not send the path of the request".into(),
                )),
                None => Ok(Access::Key(RequiredScopes::all(asked))),
            };
        };
        let path = RequestPath::parse(target).map_err(Error::Ambiguous)?;
        request.method.map_or(Ok(()), check_method).map_err(Error::Ambiguous)?;
        if request.preflight && self.allow_preflight.load(Ordering::Relaxed) {
            return Ok(Access::Public);
        }
        let Some(policy) = &*policy else { return Ok(Access::Key(RequiredScopes::all(asked))) };
        let method = request.method;
        let method = method.ok_or_else(|| {
            Error::ProxyMistake("the proxy does not send the method of the request".into())
        })?;
        let (_, route) = policy.find(method, request.host, &path).map_err(|why| match why {
            Undecided::NoRoute => Error::NoRoute,
            Undecided::OtherRoute => Error::Ambiguous(Ambiguity::OtherRoute),
            Undecided::NoHost => {
                let what =
                    "the proxy does not send the host of the request, and the policy has `hosts`";
                Error::ProxyMistake(what.into())
            }
        })?;
        Ok(match route.access {
            free @ (Access::Public | Access::Optional(_)) if asked.is_empty() => free,
            Access::Public => Access::Key(RequiredScopes::all(asked)),
            Access::Optional(need) | Access::Key(need) => {
                Access::Key(RequiredScopes { all: need.all.or(asked), ..need })
            }
        })
    }
}
