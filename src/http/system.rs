//! The addresses beside the API: health, metrics, the API document and Swagger UI.

pub mod documents;
pub(super) mod health;
pub(super) mod metrics;
pub mod swagger_ui;
