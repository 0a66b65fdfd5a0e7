//! The reader of a stream, and the events that it may see.

use crate::{
    http::stream_limits::StreamPermit,
    service::{Principal, Viewer},
};

/// The reader of a stream.
pub(super) enum Reader {
    /// A command on this machine, through the control socket.
    Operator,
    /// A key, which is reviewed for as long as the stream lasts, and its permit.
    Caller { principal: Box<Principal>, _permit: StreamPermit },
}

impl Reader {
    pub(super) fn viewer(&self) -> Viewer {
        match self {
            Self::Operator => Viewer::Operator,
            Self::Caller { principal, .. } => principal.viewer(),
        }
    }
}
