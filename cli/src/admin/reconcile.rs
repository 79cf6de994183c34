//! `/api/v1/apps/{app}/reconcile`: to have an app held against what it should hold, and what came of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use dispatcher::Said;
use serde::Deserialize;

use super::About;
use super::apps::{Told, read};
use super::asked::{Asked, Sent};
use super::problem::Problem;

pub(super) fn routes() -> Router<Arc<About>> {
    Router::new().route("/api/v1/apps/{app}/reconcile", get(last).post(ask))
}

/// Who asks; nobody must say so, because it stops nothing and lets nothing go on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToReconcile {
    #[serde(default)]
    by: String,
    #[serde(default)]
    why: String,
}

async fn last(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    asked: Asked,
) -> Result<Told, Problem> {
    asked.end()?;
    Told::of(about.view()?.reconciliation(&app).await?)
}

async fn ask(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    Sent(body): Sent,
) -> Result<Told, Problem> {
    let ToReconcile { by, why } = read(&body)?;
    Told::of(about.view()?.reconcile(&app, &Said::now(&by, &why)).await?)
}
