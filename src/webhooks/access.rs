//! The application, for as long as the server lets deliveries use it.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{service::Keyward, telemetry::Metrics};

/// The application as deliveries reach it. An attempt that hangs may outlive the server, and must not
/// touch the database after that.
pub(super) struct Access {
    app: RwLock<Option<Arc<Keyward>>>,
    pub metrics: Arc<Metrics>,
}

impl Access {
    pub fn new(app: Arc<Keyward>, metrics: Arc<Metrics>) -> Self {
        Self { app: RwLock::new(Some(app)), metrics }
    }

    /// Runs `body` with the application. Returns `None` once access was ended.
    pub fn with<T>(&self, body: impl FnOnce(&Keyward) -> T) -> Option<T> {
        let app = self.app.read().unwrap_or_else(PoisonError::into_inner);
        app.as_deref().map(body)
    }

    /// Ends access. Returns when no delivery uses the application any more.
    pub fn end(&self) {
        *self.app.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
