//! Checks that the threads that answer requests still run.

use std::sync::{Mutex, PoisonError};

use actix_web::rt;
use tokio::sync::{
    mpsc::{self, UnboundedSender},
    oneshot,
};

/// The workers of the public server. Each answers a question between two requests.
#[derive(Debug, Default)]
pub struct Workers {
    questions: Mutex<Vec<UnboundedSender<oneshot::Sender<()>>>>,
}

impl Workers {
    /// Adds the worker that calls this.
    ///
    /// Must be called on the worker's own thread, inside its runtime.
    pub(super) fn join(&self) {
        let (sender, mut questions) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
        rt::spawn(async move {
            while let Some(answer) = questions.recv().await {
                // An error means that the caller waits no longer.
                let _ = answer.send(());
            }
        });
        self.lock().push(sender);
    }

    /// Returns when every worker has answered. Never returns if a worker is stuck.
    pub async fn all_answer(&self) {
        let mut answers = Vec::new();
        self.lock().retain(|worker| {
            let (sender, answer) = oneshot::channel();
            // The server replaces a worker that ended, and the new one joins.
            let alive = worker.send(sender).is_ok();
            if alive {
                answers.push(answer);
            }
            alive
        });
        for answer in answers {
            // An error means that the worker has ended.
            let _ = answer.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<UnboundedSender<oneshot::Sender<()>>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
