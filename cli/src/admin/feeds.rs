//! `/api/v1/feeds…`: how feeds are, what is held of them, and what operators have done to them. Any process can be asked;
//! the dispatcher that works for the feed does it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dispatcher::{FeedState, Feeds, Held, Instructed, Instruction, Origin, Work};
use eventlog::Error;
use jiff::{SignedDuration, Timestamp};
use projector::When;
use proto::Tenant;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::About;
use super::asked::Parameters;
use super::problem::Problem;
use super::then::CATCH_UP_MAX;
use crate::at;
use crate::failure::causes;

/// Who asks when nobody is named.
const OPERATOR: &str = "operator";
/// The longest name of whoever asks.
const BY_BYTES_MAX: usize = 200;

/// Everything under `/api/v1/feeds`.
pub(super) fn routes() -> Router<Arc<About>> {
    Router::new()
        .route("/api/v1/feeds", get(list))
        .route("/api/v1/feeds/{name}", get(show))
        .route("/api/v1/feeds/{name}/held", get(held))
        .route("/api/v1/feeds/{name}/redrive", post(redrive))
        .route("/api/v1/feeds/{name}/skip", post(skip))
        .route("/api/v1/feeds/{name}/replay", post(replay))
        .route("/api/v1/feeds/{name}/snapshot", post(snapshot))
        .route("/api/v1/feeds/{name}/resume", post(resume))
}

/// Every feed that ever ran.
async fn list(State(about): State<Arc<About>>, asked: Parameters) -> Result<Response, Problem> {
    asked.end()?;
    let feeds = about.feeds();
    let last = about.last().await?;
    let mut items = Vec::new();
    for name in feeds.names().await.map_err(unavailable)? {
        if let Some(state) = feeds.state(&name).await.map_err(unavailable)? {
            items.push(shown(&name, &state, last));
        }
    }
    Ok(answer(json!({"feeds": items})))
}

/// One feed.
async fn show(
    State(about): State<Arc<About>>,
    Path(name): Path<String>,
    asked: Parameters,
) -> Result<Response, Problem> {
    asked.end()?;
    let state = about.feed(&name).await?;
    Ok(answer(shown(&name, &state, about.last().await?)))
}

/// What is held of a feed.
async fn held(
    State(about): State<Arc<About>>,
    Path(name): Path<String>,
    asked: Parameters,
) -> Result<Response, Problem> {
    asked.end()?;
    let state = about.feed(&name).await?;
    let items: Vec<Value> = state.held.iter().map(shown_held).collect();
    Ok(answer(json!({"name": name, "held": items})))
}

/// Tries again what is held.
async fn redrive(
    State(about): State<Arc<About>>,
    Path(name): Path<String>,
    mut asked: Parameters,
) -> Result<Response, Problem> {
    let ids = asked.text("id").unwrap_or_default();
    let ids: Vec<String> = ids.split(',').filter(|id| !id.is_empty()).map(str::to_string).collect();
    let all = asked.flag("all")?.unwrap_or_default();
    if ids.is_empty() != all {
        let detail = "id: name resources or events, with commas between, or say all=true";
        return Err(Problem::unreadable("invalidParameter", detail));
    }
    about.instruct(&name, Instruction::Redrive { ids }, asked).await
}

/// Gives up a refused event.
async fn skip(
    State(about): State<Arc<About>>,
    Path(name): Path<String>,
    mut asked: Parameters,
) -> Result<Response, Problem> {
    let id = asked.required("id", "name the event, or its resource")?;
    let by = asked.required("by", "say who gives the event up; it is written down")?;
    asked.default("by", &by);
    about.instruct(&name, Instruction::Skip { id }, asked).await
}

/// Delivers part of the log once more.
async fn replay(
    State(about): State<Arc<About>>,
    Path(name): Path<String>,
    mut asked: Parameters,
) -> Result<Response, Problem> {
    let from = asked.required("from", "say from which sequence or instant on")?;
    asked.default("from", &from);
    let first = match asked.when("from")? {
        When::Now => 0,
        When::Sequence(sequence) => sequence,
        When::Instant(instant) => about.sequence_at(instant).await?,
    };
    let last = match asked.when("to")? {
        When::Now => None,
        When::Sequence(sequence) => Some(sequence),
        When::Instant(instant) => {
            let after = instant.checked_add(SignedDuration::from_nanos(1)).unwrap_or(instant);
            Some(about.sequence_at(after).await?.saturating_sub(1))
        }
    };
    about.instruct(&name, Instruction::Replay { first, last }, asked).await
}

/// Delivers everything that there is.
async fn snapshot(
    State(about): State<Arc<About>>,
    Path(name): Path<String>,
    asked: Parameters,
) -> Result<Response, Problem> {
    about.instruct(&name, Instruction::Snapshot, asked).await
}

/// Lets a feed go on that was stopped.
async fn resume(
    State(about): State<Arc<About>>,
    Path(name): Path<String>,
    asked: Parameters,
) -> Result<Response, Problem> {
    about.instruct(&name, Instruction::Resume, asked).await
}

impl About {
    fn feeds(&self) -> Feeds {
        Feeds::new(self.broker.clone())
    }

    async fn last(&self) -> Result<u64, Problem> {
        self.broker.identity.last_sequence().await.map_err(unavailable)
    }

    async fn sequence_at(&self, instant: Timestamp) -> Result<u64, Problem> {
        self.projection.catch_up(Instant::now() + CATCH_UP_MAX).await?;
        Ok(self.projection.sequence_at(instant).await?)
    }

    /// A feed that ran before.
    async fn feed(&self, name: &str) -> Result<FeedState, Problem> {
        // A name is written as a tenant's is.
        let known = match name.parse::<Tenant>() {
            Ok(_) => self.feeds().state(name).await.map_err(unavailable)?,
            Err(_) => None,
        };
        match known {
            Some(state) => Ok(state),
            None => {
                let names = self.feeds().names().await.map_err(unavailable)?;
                let list = if names.is_empty() { "none".to_string() } else { names.join(", ") };
                Err(Problem::missing("noFeed", format!("no feed of this name ever ran; there are: {list}")))
            }
        }
    }

    async fn instruct(
        &self,
        name: &str,
        instruction: Instruction,
        mut asked: Parameters,
    ) -> Result<Response, Problem> {
        let by = asked.text("by").unwrap_or_else(|| OPERATOR.to_string());
        asked.end()?;
        if by.len() > BY_BYTES_MAX {
            let detail = format!("by: must have at most {BY_BYTES_MAX} bytes");
            return Err(Problem::unreadable("invalidParameter", detail));
        }
        self.feed(name).await?;
        match self.feeds().instruct(name, instruction, &by).await.map_err(unavailable)? {
            Instructed::Done(what) => Ok(answer(json!({"done": true, "outcome": what}))),
            Instructed::Refused(why) => Err(Problem::unanswerable("refused", why)),
            Instructed::Waiting => Ok(answer(json!({
                "done": false,
                "outcome": "the dispatcher that works for this feed has not looked at it yet; it will, once it runs",
            }))),
        }
    }
}

fn shown(name: &str, state: &FeedState, last: u64) -> Value {
    let sequence = state.sequence();
    let work = state.work.as_ref().map(|work| match work {
        Work::Snapshot { id, position, done, .. } => {
            json!({"kind": "snapshot", "id": id, "position": position, "done": done})
        }
        Work::Replay { id, first, last, done } => {
            json!({"kind": "replay", "id": id, "from": first, "to": last, "done": done})
        }
    });
    json!({
        "name": name,
        "tenant": state.tenant,
        "sequence": sequence,
        "last": last,
        "behind": last.saturating_sub(sequence),
        "work": work,
        "held": state.held.iter().map(|held| held.waiting.len()).sum::<usize>(),
        "heldResources": state.held.len(),
        "stopped": state.stopped.as_ref().map(|stopped| json!({"why": stopped.why, "since": at::shown(stopped.since)})),
        "resting": state.resting,
    })
}

fn shown_held(held: &Held) -> Value {
    let sequences = held.waiting.iter().map(|waiting| match &waiting.origin {
        Origin::Event { sequence, .. } => Value::from(*sequence),
        Origin::Snapshot { snapshot, .. } | Origin::SnapshotCompleted { snapshot, .. } => {
            Value::from(snapshot.as_str())
        }
        Origin::ReplayCompleted { replay, .. } => Value::from(replay.as_str()),
    });
    json!({
        "resourceType": held.resource_type,
        "resourceId": held.resource_id.to_string(),
        "event": held.event,
        "type": held.event_type,
        "reason": held.reason,
        "attempts": held.attempts,
        "since": at::shown(held.since),
        "redriving": held.redriving,
        "waiting": sequences.collect::<Vec<_>>(),
    })
}

fn answer(body: Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn unavailable(error: Error) -> Problem {
    Problem::busy("brokerUnavailable", format!("the broker cannot be asked: {}", causes(&error)))
}
