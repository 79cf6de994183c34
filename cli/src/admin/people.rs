//! `/api/v1/apps/{app}/plan|why|who`, `/api/v1/timeline` and `/api/v1/leave`: what would be done, what was done and why, of
//! one person or all.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use dispatcher::{AppConfig, Said};
use projector::When;
use proto::{ResourceId, Tenant};
use serde::Deserialize;
use serde_json::{Value, json};

use super::About;
use super::apps::{Told, read};
use super::asked::{Asked, Parameters, Sent};
use super::problem::Problem;
use super::then::Who;
use crate::settings;

/// Steps of a plan that are told unless more are asked for.
const STEPS_TOLD: usize = 20;

/// The routes about people at apps.
pub(super) fn routes() -> Router<Arc<About>> {
    Router::new()
        .route("/api/v1/apps/{app}/plan", get(plan).post(plan_with))
        .route("/api/v1/apps/{app}/why", get(why))
        .route("/api/v1/apps/{app}/who", get(who))
        .route("/api/v1/timeline", get(timeline))
        .route("/api/v1/leave", post(leave))
}

impl About {
    /// The resource that an id means, or a user's unique value, or a group's name.
    pub(super) async fn someone(&self, tenant: &Tenant, text: &str) -> Result<ResourceId, Problem> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let then = self.at(tenant, When::Now).await?.ok_or_else(|| self.nothing_yet(tenant))?;
        let user = then.find(&Who::User(text.to_string())).await;
        match user {
            Err(problem) if problem.is_missing() => match then.find(&Who::Group(text.to_string())).await {
                Err(other) if other.is_missing() => Err(problem),
                found => found,
            },
            found => found,
        }
    }
}

async fn plan(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    mut asked: Asked,
) -> Result<Told, Problem> {
    asked.default("count", &STEPS_TOLD.to_string());
    let (whose, count) = (asked.text("who"), asked.count()?);
    asked.end()?;
    planned(&about, &app, None, whose, count).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    configuration: String,
    who: Option<String>,
    count: Option<usize>,
}

/// With a configuration that is not active.
async fn plan_with(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    asked: Asked,
    Sent(body): Sent,
) -> Result<Told, Problem> {
    asked.end()?;
    let With { configuration, who, count } = read(&body)?;
    let config = settings::app_of(&configuration, &app, &about.registry)
        .map_err(|failure| Problem::unreadable("invalidConfiguration", failure.to_string()))?;
    planned(&about, &app, Some(&config), who, count.unwrap_or(STEPS_TOLD)).await
}

async fn planned(
    about: &About,
    app: &str,
    with: Option<&AppConfig>,
    whose: Option<String>,
    count: usize,
) -> Result<Told, Problem> {
    let view = about.view()?;
    let Some(whose) = whose else { return Told::of(view.plan(app, with, count).await?) };
    let tenant = match with {
        Some(config) => &config.tenant,
        None => view.tenant(app)?,
    };
    let id = about.someone(tenant, &whose).await?;
    Told::of(view.plan_one(app, with, id).await?)
}

async fn why(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    mut asked: Asked,
) -> Result<Told, Problem> {
    let whose = asked.text("who").ok_or_else(unnamed)?;
    asked.end()?;
    let view = about.view()?;
    let id = about.someone(view.tenant(&app)?, &whose).await?;
    Told::of(view.why(&app, id).await?)
}

async fn who(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    mut asked: Asked,
) -> Result<Told, Problem> {
    let at = match asked.when("at")? {
        When::Now => eventlog::clock::now(),
        When::Instant(instant) => instant,
        When::Sequence(_) => {
            return Err(Problem::unreadable("invalidParameter", "at: an app knows instants, no sequences"));
        }
    };
    asked.end()?;
    let items = about.view()?.who(&app, at).await?;
    Told::of(json!({"app": app, "at": crate::at::shown(at), "total": items.len(), "items": items}))
}

async fn timeline(State(about): State<Arc<About>>, mut asked: Asked) -> Result<Told, Problem> {
    let whose = asked.text("who").ok_or_else(unnamed)?;
    let tenant = about.tenant(&mut asked).await?;
    asked.end()?;
    let view = about.view()?;
    let id = about.someone(&tenant, &whose).await?;
    let (items, left_out) = view.timeline(&tenant, id).await?;
    let total = items.len() + left_out;
    Told::of(json!({
        "tenant": tenant, "id": id.to_string(), "total": total, "leftOut": left_out, "items": items,
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToLeave {
    who: String,
    by: String,
    #[serde(default)]
    why: String,
}

/// It takes no turn among those who look at the past: it is urgent.
async fn leave(
    State(about): State<Arc<About>>,
    mut asked: Parameters,
    Sent(body): Sent,
) -> Result<Told, Problem> {
    let tenant = about.tenant(&mut asked).await?;
    asked.end()?;
    let ToLeave { who, by, why } = read(&body)?;
    let view = about.view()?;
    let id = about.someone(&tenant, &who).await?;
    let passed = view.leave(&tenant, id, &Said::now(&by, &why)).await?;
    let items: Vec<Value> =
        passed.into_iter().map(|(app, is_wished)| json!({"app": app, "stillWished": is_wished})).collect();
    Told::of(json!({"tenant": tenant, "id": id.to_string(), "items": items}))
}

fn unnamed() -> Problem {
    Problem::unreadable(
        "invalidParameter",
        "who: say who is meant, by an id, a userName or a group's displayName",
    )
}
