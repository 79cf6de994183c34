//! `/api/v1/apps…`: how apps are, what waits there, and to stop, go on and try again.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dispatcher::{Operation, Said, Unanswered, View, Which};
use proto::ResourceId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::About;
use super::asked::{Asked, PAGE_MAX, Sent};
use super::problem::Problem;
use crate::failure::causes;

/// The routes of apps.
pub(super) fn routes() -> Router<Arc<About>> {
    Router::new()
        .route("/api/v1/apps", get(list))
        .route("/api/v1/apps/{app}", get(show))
        .route("/api/v1/apps/{app}/held", get(held))
        .route("/api/v1/apps/{app}/pause", post(pause))
        .route("/api/v1/apps/{app}/resume", post(resume))
        .route("/api/v1/apps/{app}/release", post(release))
        .route("/api/v1/apps/{app}/redrive", post(redrive))
}

/// An answer.
pub(super) struct Told(Value);

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], format!("{}\n", self.0)).into_response()
    }
}

impl Told {
    /// What can be shown as JSON.
    pub(super) fn of(value: impl serde::Serialize) -> Result<Self, Problem> {
        serde_json::to_value(value).map(Self).map_err(|error| Problem::failed(&error))
    }
}

impl From<Unanswered> for Problem {
    fn from(error: Unanswered) -> Self {
        match error {
            Unanswered::NoApp { .. } => Self::missing("noApp", error.to_string()),
            Unanswered::Refused(_) => Self::conflict("refused", error.to_string()),
            Unanswered::Lagging => Self::busy("catchingUp", error.to_string()),
            Unanswered::Failed(dispatcher::Error::Directory(error)) => error.into(),
            Unanswered::Failed(dispatcher::Error::Log(error)) if error.is_retryable() => Self::busy(
                "logUnavailable",
                format!(
                    "the broker cannot be asked ({}); nothing was changed that is not told",
                    causes(&error)
                ),
            ),
            Unanswered::Failed(error) => Self::failed(&error),
        }
    }
}

impl About {
    /// The dispatcher of this process.
    pub(super) fn view(&self) -> Result<View, Problem> {
        self.view.get().map(|view| view()).ok_or_else(|| {
            Problem::missing(
                "noDispatcher",
                "this process runs no dispatcher: ask one that was started with `rollcall up` or `rollcall dispatcher`",
            )
        })
    }
}

/// What somebody says who wants something done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct By {
    pub(super) by: String,
    #[serde(default)]
    pub(super) why: String,
}

impl By {
    pub(super) fn said(&self) -> Said {
        Said::now(&self.by, &self.why)
    }
}

/// Reads a body; an empty one says nothing.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Problem::unreadable("invalidBody", format!("the body: {error}")))
}

async fn list(State(about): State<Arc<About>>, asked: Asked) -> Result<Told, Problem> {
    asked.end()?;
    Told::of(json!({"apps": about.view()?.apps().await?}))
}

async fn show(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    asked: Asked,
) -> Result<Told, Problem> {
    asked.end()?;
    Told::of(about.view()?.app(&app).await?)
}

async fn held(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    mut asked: Asked,
) -> Result<Told, Problem> {
    let (reason, first) = (asked.text("reason"), asked.start_index()?);
    asked.default("count", &PAGE_MAX.to_string());
    let count = asked.count()?;
    asked.end()?;
    let held = about.view()?.held(&app, reason.as_deref()).await?;
    let total = held.len();
    let items: Vec<_> = held.into_iter().skip(first - 1).take(count).collect();
    Told::of(json!({"app": app, "total": total, "startIndex": first, "items": items}))
}

async fn pause(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    Sent(body): Sent,
) -> Result<Told, Problem> {
    Told::of(about.view()?.pause(&app, read::<By>(&body)?.said()).await?)
}

async fn resume(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    Sent(body): Sent,
) -> Result<Told, Problem> {
    Told::of(about.view()?.resume(&app, read::<By>(&body)?.said()).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToRelease {
    by: String,
    #[serde(default)]
    why: String,
    operation: Option<String>,
}

async fn release(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    Sent(body): Sent,
) -> Result<Told, Problem> {
    let ToRelease { by, why, operation } = read(&body)?;
    let operation = operation.map(|name| named(&name)).transpose()?;
    Told::of(about.view()?.release(&app, operation, Said::now(&by, &why)).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToRedrive {
    by: String,
    #[serde(default)]
    why: String,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    ids: Vec<ResourceId>,
    reason: Option<String>,
}

async fn redrive(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    Sent(body): Sent,
) -> Result<Told, Problem> {
    let ToRedrive { by, why, all, ids, reason } = read(&body)?;
    let which = match (all, ids.is_empty(), reason) {
        (true, true, None) => Which::All,
        (false, false, None) => Which::Ids(ids),
        (false, true, Some(words)) => Which::Reason(words),
        (_, _, _) => {
            let detail = "say what is tried again: one of all, ids and reason";
            return Err(Problem::unreadable("invalidBody", detail));
        }
    };
    let redriven = about.view()?.redrive(&app, &which, &Said::now(&by, &why)).await?;
    let ids: Vec<String> = redriven.iter().map(ToString::to_string).collect();
    Told::of(json!({"app": app, "total": ids.len(), "ids": ids}))
}

fn named(name: &str) -> Result<Operation, Problem> {
    Operation::named(name).ok_or_else(|| {
        let names: Vec<&str> = Operation::ALL.into_iter().map(Operation::name).collect();
        let detail = format!("operation: {name:?} is none; there are {}", names.join(", "));
        Problem::unreadable("invalidParameter", detail)
    })
}
