//! How requests reach an app: over HTTP, or within the process.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use reqwest::{Client, ClientBuilder};

use crate::auth::{Stamp, Tls, Unproven};

/// Bytes of an answer that are read: a page, or a group with all its members. Of a longer one so many and one more are kept.
pub(super) const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
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
        let is_read = request.method() == Method::GET;
        let request = reqwest::Request::try_from(request).map_err(|_| NoAnswer::Unreachable)?;
        let mut answer = self.client().execute(request).await.map_err(|error| NoAnswer::of(&error))?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        std::mem::swap(response.headers_mut(), answer.headers_mut());
        *response.body_mut() = match body(answer).await {
            Ok(body) => body,
            Err(error) if is_read => return Err(NoAnswer::of(&error)),
            // Its head says what became of what was written.
            Err(_) => Bytes::new(),
        };
        Ok(response)
    }
}

/// What an answer holds, up to one byte more than is ever looked at.
async fn body(mut answer: reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = (ANSWER_BYTES_MAX + 1).saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if room <= chunk.len() {
            break;
        }
    }
    Ok(body.freeze())
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What comes of a call to somebody who writes this head and then so many bytes.
    async fn answered(method: Method, head: &'static str, count: usize) -> Result<Response<Bytes>, NoAnswer> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let piece = vec![b'x'; 1024 * 1024];
            let mut left = count;
            while left > 0 && stream.write_all(&piece[..left.min(piece.len())]).await.is_ok() {
                left = left.saturating_sub(piece.len());
            }
        });
        let request = Request::builder().method(method).uri(url).body(Bytes::new()).unwrap();
        let http = Http::new(Duration::from_secs(60), Tls::default()).unwrap();
        let answer = http.send(request).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_kept() {
        let answer = answered(Method::GET, "HTTP/1.1 200 OK\r\n\r\n", 4 * ANSWER_BYTES_MAX).await.unwrap();
        assert_eq!(answer.body().len(), ANSWER_BYTES_MAX + 1);
    }

    #[tokio::test]
    async fn what_breaks_off_says_that_it_was_done_and_not_what_is_there() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
        assert_eq!(answered(Method::GET, head, 10).await.unwrap_err(), NoAnswer::Broken);
        let done = answered(Method::DELETE, head, 10).await.unwrap();
        assert_eq!((done.status().as_u16(), done.body().len()), (200, 0));
    }
}
