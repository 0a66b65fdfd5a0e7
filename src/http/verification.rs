//! Verification and forward auth: the hot routes, called with each request to the protected API.

pub(super) mod authz;
pub(super) mod state;
pub(super) mod verify;

mod authz_response;
