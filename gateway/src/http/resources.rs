//! Users, Groups and every other type of resource: RFC 7644 §3.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use projector::{Lens, Stored};
use proto::ResourceId;
use scim::{AttributeSelection, ResourceType};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

use super::later;
use super::problem::Problem;
use super::reply::Reply;
use super::request::Asked;
use crate::Gateway;
use crate::command::Command;
use crate::execute::Outcome;
use crate::fresh::Freshness;

pub(super) async fn create(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let kind = asked.kind(&gateway)?;
    let selection = asked.selection(&gateway)?;
    let body = asked.json(&gateway, body).await?;
    if let Some(accepted) = later::accept_one(&gateway, &asked, "POST", &body).await? {
        return Ok(accepted);
    }
    let command = gateway.creation(&asked.caller, kind, body)?;
    change(&gateway, &asked, kind, &selection, &command, StatusCode::CREATED).await
}

pub(super) async fn replace(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let command = |id, expected, body| Command::Replace { id, expected, body };
    change_with(&gateway, &asked, body, "PUT", command).await
}

pub(super) async fn patch(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let command = |id, expected, body| Command::Patch { id, expected, body };
    change_with(&gateway, &asked, body, "PATCH", command).await
}

/// A change of a resource that exists, by what the body says.
async fn change_with(
    gateway: &Gateway,
    asked: &Asked,
    body: Body,
    method: &str,
    command: fn(ResourceId, Option<String>, Value) -> Command,
) -> Result<Reply, Problem> {
    let kind = asked.kind(gateway)?;
    let selection = asked.selection(gateway)?;
    let body = asked.json(gateway, body).await?;
    if let Some(accepted) = later::accept_one(gateway, asked, method, &body).await? {
        return Ok(accepted);
    }
    let command = command(id(asked, kind)?, asked.header(header::IF_MATCH), body);
    change(gateway, asked, kind, &selection, &command, StatusCode::OK).await
}

pub(super) async fn delete(State(gateway): State<Gateway>, asked: Asked) -> Result<Reply, Problem> {
    let kind = asked.kind(&gateway)?;
    if let Some(accepted) = later::accept_one(&gateway, &asked, "DELETE", &Value::Null).await? {
        return Ok(accepted);
    }
    let command = Command::Delete { id: id(&asked, kind)?, expected: asked.header(header::IF_MATCH) };
    change(&gateway, &asked, kind, &AttributeSelection::default(), &command, StatusCode::OK).await
}

pub(super) async fn read(State(gateway): State<Gateway>, asked: Asked) -> Result<Reply, Problem> {
    let kind = asked.kind(&gateway)?;
    let selection = asked.selection(&gateway)?;
    let id = id(&asked, kind)?;
    let (inner, tenant) = (&gateway.inner, &asked.caller.tenant);
    let deadline = deadline(&gateway);
    inner.reach(asked.freshness, deadline).await?;
    let mut found = inner.projection.resource(tenant, &kind.name, id).await?;
    if found.is_none() && asked.freshness != Freshness::Latest {
        // It may have been made a moment ago through another gateway.
        inner.catch_up("miss", deadline).await?;
        found = inner.projection.resource(tenant, &kind.name, id).await?;
    }
    let stored = found.ok_or_else(|| no_such(kind))?;
    let tags = asked.header(header::IF_NONE_MATCH);
    let same =
        tags.is_some_and(|tags| tags.trim() == "*" || tags.split(',').any(|tag| stored.version.is(tag)));
    if same && !inner.projection.links_changed(tenant, &stored) {
        let reply = Reply::empty(StatusCode::NOT_MODIFIED);
        return Ok(reply.located(location(&asked, kind, &stored), stored.version.to_string()));
    }
    Ok(resource(&gateway, &asked, kind, &selection, &stored, StatusCode::OK))
}

async fn change(
    gateway: &Gateway,
    asked: &Asked,
    kind: &ResourceType,
    selection: &AttributeSelection,
    command: &Command,
    success: StatusCode,
) -> Result<Reply, Problem> {
    let outcome = gateway.execute(&asked.caller, kind, command, &asked.txn).await;
    let result = if outcome.is_ok() { "done" } else { "refused" };
    metrics::counter!("rollcall_commands_total", "command" => command.name(), "result" => result)
        .increment(1);
    match outcome? {
        // RFC 7644 §3.5.2: what changed one member of many need not be paid for by all of them.
        Outcome::Resource(stored)
            if matches!(command, Command::Patch { .. })
                && !selection.names_attributes()
                && selection.wants("members")
                && gateway.inner.projection.member_count(&asked.caller.tenant, stored.id)
                    > gateway.inner.limits.answer_members_max =>
        {
            let reply = Reply::empty(StatusCode::NO_CONTENT);
            Ok(reply.located(location(asked, kind, &stored), stored.version.to_string()))
        }
        // RFC 7644 §3.5.2 leaves the choice; a PUT and a POST are answered without what only the projection knows.
        Outcome::Told(stored) if matches!(command, Command::Patch { .. }) && has_members(gateway, kind) => {
            let reply = Reply::empty(StatusCode::NO_CONTENT);
            Ok(reply.located(location(asked, kind, &stored), stored.version.to_string()))
        }
        Outcome::Told(stored) => {
            let lens = Lens { members: false, groups: false, ..lens(asked, selection) };
            Ok(represented(gateway, asked, kind, selection, &stored, success, &lens))
        }
        Outcome::Resource(stored) => Ok(resource(gateway, asked, kind, selection, &stored, success)),
        Outcome::Deleted => Ok(Reply::empty(StatusCode::NO_CONTENT)),
    }
}

fn resource(
    gateway: &Gateway,
    asked: &Asked,
    kind: &ResourceType,
    selection: &AttributeSelection,
    stored: &Stored,
    status: StatusCode,
) -> Reply {
    represented(gateway, asked, kind, selection, stored, status, &lens(asked, selection))
}

fn has_members(gateway: &Gateway, kind: &ResourceType) -> bool {
    gateway.inner.registry.core(kind).iter().any(|attribute| attribute.name == "members")
}

fn represented(
    gateway: &Gateway,
    asked: &Asked,
    kind: &ResourceType,
    selection: &AttributeSelection,
    stored: &Stored,
    status: StatusCode,
    lens: &Lens,
) -> Reply {
    let inner = &gateway.inner;
    let whole = inner.projection.represent(&asked.caller.tenant, stored, kind, lens);
    let body = Value::Object(selection.apply(&inner.registry, kind, whole));
    Reply::new(status, body)
        .located(location(asked, kind, stored), stored.version.to_string())
        .accepted(asked.wants_plain_json())
}

fn lens(asked: &Asked, selection: &AttributeSelection) -> Lens {
    Lens {
        source: asked.caller.source.clone(),
        base_url: asked.base_url.clone(),
        members: selection.wants("members"),
        groups: selection.wants("groups"),
    }
}

fn location(asked: &Asked, kind: &ResourceType, stored: &Stored) -> String {
    format!("{}{}/{}", asked.base_url, kind.endpoint, stored.id)
}

/// An id that is none of ours names nothing.
fn id(asked: &Asked, kind: &ResourceType) -> Result<ResourceId, Problem> {
    asked.id.parse().map_err(|_| no_such(kind))
}

fn no_such(kind: &ResourceType) -> Problem {
    Problem::not_found(&format!("there is no such {}", kind.name))
}

pub(super) fn deadline(gateway: &Gateway) -> Instant {
    Instant::now() + Duration::from_millis(gateway.inner.limits.request_timeout_ms)
}
