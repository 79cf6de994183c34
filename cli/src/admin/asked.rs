//! What a request to the admin API says, read once: that it may, and its parameters. A parameter that nobody knows is
//! refused: whoever misspells `at` must not take the present for the past.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use projector::When;
use tokio::sync::OwnedSemaphorePermit;
use url::form_urlencoded;

use super::About;
use super::problem::Problem;
use crate::at;

/// The longest page; a larger `count` is cut.
pub(super) const PAGE_MAX: usize = 1_000;
/// The page of whoever does not ask for a count.
const PAGE_DEFAULT: usize = 100;
/// How many requests look at the past at the same time.
pub(super) const TURNS_MAX: usize = 4;
/// How long a further one waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Whoever presents the admin token.
pub(super) struct Operator;

impl FromRequestParts<Arc<About>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, about: &Arc<About>) -> Result<Self, Problem> {
        let presented = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let presented = presented.and_then(|value| value.split_once(' '));
        let presented = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let presented = presented.map(|(_, token)| token).unwrap_or_default();
        // Comparing digests takes the same time for every wrong token.
        let digest = |text: &str| <sha2::Sha256 as sha2::Digest>::digest(text.as_bytes());
        if digest(presented) == digest(&about.token) { Ok(Self) } else { Err(Problem::unauthorized()) }
    }
}

/// What whoever presents the admin token sent.
pub(super) struct Sent(pub(super) Bytes);

impl FromRequest<Arc<About>> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, about: &Arc<About>) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        Operator::from_request_parts(&mut parts, about).await?;
        let body = Bytes::from_request(Request::from_parts(parts, body), about).await;
        body.map(Self).map_err(|rejected| Problem::unread(rejected.status()))
    }
}

impl FromRequestParts<Arc<About>> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, about: &Arc<About>) -> Result<Self, Problem> {
        Operator::from_request_parts(parts, about).await?;
        Self::read(parts.uri.query().unwrap_or_default())
    }
}

/// A question about the directory, whose turn it is.
pub(super) struct Asked {
    parameters: Parameters,
    _turn: OwnedSemaphorePermit,
}

impl FromRequestParts<Arc<About>> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, about: &Arc<About>) -> Result<Self, Problem> {
        Operator::from_request_parts(parts, about).await?;
        let parameters = Parameters::read(parts.uri.query().unwrap_or_default())?;
        let turn = tokio::time::timeout(TURN_TIMEOUT, about.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::busy("busy", format!("{TURNS_MAX} others are being answered; ask again")));
        };
        Ok(Self { parameters, _turn: turn })
    }
}

impl std::ops::Deref for Asked {
    type Target = Parameters;

    fn deref(&self) -> &Parameters {
        &self.parameters
    }
}

impl std::ops::DerefMut for Asked {
    fn deref_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }
}

/// The parameters that were not read yet.
#[derive(Debug)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn read(query: &str) -> Result<Self, Problem> {
        let mut found = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            if found.insert(name.clone(), value).is_some() {
                return Err(wrong(&name, "is given twice"));
            }
        }
        Ok(Self(found))
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    /// A text that must be given.
    pub(super) fn required(&mut self, name: &str, why: &str) -> Result<String, Problem> {
        self.text(name).ok_or_else(|| wrong(name, why))
    }

    /// What a parameter means that is not given.
    pub(super) fn default(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_string()).or_insert_with(|| value.to_string());
    }

    /// `true` or `false`; nothing when it is not given.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.text(name).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(wrong(name, "must be true or false")),
        }
    }

    /// A moment; now when it is not given. An empty one is none: what a script forgot to fill in is not the present.
    pub(super) fn when(&mut self, name: &str) -> Result<When, Problem> {
        match self.0.remove(name) {
            None => Ok(When::Now),
            Some(text) => at::parse(&text).map_err(|reason| wrong(name, &reason)),
        }
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| wrong(name, "must be a number without sign"))
    }

    /// How many items the page may have.
    pub(super) fn count(&mut self) -> Result<usize, Problem> {
        let asked = self.number("count")?.and_then(|count| usize::try_from(count).ok());
        match asked.unwrap_or(PAGE_DEFAULT) {
            0 => Err(wrong("count", "must be at least 1")),
            count => Ok(count.min(PAGE_MAX)),
        }
    }

    /// Which item the page begins with, counted from 1.
    pub(super) fn start_index(&mut self) -> Result<usize, Problem> {
        let asked = self.number("startIndex")?.and_then(|first| usize::try_from(first).ok());
        Ok(asked.unwrap_or(1).max(1))
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(wrong(name, "is no parameter here")),
        }
    }
}

fn wrong(name: &str, why: &str) -> Problem {
    Problem::unreadable("invalidParameter", format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_once_and_wholly() {
        let mut query =
            Parameters::read("user=a%2Bb&at=2026-11-01T08%3A30%3A00%2B01%3A00&count=5000&x=").unwrap();
        assert_eq!(query.text("user").as_deref(), Some("a+b"));
        assert_eq!(query.when("at").unwrap(), When::Instant("2026-11-01T07:30:00Z".parse().unwrap()));
        assert_eq!((query.when("at").unwrap(), query.count().unwrap()), (When::Now, PAGE_MAX));
        assert!(query.end().is_err());
        assert_eq!(query.text("x"), None);
        assert!(query.end().is_ok());
        assert_eq!((query.count().unwrap(), query.start_index().unwrap()), (PAGE_DEFAULT, 1));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(Parameters::read("at=1&at=2").is_err());
        let read = |query: &str| Parameters::read(query).unwrap();
        assert!(read("at=soon").when("at").is_err());
        assert!(read("at=").when("at").is_err());
        assert!(read("count=0").count().is_err());
        assert!(read("count=-1").count().is_err());
        assert!(read("nested=yes").flag("nested").is_err());
        assert_eq!(read("nested=false").flag("nested").unwrap(), Some(false));
        assert!(read("att=1").end().is_err());
    }
}
