//! A server on a private socket, for commands that find no running server.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use actix_web::rt::System;
use tokio::{sync::oneshot, task::spawn_blocking};

use super::{Error, Instance, control_server};
use crate::http::control::JobRunner;

/// Holds the data directory and answers in its own thread as a running server does.
#[derive(Debug)]
pub struct InProcessServer {
    instance: Arc<Instance>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), Error>>,
}

impl InProcessServer {
    /// Returns when the socket accepts connections.
    pub fn start(instance: Instance) -> Result<Self, Error> {
        let instance = Arc::new(instance);
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let inside = Arc::clone(&instance);
        let thread = thread::spawn(move || {
            System::new().block_on(async move {
                let app = Arc::clone(&inside.app);
                // There is no scheduler, so no other run of the job to wait for.
                let jobs = JobRunner(Box::new(move |job| {
                    let app = Arc::clone(&app);
                    let run = spawn_blocking(move || app.run_job(job, &|| false));
                    Box::pin(async move { run.await.ok() })
                }));
                let socket = inside.dir.layout().command_socket();
                let server = control_server(&inside, &socket, jobs, &inside.url)?;
                let handle = server.handle();
                // An error means that the command waits no longer.
                let _ = ready.send(());
                actix_web::rt::spawn(async move {
                    let _ = stopped.await; // Also when the other end was dropped.
                    handle.stop(true).await;
                });
                server.await.map_err(Error::Run)
            })
        });
        if is_ready.recv().is_err() {
            let ended = || Error::Run(io::Error::other("the thread ended before it was ready"));
            return Err(joined(thread).err().unwrap_or_else(ended));
        }
        Ok(Self { instance, stop, thread })
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.instance.dir.layout().command_socket()
    }

    /// Lets the running requests finish, then closes the instance.
    pub fn close(self) -> Result<(), Error> {
        drop(self.stop);
        joined(self.thread)?;
        self.instance.streams.close();
        self.instance.close()
    }
}

fn joined(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    let panicked = |_| Err(Error::Run(io::Error::other("the thread panicked")));
    thread.join().unwrap_or_else(panicked)
}
