//! How a command reaches keyward: a server on the network, the server of this machine, or, if none
//! runs, a server inside this process.

pub(super) mod answer;
pub(super) mod client;
pub(super) mod machine;
pub(super) mod network;
pub(super) mod socket;
