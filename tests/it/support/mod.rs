//! A whole keyward on a free port, with a directory of its own and a clock that the test holds.

mod binary;
mod client;
mod logged;
mod server;

pub use self::{
    binary::{Binary, keyward, keyward_in},
    client::{Request, Response},
    logged::Logged,
    server::{Key, TestServer},
};
