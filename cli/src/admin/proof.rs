//! `/api/v1/apps/{app}/test` and `/provision`: whether an app can be worked with, shown without changing anything, or at
//! one resource.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use dispatcher::{PROVISION_SECONDS, PROVISION_SECONDS_MAX, Said, Verdict};
use serde::Deserialize;
use serde_json::json;

use super::About;
use super::apps::{Told, read};
use super::asked::{Operator, Sent};
use super::problem::Problem;

pub(super) fn routes() -> Router<Arc<About>> {
    Router::new()
        .route("/api/v1/apps/{app}/test", post(test))
        .route("/api/v1/apps/{app}/provision", post(provision))
}

async fn test(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    _operator: Operator,
) -> Result<Told, Problem> {
    let items = about.view()?.test(&app).await?;
    let failed = items.iter().filter(|check| check.verdict == Verdict::Failed).count();
    Told::of(json!({"app": app, "failed": failed, "items": items}))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ToProvision {
    who: String,
    by: String,
    #[serde(default)]
    why: String,
    wait_seconds: Option<u64>,
}

async fn provision(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    Sent(body): Sent,
) -> Result<Told, Problem> {
    let ToProvision { who, by, why, wait_seconds } = read(&body)?;
    let seconds = wait_seconds.unwrap_or(PROVISION_SECONDS);
    if !(1..=PROVISION_SECONDS_MAX).contains(&seconds) {
        let detail = format!("waitSeconds: must be 1 to {PROVISION_SECONDS_MAX}");
        return Err(Problem::unreadable("invalidParameter", detail));
    }
    let view = about.view()?;
    let id = about.someone(view.tenant(&app)?, &who).await?;
    Told::of(view.provision(&app, id, &Said::now(&by, &why), Duration::from_secs(seconds)).await?)
}
