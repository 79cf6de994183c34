//! `/api/v1/apps/{app}/import`: what an app holds, as proposals, a line of JSON each while the app is listed.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::About;
use super::apps::read;
use super::asked::Operator;
use super::problem::Problem;
use crate::failure::causes;

/// Lines that wait for whoever reads them.
const LINES_MAX: usize = 256;

pub(super) fn routes() -> Router<Arc<About>> {
    Router::new().route("/api/v1/apps/{app}/import", post(import))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ToImport {
    /// Whether a request names the app's id as `externalId`.
    #[serde(default)]
    keep_ids: bool,
}

async fn import(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    _operator: Operator,
    body: Bytes,
) -> Result<Response, Problem> {
    let ToImport { keep_ids } = read(&body)?;
    let view = about.view()?;
    view.tenant(&app)?;
    let (sender, lines) = mpsc::channel::<Value>(LINES_MAX);
    tokio::spawn(async move {
        if let Err(error) = view.import(&app, keep_ids, &sender).await {
            // Whoever asked may be gone.
            let _ = sender.send(json!({"failed": causes(&error)})).await;
        }
    });
    let lines = stream::unfold(lines, async |mut lines| {
        let line = lines.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))), lines))
    });
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], Body::from_stream(lines)).into_response())
}
