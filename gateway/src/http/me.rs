//! `/Me`: the resource of the subject that a credential stands for, answered with its real location (RFC 7644 §3.11).

use axum::body::Body;
use axum::extract::State;
use scim::Error;
use scim::bulk::Operation;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Asked;
use super::resources;
use crate::Gateway;

/// In a path below the base URL.
const ME: &str = "/Me";

pub(super) async fn read(State(gateway): State<Gateway>, asked: Asked) -> Result<Reply, Problem> {
    let asked = asked.for_me(&gateway).await?;
    resources::read(State(gateway), asked).await
}

pub(super) async fn create(asked: Asked) -> Problem {
    Problem::refused(uncreated(&asked))
}

fn uncreated(asked: &Asked) -> Error {
    let detail =
        format!("a subject is made with POST to its endpoint, not to /Me (tenant {})", asked.caller.tenant);
    Error::status(501, detail)
}

/// The operations of a Bulk request, with the subject's own path where they say `/Me`, which is an alias for any operation.
pub(super) async fn in_bulk(gateway: &Gateway, asked: &Asked, operations: &mut [Operation]) {
    let is_me = |operation: &&mut Operation| operation.fault.is_none() && operation.path == ME;
    let meant: Vec<&mut Operation> = operations.iter_mut().filter(is_me).collect();
    if meant.is_empty() {
        return;
    }
    let subject = asked.subject(gateway).await.map_err(Problem::into_error);
    for operation in meant {
        match (operation.method.as_str(), &subject) {
            ("POST", _) => operation.fault = Some(uncreated(asked)),
            (_, Ok((kind, id))) => operation.path = format!("{}/{id}", kind.endpoint),
            (_, Err(error)) => operation.fault = Some(error.clone()),
        }
    }
}

pub(super) async fn replace(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let asked = asked.for_me(&gateway).await?;
    resources::replace(State(gateway), asked, body).await
}

pub(super) async fn patch(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let asked = asked.for_me(&gateway).await?;
    resources::patch(State(gateway), asked, body).await
}

pub(super) async fn delete(State(gateway): State<Gateway>, asked: Asked) -> Result<Reply, Problem> {
    let asked = asked.for_me(&gateway).await?;
    resources::delete(State(gateway), asked).await
}
