//! What handlers read of a request, and what of it is refused.

pub(super) mod body;
pub(super) mod client_address;
pub(super) mod id;
pub mod json;
pub mod numbers;
pub(super) mod query;
pub(super) mod strict;
