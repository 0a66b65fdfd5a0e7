//! Runs blocking use cases for asynchronous handlers.

use std::sync::Arc;

use actix_web::web;
use tokio::sync::oneshot;

use crate::{
    http::problem::Problem,
    service::{Error, Keyward, Minted},
};

/// Runs a use case on a thread that may block.
///
/// A use case that has begun is finished even if the client disconnects: a change may therefore have
/// been made by a request whose answer was never read.
pub(crate) async fn run<T: Send + 'static>(
    app: &web::Data<Keyward>,
    use_case: impl FnOnce(&Keyward) -> Result<T, Error> + Send + 'static,
) -> Result<T, Problem> {
    let app: Arc<Keyward> = Arc::clone(app);
    let outcome = web::block(move || use_case(&app)).await;
    Ok(outcome.map_err(|_| Problem::internal())??)
}

/// Returns a new key, minted on a thread of low priority. 503 if too many requests wait for one.
pub(crate) async fn minted(app: &web::Data<Keyward>) -> Result<Minted, Problem> {
    let (sender, receiver) = oneshot::channel();
    // The send fails if the client disconnected meanwhile.
    let accepted = app.mint_apart(|minted| drop(sender.send(minted)));
    accepted.map_err(|_| Problem::unavailable())?;
    receiver.await.map_err(|_| Problem::internal())
}
