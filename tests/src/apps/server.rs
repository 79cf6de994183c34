//! The thread that listens. It closes a connection without an answer when the app is told to.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::State;
use super::answer::{Answer, Asked};

/// Dropping it closes everything.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// The connection ends here.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("told not to answer")
    }
}

impl std::error::Error for NoAnswer {}

impl Server {
    pub(super) fn start(listener: TcpListener, state: Arc<Mutex<State>>) -> Self {
        let (stop, stopped) = oneshot::channel();
        listener.set_nonblocking(true).expect("a listener need not block");
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            // Dropped with the runtime, every connection ends.
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, state) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread =
            std::thread::Builder::new().name("app".to_string()).spawn(work).expect("a thread can be made");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener is one");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answered(state.clone(), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A call that is not answered yet, until it is dropped.
struct UnderWay(Arc<Mutex<State>>);

impl UnderWay {
    fn begin(locked: &mut State, state: Arc<Mutex<State>>) -> Self {
        locked.at_once += 1;
        locked.at_once_most = locked.at_once_most.max(locked.at_once);
        Self(state)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.0).at_once -= 1;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answered(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, NoAnswer> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
    let asked = Asked { method: head.method, uri: head.uri, headers: head.headers, body };
    let (late, delay, _under_way) = {
        let mut locked = lock(&state);
        let under_way = UnderWay::begin(&mut locked, state.clone());
        let late = if asked.method == Method::GET { Duration::ZERO } else { locked.sick.late };
        (late, locked.sick.delay, under_way)
    };
    let answer = if late.is_zero() {
        lock(&state).ask(&asked)
    } else {
        // A task of its own: it goes on when the connection, and with it whoever waits here, is gone.
        let work = tokio::spawn(async move {
            tokio::time::sleep(late).await;
            lock(&state).ask(&asked)
        });
        work.await.map_err(|_| NoAnswer)?
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    answer.map(Answer::into_response).ok_or(NoAnswer)
}
