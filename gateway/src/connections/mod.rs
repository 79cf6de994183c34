//! Connections: how many there are at once, and for how long one may be of no use. It knows no request: what is asked
//! and answered is the router's.
//!
//! A client that is slow, gone or hostile holds a place, never the server: of a request's head, its body, the time between
//! requests and an answer that nobody takes, each has its end. Start reading at [`Connections::serve`].

mod activity;
mod arriving;
mod leftover;
mod sending;
mod unreadable;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::Limits;
use activity::{Activity, Answering};
use arriving::Arriving;
pub(crate) use arriving::Slow;
use sending::Sending;
use unreadable::Explaining;
pub use unreadable::Refusal;

/// How long requests that are under way may take when we are told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long a client may take to leave after it was told that the connection ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long to wait after a connection could not be accepted, for example because no more files can be opened.
const AGAIN_DELAY: Duration = Duration::from_millis(50);
/// The longest head of a request; 431 beyond it, or 414. Nobody has shown a token yet who fills it, and a filter in a URL
/// can take three bytes for one.
const HEAD_BYTES_MAX: u32 = 128 * 1024;
/// How often it is said that clients wait, or cannot be accepted.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// One listener's connections.
#[derive(Clone)]
pub struct Connections {
    listener: &'static str,
    /// What whoever connects now is shown.
    tls: Option<watch::Receiver<TlsAcceptor>>,
    places: Arc<Semaphore>,
    limits: Limits,
    http: Builder<TokioExecutor>,
    refusal: Refusal,
}

impl Connections {
    /// No connections yet. The listener's name is shown in metrics and logs.
    pub fn new(
        listener: &'static str,
        limits: &Limits,
        tls: Option<watch::Receiver<TlsAcceptor>>,
        refusal: Refusal,
    ) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1().max_buf_size(HEAD_BYTES_MAX as usize);
        http.http2().max_header_list_size(HEAD_BYTES_MAX);
        Self {
            listener,
            tls,
            places: Arc::new(Semaphore::new(limits.connections_max)),
            limits: limits.clone(),
            http,
            refusal,
        }
    }

    /// Serves until told to stop, then lets requests that are under way finish.
    pub async fn serve(self, listener: TcpListener, router: Router, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut told = None;
        while let Some((place, stream, address)) = tokio::select! {
            taken = self.take(&listener, &mut told) => Some(taken),
            () = shutdown.cancelled() => None,
        } {
            // A token of its own: each look at one takes its lock, and a connection looks at each request.
            let (all, router, stop) = (self.clone(), router.clone(), shutdown.child_token());
            connections.spawn(async move {
                let _place = place;
                all.connection(stream, address, router, &stop).await;
            });
            while connections.try_join_next().is_some() {}
        }
        // Whoever comes now is refused at once and does not wait for nobody.
        drop(listener);
        let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    }

    /// The next connection, once there is a place for it. Until then it waits where the system keeps those that nobody
    /// has accepted.
    async fn take(
        &self,
        listener: &TcpListener,
        told: &mut Option<Instant>,
    ) -> (Place, TcpStream, SocketAddr) {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.full(told);
                // Nobody closes the semaphore.
                self.places.clone().acquire_owned().await.ok()
            }
        };
        loop {
            match listener.accept().await {
                Ok((stream, address)) => return (Place::new(self.listener, permit), stream, address),
                Err(error) => {
                    metrics::counter!("rollcall_accept_failures_total", "listener" => self.listener)
                        .increment(1);
                    if is_due(told) {
                        tracing::warn!(listener = self.listener, %error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(AGAIN_DELAY).await;
                }
            }
        }
    }

    fn full(&self, told: &mut Option<Instant>) {
        metrics::counter!("rollcall_connections_full_total", "listener" => self.listener).increment(1);
        if is_due(told) {
            let (listener, connections_max) = (self.listener, self.limits.connections_max);
            tracing::warn!(
                listener,
                connections_max,
                "as many clients are connected as may be; further ones wait"
            );
        }
    }

    async fn connection(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        router: Router,
        stop: &CancellationToken,
    ) {
        let activity = Arc::new(Activity::new());
        let stream =
            Sending::new(stream, activity.clone(), Duration::from_millis(self.limits.send_timeout_ms));
        let Some(tls) = self.tls.as_ref().map(|tls| tls.borrow().clone()) else {
            return self.speak(stream, address, router, activity, stop).await;
        };
        tokio::select! {
            accepted = tls.accept(stream) => match accepted {
                Ok(stream) => self.speak(stream, address, router, activity, stop).await,
                Err(error) => tracing::debug!(%error, "no TLS came about"),
            },
            () = self.unused(&activity) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
        router: Router,
        activity: Arc<Activity>,
        stop: &CancellationToken,
    ) {
        let body_timeout = Duration::from_millis(self.limits.body_timeout_ms);
        let served = activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (activity, under_way) = (served.clone(), served.begin());
            let mut request = request.map(|body| Body::new(Arriving::new(body, body_timeout)));
            request.extensions_mut().insert(ConnectInfo(address));
            let router = router.clone();
            async move {
                let answer = leftover::read_out(request, router).await;
                drop(under_way);
                Ok::<_, Infallible>(answer.map(|body| Answering::new(body, activity)))
            }
        });
        let stream = TokioIo::new(Explaining::new(stream, self.refusal));
        let mut connection = pin!(self.http.serve_connection(stream, service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return told(ended),
            () = self.unused(&activity) => {}
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        loop {
            tokio::select! {
                ended = connection.as_mut() => return told(ended),
                () = tokio::time::sleep(GOODBYE) => {}
            }
            if !activity.is_busy() {
                return;
            }
        }
    }

    /// Returns once the connection was of no use for too long.
    async fn unused(&self, activity: &Activity) {
        let head = Duration::from_millis(self.limits.head_timeout_ms);
        let idle = Duration::from_millis(self.limits.idle_timeout_ms);
        let why = activity.unused(head, idle).await;
        metrics::counter!("rollcall_connections_ended_total", "listener" => self.listener, "why" => why)
            .increment(1);
    }
}

/// Whether it is time to say something again.
fn is_due(told: &mut Option<Instant>) -> bool {
    let is_due = told.is_none_or(|told| told.elapsed() > TOLD_INTERVAL);
    if is_due {
        *told = Some(Instant::now());
    }
    is_due
}

/// A connection's place, counted until it is free again, however the connection ends.
struct Place {
    open: Gauge,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    fn new(listener: &'static str, permit: Option<OwnedSemaphorePermit>) -> Self {
        let open = metrics::gauge!("rollcall_connections", "listener" => listener);
        open.increment(1);
        Self { open, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}

/// What a client does wrong, or that it is gone, is its own affair.
fn told(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests;
