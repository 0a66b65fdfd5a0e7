//! Whether the threads that answer requests still run.

use std::sync::{Mutex, PoisonError};

use actix_web::rt;
use tokio::sync::{
    mpsc::{self, UnboundedSender},
    oneshot,
};

/// The workers of the public server. Each can be asked for a sign of life.
#[derive(Debug, Default)]
pub struct Workers {
    questions: Mutex<Vec<UnboundedSender<oneshot::Sender<()>>>>,
}

impl Workers {
    /// Adds the calling worker, which answers between two requests from now on.
    ///
    /// Must be called on the worker's own thread, inside its runtime.
    pub(super) fn join(&self) {
        let (sender, mut questions) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
        rt::spawn(async move {
            while let Some(answer) = questions.recv().await {
                // The asker may have given up.
                let _ = answer.send(());
            }
        });
        self.lock().push(sender);
    }

    /// Returns once every worker has answered. A worker that is stuck makes this wait for ever.
    pub async fn all_answer(&self) {
        let mut answers = Vec::new();
        self.lock().retain(|worker| {
            let (sender, answer) = oneshot::channel();
            // A worker that ended is replaced by the server, and the new one joins.
            let alive = worker.send(sender).is_ok();
            if alive {
                answers.push(answer);
            }
            alive
        });
        for answer in answers {
            // An error means that the worker ended meanwhile.
            let _ = answer.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<UnboundedSender<oneshot::Sender<()>>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
