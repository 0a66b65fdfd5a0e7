//! The reader of a stream.

use crate::{
    http::stream_limits::StreamPermit,
    service::{Principal, Viewer},
};

/// Who reads a stream.
pub(super) enum Reader {
    /// Somebody on the machine, by the control socket.
    Operator,
    /// A key, looked at again for as long as the stream lasts, and the place that it takes.
    Caller { principal: Box<Principal>, _place: StreamPermit },
}

impl Reader {
    pub(super) fn viewer(&self) -> Viewer {
        match self {
            Self::Operator => Viewer::Operator,
            Self::Caller { principal, .. } => principal.viewer(),
        }
    }
}
