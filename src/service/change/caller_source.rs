//! The source of the events of a caller, which only a change can read.

use crate::domain::event::EventSource;

/// Actor, request id and client address of a caller.
///
/// Nothing but a `Change` can read it. So a use case cannot record an event in the name of a
/// caller that it did not look up again:
/// ```compile_fail
/// use keyward::{domain::event::NewEvent, service::{Error, Principal}, store::StoreWriter};
/// fn forget(writer: &StoreWriter, caller: Principal, event: NewEvent) -> Result<(), Error> {
///     writer.write(move |tx| { tx.record(&caller.source, &event)?; Ok(()) })
/// }
/// ```
#[derive(Clone, Debug)]
pub struct CallerSource(pub(super) EventSource);

impl From<EventSource> for CallerSource {
    fn from(source: EventSource) -> Self {
        Self(source)
    }
}
