//! The parts of a request: body, JSON, query, client address and identifier; and their strict reading.

pub(super) mod body;
pub(crate) mod client_address;
pub(super) mod id;
pub mod json;
pub mod own_address;
pub mod query;
pub(super) mod strict;
