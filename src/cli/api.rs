//! The way from a command to a keyward: a server on the network, the server of this machine, or, when
//! none runs, a server inside this process.

pub(super) mod answer;
pub(super) mod client;
pub(super) mod machine;
pub(super) mod network;
pub(super) mod socket;
