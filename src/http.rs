//! The HTTP interface: it parses a request, runs a use case and answers.
//!
//! A request to the API passes [`wrap`], [`authn`] and a handler in [`api`]. Verification and
//! forward auth take a shorter way: [`verification`]. All of them read with [`request`] and
//! [`wire`], and refuse with [`problem`].

pub mod api;
pub mod authn;
mod blocking;
mod connection;
pub mod console;
pub mod control;
pub mod development;
mod envelope;
mod once_per_minute;
pub mod openapi;
pub mod problem;
mod rate_fields;
pub mod request;
mod respond;
mod route_table;
pub mod routes;
pub mod stream_limits;
pub mod system;
pub mod verification;
pub mod wire;

pub use self::{
    connection::{MalformedRequests, Unread},
    envelope::wrap,
    once_per_minute::OncePerMinute,
    request::{
        body::read_body,
        client_address::TrustedProxies,
        id::{REQUEST_ID, RequestIds},
        own_address,
    },
    route_table::{RouteTable, no_such_operation},
    verification::state::VerificationState,
};
