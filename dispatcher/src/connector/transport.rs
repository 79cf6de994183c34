//! How requests reach an app: over HTTP, or within the process.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use reqwest::{Client, ClientBuilder};

use crate::auth::{Stamp, Tls, Unproven};

/// How often it is looked whether a file of certificates was replaced.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Carries requests to apps. Whoever gives another one than HTTP has his apps in the same process.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and waits for the answer, for as long as a call may take.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer>;
}

/// There was no answer, so what was asked for may have been done. Says nothing that could name a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Too late.
    #[error("no answer in time")]
    Timeout,
    /// There is nobody there.
    #[error("the app cannot be reached")]
    Unreachable,
    /// Neither of these.
    #[error("the connection failed")]
    Broken,
    /// Nothing was asked for, because we cannot show who we are, or the other side cannot.
    #[error("{0}")]
    Unauthenticated(Unproven),
}

/// HTTP.
pub(crate) struct Http {
    timeout: Duration,
    tls: Tls,
    made: Mutex<Made>,
}

/// The client of these files.
struct Made {
    client: Client,
    stamp: Stamp,
    looked: Instant,
}

impl Http {
    /// Files that cannot be used are said here; later the former ones are kept.
    pub(crate) fn new(timeout: Duration, tls: Tls) -> Result<Self, String> {
        let made = Made { client: client(timeout, &tls)?, stamp: tls.stamp(), looked: Instant::now() };
        Ok(Self { timeout, tls, made: Mutex::new(made) })
    }

    fn client(&self) -> Client {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tls.is_used() && made.looked.elapsed() > LOOK_INTERVAL {
            made.looked = Instant::now();
            let stamp = self.tls.stamp();
            if stamp != made.stamp {
                match client(self.timeout, &self.tls) {
                    Ok(client) => {
                        tracing::info!("certificates were replaced; connecting anew");
                        (made.client, made.stamp) = (client, stamp);
                    }
                    // Two files are not replaced at once.
                    Err(error) => tracing::warn!(error, "certificates that were replaced cannot be used yet"),
                }
            }
        }
        made.client.clone()
    }
}

fn client(timeout: Duration, tls: &Tls) -> Result<Client, String> {
    let builder: ClientBuilder = Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")));
    tls.apply(builder)?
        .build()
        .map_err(|error| format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default()))
}

#[async_trait::async_trait]
impl Transport for Http {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        let request = reqwest::Request::try_from(request).map_err(|_| NoAnswer::Unreachable)?;
        let mut answer = self.client().execute(request).await.map_err(|error| NoAnswer::of(&error))?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        std::mem::swap(response.headers_mut(), answer.headers_mut());
        // An answer whose head came is an answer, even when its body breaks off.
        *response.body_mut() = answer.bytes().await.unwrap_or_default();
        Ok(response)
    }
}

impl NoAnswer {
    fn of(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else if is_about_certificates(error) {
            Self::Unauthenticated(Unproven::Certificate)
        } else if error.is_connect() {
            Self::Unreachable
        } else {
            Self::Broken
        }
    }
}

/// Whether the handshake failed: nothing was heard of the request then.
fn is_about_certificates(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        // An I/O error shows the error in it, but not as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        cause = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    false
}
