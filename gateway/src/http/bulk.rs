//! `/Bulk`: RFC 7644 §3.7.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use scim::bulk::{self, Request};

use super::later::{self, Preference};
use super::me;
use super::problem::Problem;
use super::reply::Reply;
use super::request::Asked;
use crate::Gateway;
use crate::batch::Batch;

pub(super) async fn bulk(State(gateway): State<Gateway>, asked: Asked, body: Body) -> Result<Reply, Problem> {
    let body = asked.json(&gateway, body).await?;
    let mut request = Request::parse(body, gateway.inner.limits.bulk_operations_max, asked.caller.speech())?;
    for operation in &mut request.operations {
        operation.path = below(&asked.caller.base_url, &operation.path);
    }
    me::in_bulk(&gateway, &asked, &mut request.operations).await;
    metrics::histogram!("rollcall_bulk_operations").record(request.operations.len() as f64);
    let batch = Batch {
        caller: asked.caller.clone(),
        txn: asked.txn.clone(),
        single: false,
        request,
        done: BTreeMap::new(),
    };
    let batch = match Preference::of(&asked) {
        Some(preference) => match later::accept(&gateway, batch, preference).await? {
            Ok(accepted) => return Ok(accepted),
            Err(batch) => batch,
        },
        None => batch,
    };
    let results = batch.carry_out(&gateway).await.results;
    Ok(Reply::ok(bulk::response(results.into_iter().flatten().collect())).holding(asked.room()))
}

/// A path below the base URL, with a slash before it and none behind. A whole URL there is as good.
fn below(base_url: &str, path: &str) -> String {
    format!("/{}", path.strip_prefix(base_url).unwrap_or(path).trim_matches('/'))
}
