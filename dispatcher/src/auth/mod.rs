//! How an app is shown who we are: a bearer token, a name and a password, an OAuth 2.0 access token, a certificate of our
//! own. Secrets are read where they are kept, again when they are refused, and shown to nobody else.

mod assertion;
mod oauth;
mod tls;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eventlog::file;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use self::oauth::{ClientAuth, OAuth};
pub(crate) use self::tls::Stamp;
pub use self::tls::Tls;
use crate::Secret;
use crate::connector::{NoAnswer, Transport};

/// How long a token is kept that may be renewed and could not be.
const AGAIN_DELAY: Duration = Duration::from_secs(10);

/// What `[app.NAME.auth]` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// What every request shows.
    pub scheme: Scheme,
    /// Our certificate and whose certificates we trust, of the app and of the token endpoint.
    pub tls: Tls,
}

/// What every request shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheme {
    /// Nothing but the certificate of the connection.
    Certificate,
    /// A bearer token.
    Bearer(Source),
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Source,
    },
    /// An access token that is asked for with our credentials.
    OAuth(Box<OAuth>),
}

impl Auth {
    /// A bearer token, and nothing else.
    pub fn bearer(token: Secret) -> Self {
        Self { scheme: Scheme::Bearer(Source::Given(token)), tls: Tls::default() }
    }

    /// What cannot work, each with the name of its setting. Reads every file.
    pub fn mistakes(&self) -> Vec<String> {
        let mut found = self.tls.mistakes();
        let mut check = |name: &str, source: &Source| match source.read() {
            Err(error) => found.push(format!("{name}: {error}")),
            Ok(secret) if secret.expose().is_empty() => found.push(format!("{name}: is empty")),
            Ok(secret) if HeaderValue::from_str(secret.expose()).is_err() => {
                found.push(format!("{name}: has a character that no header may have"));
            }
            Ok(_) => {}
        };
        match &self.scheme {
            Scheme::Bearer(token) => check("token", token),
            Scheme::Basic { user, password } => {
                check("password", password);
                if user.contains(':') {
                    found.push("username: must have no colon".to_string());
                }
            }
            Scheme::OAuth(oauth) => found.extend(oauth.mistakes(self.tls.has_certificate())),
            Scheme::Certificate if !self.tls.has_certificate() => {
                found.push("client_certificate: is needed when nothing else says who we are".to_string());
            }
            Scheme::Certificate => {}
        }
        found
    }
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In the configuration or the environment.
    Given(Secret),
    /// In a file, which is read again when the secret is refused.
    File(PathBuf),
}

impl Source {
    /// The secret; the error names the file and nothing of what it holds.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => file::text(path)
                .map(|text| Secret::new(text.trim()))
                .map_err(|error| format!("{} cannot be read: {error}", path.display())),
        }
    }

    fn read_now(&self) -> Result<Secret, Unproven> {
        self.read().map_err(|error| {
            tracing::error!(error, "a secret cannot be read");
            Unproven::Unreadable
        })
    }
}

/// Why we have nothing to show. Says nothing that a server wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Our credentials are wrong.
    #[error("the token endpoint does not know our credentials (invalid_client)")]
    InvalidClient,
    /// Another error of RFC 6749.
    #[error("the token endpoint refuses a token ({0})")]
    Refused(&'static str),
    /// Neither a token nor such an error.
    #[error("the token endpoint answers {0}")]
    Answers(u16),
    /// An answer without a bearer token.
    #[error("the token endpoint answers no bearer token")]
    NoToken,
    /// No answer.
    #[error("the token endpoint does not answer")]
    Unreachable,
    /// A file of ours.
    #[error("a file with our credentials cannot be read")]
    Unreadable,
    /// What cannot be sent.
    #[error("a secret has a character that no header may have")]
    Unsendable,
    /// The connection's certificates.
    #[error("the other side's certificate or ours was refused")]
    Certificate,
}

/// What a request shows, and for how long it may.
#[derive(Clone, Debug)]
struct Shown {
    /// Marked as sensitive, so that it shows itself to nobody.
    header: HeaderValue,
    /// From when on it should be had anew, and from when on it is worth nothing.
    ends: Option<(Instant, Instant)>,
    number: u64,
}

impl Shown {
    fn new(text: &str, lives: Option<Duration>) -> Result<Self, Unproven> {
        let mut header = HeaderValue::from_str(text).map_err(|_| Unproven::Unsendable)?;
        header.set_sensitive(true);
        let now = Instant::now();
        let ends = lives.map(|lives| (now + lives * 4 / 5, now + lives));
        Ok(Self { header, ends, number: 0 })
    }

    fn is_fresh(&self) -> bool {
        self.ends.is_none_or(|(renewed, _)| Instant::now() < renewed)
    }

    fn is_valid(&self) -> bool {
        self.ends.is_none_or(|(_, end)| Instant::now() < end)
    }
}

#[derive(Default)]
struct Kept {
    shown: Option<Shown>,
    /// Why there is none, when the last attempt failed.
    failure: Option<Unproven>,
}

/// Shows an app who we are. What it shows is made once for all who call at the same time.
pub(crate) struct Authenticator {
    scheme: Scheme,
    kept: Mutex<Kept>,
    /// Attempts so far.
    attempts: AtomicU64,
}

impl Authenticator {
    pub(crate) fn new(auth: &Auth) -> Self {
        Self { scheme: auth.scheme.clone(), kept: Mutex::default(), attempts: AtomicU64::new(0) }
    }

    /// Sends a request with what shows who we are. When the app does not take it, it is made anew and the request is sent
    /// once more: who is not let in did nothing.
    pub(crate) async fn send(
        &self,
        transport: &dyn Transport,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, NoAnswer> {
        if matches!(self.scheme, Scheme::Certificate) {
            return transport.send(request).await;
        }
        let shown = self.shown(transport, None).await.map_err(NoAnswer::Unauthenticated)?;
        let answer = transport.send(with(request.clone(), &shown)).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let fresh = self.shown(transport, Some(shown.number)).await.map_err(NoAnswer::Unauthenticated)?;
        if fresh.header == shown.header {
            return Ok(answer);
        }
        transport.send(with(request, &fresh)).await
    }

    /// What to show, but not what was refused.
    async fn shown(&self, transport: &dyn Transport, refused: Option<u64>) -> Result<Shown, Unproven> {
        let attempts = self.attempts.load(Ordering::Acquire);
        let mut kept = self.kept.lock().await;
        let usable = kept.shown.clone().filter(|shown| Some(shown.number) != refused);
        if let Some(shown) = usable.clone().filter(Shown::is_fresh) {
            return Ok(shown);
        }
        let failed = match kept.failure {
            // Somebody asked while we waited for our turn.
            Some(failure) if self.attempts.load(Ordering::Acquire) != attempts => failure,
            Some(_) | None => {
                let made = self.make(transport).await;
                let number = self.attempts.fetch_add(1, Ordering::AcqRel) + 1;
                kept.failure = made.as_ref().err().copied();
                match made {
                    Ok(made) => {
                        let shown = Shown { number, ..made };
                        kept.shown = Some(shown.clone());
                        return Ok(shown);
                    }
                    Err(failure) => failure,
                }
            }
        };
        // A token is had anew a while before its end, so that this can fail for a while.
        let Some(mut valid) = usable.filter(Shown::is_valid) else { return Err(failed) };
        tracing::warn!(error = %failed, "a token cannot be renewed; the former one is used until it ends");
        valid.ends = valid.ends.map(|(_, end)| (end.min(Instant::now() + AGAIN_DELAY), end));
        kept.shown = Some(valid.clone());
        Ok(valid)
    }

    async fn make(&self, transport: &dyn Transport) -> Result<Shown, Unproven> {
        match &self.scheme {
            Scheme::Bearer(token) => Shown::new(&format!("Bearer {}", token.read_now()?.expose()), None),
            Scheme::Basic { user, password } => Shown::new(&basic(user, password.read_now()?.expose()), None),
            Scheme::OAuth(oauth) => {
                let token = oauth.ask(transport).await?;
                Shown::new(&format!("Bearer {}", token.text.expose()), Some(token.lives))
            }
            Scheme::Certificate => Err(Unproven::Unsendable),
        }
    }
}

fn with(mut request: Request<Bytes>, shown: &Shown) -> Request<Bytes> {
    request.headers_mut().insert(header::AUTHORIZATION, shown.header.clone());
    request
}

/// RFC 7617.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests;
