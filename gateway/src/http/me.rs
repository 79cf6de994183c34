//! `/Me`: the resource of the subject that a credential stands for, answered with its real location (RFC 7644 §3.11).

use axum::body::Body;
use axum::extract::State;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Asked;
use super::resources;
use crate::Gateway;

pub(super) async fn read(State(gateway): State<Gateway>, asked: Asked) -> Result<Reply, Problem> {
    let asked = asked.for_me(&gateway).await?;
    resources::read(State(gateway), asked).await
}

pub(super) async fn create(asked: Asked) -> Problem {
    let detail =
        format!("a subject is made with POST to its endpoint, not to /Me (tenant {})", asked.caller.tenant);
    Problem::refused(scim::Error::status(501, detail))
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
