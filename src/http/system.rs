//! The addresses beside the API: health, metrics, the API document, the console and Swagger UI.

pub(super) mod discovery;
pub mod documents;
pub(super) mod health;
pub(super) mod metrics;
pub mod pages;
pub mod swagger_ui;
