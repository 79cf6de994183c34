//! `GET /api/v1/status`: how everything is.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::About;
use super::asked::Operator;

pub(super) async fn status(State(about): State<Arc<About>>, _operator: Operator) -> Response {
    let readiness = about.readiness().await;
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "role": about.role,
        "ready": readiness.is_ok(),
        "reason": readiness.as_ref().err(),
        "projection": {"applied": about.projection.applied(), "last": readiness.as_ref().map(|found| found.last).ok()},
        "tenants": about.projection.counts().iter().map(|(tenant, counts)| (tenant.to_string(), json!(counts))).collect::<serde_json::Map<String, Value>>(),
        "apps": about.statuses.get().map(|statuses| statuses()).unwrap_or_default(),
    });
    ([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}
