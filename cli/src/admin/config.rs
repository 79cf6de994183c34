//! `POST /api/v1/config/reload`: the configuration of apps and feeds, read again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::About;
use super::asked::Parameters;
use super::problem::Problem;

/// Who asks when nobody is named.
const OPERATOR: &str = "operator";

pub(super) async fn reload(
    State(about): State<Arc<About>>,
    mut asked: Parameters,
) -> Result<Response, Problem> {
    let by = asked.text("by").unwrap_or_else(|| OPERATOR.to_string());
    let is_dry_run = asked.flag("dryRun")?.unwrap_or_default();
    asked.end()?;
    let reload = about.reload.get().ok_or_else(|| {
        Problem::missing(
            "noDispatcher",
            "this process runs no dispatcher, and only apps and feeds are read again: ask one that was started with \
             `rollcall up` or `rollcall dispatcher`",
        )
    })?;
    let outcome = reload.reload(&by, is_dry_run).await;
    let outcome = outcome.map_err(|failure| Problem::unanswerable("refused", failure.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], format!("{}\n", outcome.shown())).into_response())
}
