//! `POST /api/v1/projection/snapshot`: take one now.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::About;
use super::asked::Operator;
use super::problem::Problem;
use crate::failure::causes;
use crate::snapshots;

pub(super) async fn take(State(about): State<Arc<About>>, _operator: Operator) -> Result<Response, Problem> {
    let taken = snapshots::take(&about.projection, &about.broker, about.snapshots_kept).await;
    let taken = taken.map_err(|error| match &error {
        projector::Error::Log(log) if log.is_retryable() => {
            Problem::busy("noSnapshot", format!("no snapshot could be taken: {}", causes(&error)))
        }
        _ => error.into(),
    })?;
    let body = match taken {
        None => json!({"snapshot": null, "detail": "there is nothing to take yet: no event is applied"}),
        Some(snapshot) => json!({
            "snapshot": snapshot.name(),
            "position": {"sequence": snapshot.position.sequence, "event": snapshot.position.event.to_string()},
            "rows": snapshot.rows(),
            "bytes": snapshot.bytes(),
        }),
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response())
}
