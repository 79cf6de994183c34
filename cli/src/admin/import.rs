//! `/api/v1/apps/{app}/import`: what an app holds, as proposals, a line of JSON each while the app is listed; and to have
//! them done.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use dispatcher::{Apply, IMPORT_MOST, Import, Making, NotMade, Part, Said};
use futures::stream;
use gateway::{Caller, Gateway, Unmade};
use proto::ResourceId;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::About;
use super::apps::read;
use super::asked::Sent;
use super::problem::Problem;
use crate::failure::causes;

/// Lines that wait for whoever reads them.
const LINES_MAX: usize = 256;
/// The source that makes resources of accounts.
const SOURCE: &str = "import";

pub(super) fn routes() -> Router<Arc<About>> {
    Router::new().route("/api/v1/apps/{app}/import", post(import))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ToImport {
    /// Whether a request names the app's id as `externalId`.
    #[serde(default)]
    keep_ids: bool,
    /// Whether what is proposed is done.
    #[serde(default)]
    apply: bool,
    only: Option<String>,
    /// If there are more, nothing is done.
    most: Option<usize>,
    /// However many there are.
    #[serde(default)]
    yes: bool,
    #[serde(default)]
    by: String,
    #[serde(default)]
    why: String,
}

impl ToImport {
    fn import(self) -> Result<Import, Problem> {
        let Self { keep_ids, apply, only, most, yes, by, why } = self;
        let only = only.map(|only| only.parse::<Part>()).transpose();
        let only = only.map_err(|error| Problem::unreadable("invalidBody", format!("only: {error}")))?;
        let most = (!yes).then(|| most.unwrap_or(IMPORT_MOST));
        let apply = apply.then(|| Apply { only, most, said: Said::now(&by, &why) });
        if apply.as_ref().is_some_and(|apply| apply.said.by.is_empty()) {
            return Err(dispatcher::Unanswered::from(dispatcher::Refusal::Unnamed).into());
        }
        Ok(Import { keep_ids, apply })
    }
}

/// Makes resources through the gateway, whose rules hold for an operator as for everybody.
struct Maker(Gateway);

#[async_trait::async_trait]
impl dispatcher::Maker for Maker {
    async fn make(&self, making: Making) -> Result<ResourceId, NotMade> {
        let Making { tenant, resource_type, id, body, by, reason } = making;
        let caller = Caller::own(&tenant, SOURCE, &by, &reason);
        let made = self.0.make(&caller, &resource_type, id, body).await;
        made.map_err(|unmade| match unmade {
            Unmade::Refused { status, detail } => NotMade::Refused { status, detail },
            Unmade::Unknown { doing } => NotMade::Unknown { doing: doing.to_string() },
        })
    }
}

async fn import(
    State(about): State<Arc<About>>,
    Path(app): Path<String>,
    Sent(body): Sent,
) -> Result<Response, Problem> {
    let asked = read::<ToImport>(&body)?.import()?;
    let view = about.view()?;
    view.tenant(&app)?;
    let (sender, lines) = mpsc::channel::<Value>(LINES_MAX);
    let maker = Maker(about.gateway.clone());
    tokio::spawn(async move {
        if let Err(error) = view.import(&app, &asked, &maker, &sender).await {
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
