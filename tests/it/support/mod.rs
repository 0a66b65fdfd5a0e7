//! A whole keyward on a free port, with a directory of its own and a clock that the test holds.

pub mod authz;
mod binary;
mod client;
mod forgery;
mod logged;
pub mod proxy;
mod server;
mod stream;

pub use self::{
    binary::{Binary, keyward, keyward_in},
    client::{Request, Response},
    forgery::{checksum, forged},
    logged::Logged,
    server::{Key, TestServer},
    stream::{EventStream, Message},
};
