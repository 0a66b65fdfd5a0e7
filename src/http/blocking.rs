//! The crossing from asynchronous handlers to use cases that block.

use std::sync::Arc;

use actix_web::web;
use tokio::sync::oneshot;

use crate::{
    http::problem::Problem,
    service::{Error, Keyward, Minted},
};

/// Runs a use case where blocking is allowed.
///
/// What has begun is finished even if the client goes away: a change may have been made by a
/// request whose answer nobody read.
pub(crate) async fn run<T: Send + 'static>(
    app: &web::Data<Keyward>,
    use_case: impl FnOnce(&Keyward) -> Result<T, Error> + Send + 'static,
) -> Result<T, Problem> {
    let app: Arc<Keyward> = Arc::clone(app);
    let outcome = web::block(move || use_case(&app)).await;
    Ok(outcome.map_err(|_| Problem::internal())??)
}

/// A new key, minted on a thread that gives way to all others. 503 if too many wait for theirs.
pub(crate) async fn minted(app: &web::Data<Keyward>) -> Result<Minted, Problem> {
    let (tell, told) = oneshot::channel();
    // The client may have gone meanwhile.
    let accepted = app.mint_apart(|minted| drop(tell.send(minted)));
    accepted.map_err(|_| Problem::unavailable())?;
    told.await.map_err(|_| Problem::internal())
}
