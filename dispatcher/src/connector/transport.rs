//! How requests reach an app: over HTTP, or within the process.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

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
}

/// HTTP.
pub(crate) struct Http(reqwest::Client);

impl Http {
    pub(crate) fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(client))
    }
}

#[async_trait::async_trait]
impl Transport for Http {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        let request = reqwest::Request::try_from(request).map_err(|_| NoAnswer::Unreachable)?;
        let mut answer = self.0.execute(request).await.map_err(|error| NoAnswer::of(&error))?;
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
        } else if error.is_connect() {
            Self::Unreachable
        } else {
            Self::Broken
        }
    }
}
