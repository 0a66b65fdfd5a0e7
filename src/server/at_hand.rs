//! A site that answers on a socket for itself alone: for commands that find no running server.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use actix_web::rt::System;
use tokio::{sync::oneshot, task::spawn_blocking};

use super::{Error, Site, control_server};
use crate::http::control::JobRunner;

/// Holds the data directory and answers as a running server would, in a thread of its own.
#[derive(Debug)]
pub struct AtHand {
    site: Arc<Site>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl AtHand {
    /// Returns once the socket can be connected to.
    pub fn start(site: Site) -> Result<Self, Error> {
        let site = Arc::new(site);
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let inside = Arc::clone(&site);
        let thread = thread::spawn(move || {
            System::new().block_on(async move {
                let app = Arc::clone(&inside.app);
                // No scheduler, so no turns to wait for.
                let jobs = JobRunner(Box::new(move |job| {
                    let app = Arc::clone(&app);
                    let run = spawn_blocking(move || app.run_job(job, &|| false));
                    Box::pin(async move { run.await.ok() })
                }));
                let server = control_server(&inside, &inside.dir.command_socket(), jobs)?;
                let handle = server.handle();
                // Nobody waits any more if this fails.
                let _ = ready.send(());
                actix_web::rt::spawn(async move {
                    let _ = stopped.await; // Also when the other end was dropped.
                    handle.stop(true).await;
                });
                server.await
            })
        });
        if is_ready.recv().is_err() {
            let ended = || Error::Run(io::Error::other("the thread ended before it was ready"));
            return Err(joined(thread).err().unwrap_or_else(ended));
        }
        Ok(Self { site, stop, thread })
    }

    /// The socket to be asked.
    pub fn socket(&self) -> PathBuf {
        self.site.dir.command_socket()
    }

    /// Lets the running requests finish, then closes the site.
    pub fn close(self) -> Result<(), Error> {
        drop(self.stop);
        joined(self.thread)?;
        self.site.streams.close();
        self.site.close()
    }
}

fn joined(thread: JoinHandle<io::Result<()>>) -> Result<(), Error> {
    let panicked = |_| Err(io::Error::other("the thread panicked"));
    thread.join().unwrap_or_else(panicked).map_err(Error::Run)
}
