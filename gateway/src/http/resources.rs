//! Users, Groups and every other type of resource: RFC 7644 §3.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use projector::{Lens, Moment, Stored, When, Written};
use proto::ResourceId;
use scim::{AttributeSelection, ResourceType, Sent};
use serde_json::Value;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use super::later;
use super::problem::Problem;
use super::reply::Reply;
use super::request::Asked;
use crate::Gateway;
use crate::command::{Command, Expected, is_named};
use crate::execute::Outcome;
use crate::fresh::Freshness;

/// So many members are written in a millisecond at most.
const MEMBERS_SHORT: usize = 1_000;
/// About how long a member is as it is shown.
const MEMBER_BYTES: usize = 200;
/// How often a resource that is changed between two looks is read again.
const READ_AGAIN_MAX: usize = 16;

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
    let selection = selection.after(&gateway.inner.registry, kind, Sent::Resource(&body));
    let command = gateway.creation(&asked.caller, kind, body)?;
    change(&gateway, &asked, kind, &selection, &command, StatusCode::CREATED).await
}

pub(super) async fn replace(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let command = |id, expected, body| Command::Replace { id, expected, body };
    change_with(&gateway, &asked, body, ("PUT", |body| Sent::Resource(body)), command).await
}

pub(super) async fn patch(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let command = |id, expected, body| Command::Patch { id, expected, body };
    change_with(&gateway, &asked, body, ("PATCH", |body| Sent::Patch(body)), command).await
}

/// A change of a resource that exists, by what the body says.
async fn change_with(
    gateway: &Gateway,
    asked: &Asked,
    body: Body,
    (method, sent): (&str, fn(&Value) -> Sent<'_>),
    command: fn(ResourceId, Expected, Value) -> Command,
) -> Result<Reply, Problem> {
    let kind = asked.kind(gateway)?;
    let selection = asked.selection(gateway)?;
    let body = asked.json(gateway, body).await?;
    if let Some(accepted) = later::accept_one(gateway, asked, method, &body).await? {
        return Ok(accepted);
    }
    let selection = selection.after(&gateway.inner.registry, kind, sent(&body));
    let command = command(id(asked, kind)?, expected(asked), body);
    change(gateway, asked, kind, &selection, &command, StatusCode::OK).await
}

pub(super) async fn delete(State(gateway): State<Gateway>, asked: Asked) -> Result<Reply, Problem> {
    let kind = asked.kind(&gateway)?;
    if let Some(accepted) = later::accept_one(&gateway, &asked, "DELETE", &Value::Null).await? {
        return Ok(accepted);
    }
    let command = Command::Delete { id: id(&asked, kind)?, expected: expected(&asked) };
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
    let same = asked.header(header::IF_NONE_MATCH).is_some_and(|tags| is_named(&tags, stored.version));
    if same && !inner.projection.links_changed(tenant, &stored) {
        let reply = Reply::empty(StatusCode::NOT_MODIFIED);
        return Ok(reply.located(location(&asked, kind, &stored), stored.version.to_string()));
    }
    let lens = lens(&gateway, &asked, &selection);
    let room = asked.room_to_answer(&gateway, length(&stored, &lens))?;
    let mut shown = represented(&gateway, &asked, kind, &selection, &stored, StatusCode::OK, &lens);
    for _ in 0..READ_AGAIN_MAX {
        if shown.1 {
            break;
        }
        // It was changed between two looks; its document and its members must belong together.
        let again = inner.projection.resource(tenant, &kind.name, id).await?;
        let stored = again.ok_or_else(|| no_such(kind))?;
        shown = represented(&gateway, &asked, kind, &selection, &stored, StatusCode::OK, &lens);
    }
    Ok(shown.0.holding(room))
}

/// About how long a resource is as it is shown.
pub(super) fn length(stored: &Stored, lens: &Lens) -> usize {
    let members = if lens.members { stored.member_count() } else { 0 };
    stored.document.json().len() + members * MEMBER_BYTES
}

async fn change(
    gateway: &Gateway,
    asked: &Asked,
    kind: &ResourceType,
    selection: &AttributeSelection,
    command: &Command,
    success: StatusCode,
) -> Result<Reply, Problem> {
    // What is around it carries it about, which costs more than its own place.
    let outcome = Box::pin(gateway.execute(&asked.caller, kind, command, &asked.txn)).await;
    let result = if outcome.is_ok() { "done" } else { "refused" };
    metrics::counter!("rollcall_commands_total", "command" => command.name(), "result" => result)
        .increment(1);
    // RFC 7644 §3.5.2: what changed one member of many need not be paid for by all of them.
    let is_long = |stored: &Stored| {
        let inner = &gateway.inner;
        matches!(command, Command::Patch { .. })
            && !selection.names_attributes()
            && selection.wants(&inner.registry, "members")
            && inner.projection.member_count(&asked.caller.tenant, stored.id)
                > inner.limits.answer_members_max
    };
    let overtaken = match outcome? {
        Outcome::Deleted => return Ok(Reply::empty(StatusCode::NO_CONTENT)),
        Outcome::Resource(stored) | Outcome::Told(stored) if is_long(&stored) => {
            let reply = Reply::empty(StatusCode::NO_CONTENT);
            return Ok(reply.located(location(asked, kind, &stored), stored.version.to_string()));
        }
        Outcome::Resource(stored) => {
            let lens = lens(gateway, asked, selection);
            match represented(gateway, asked, kind, selection, &stored, success, &lens) {
                (reply, true) => return Ok(reply),
                (_, false) => stored,
            }
        }
        Outcome::Told(stored) => stored,
    };
    Ok(match Box::pin(as_it_was(gateway, asked, kind, selection, &overtaken, success)).await {
        Some(reply) => reply,
        None => told(gateway, asked, kind, selection, command, &overtaken, success),
    })
}

/// The answer as of the event that a command led to, where somebody else changed the resource since; nothing when the
/// directory does not know that event yet, or not any more.
async fn as_it_was(
    gateway: &Gateway,
    asked: &Asked,
    kind: &ResourceType,
    selection: &AttributeSelection,
    stored: &Stored,
    success: StatusCode,
) -> Option<Reply> {
    let (projection, tenant) = (&gateway.inner.projection, &asked.caller.tenant);
    let moment = projection.moment(tenant, When::Sequence(stored.version.sequence())).ok()??;
    let then = projection.resource_at(tenant, &kind.name, stored.id, moment).await.ok()??;
    let lens = Lens { moment, ..lens(gateway, asked, selection) };
    let (reply, is_current) = represented(gateway, asked, kind, selection, &then, success, &lens);
    (is_current && then.version == stored.version).then_some(reply)
}

/// The answer when the projection does not show what the command led to, so nothing can be said about members.
/// RFC 7644 §3.5.2 leaves it to us whether a PATCH is answered with the resource.
fn told(
    gateway: &Gateway,
    asked: &Asked,
    kind: &ResourceType,
    selection: &AttributeSelection,
    command: &Command,
    stored: &Stored,
    success: StatusCode,
) -> Reply {
    let has_members = gateway.inner.registry.core(kind).iter().any(|attribute| attribute.name == "members");
    if has_members
        && selection.wants(&gateway.inner.registry, "members")
        && matches!(command, Command::Patch { .. })
    {
        let reply = Reply::empty(StatusCode::NO_CONTENT);
        return reply.located(location(asked, kind, stored), stored.version.to_string());
    }
    let lens = Lens { members: false, groups: false, ..lens(gateway, asked, selection) };
    represented(gateway, asked, kind, selection, stored, success, &lens).0
}

/// The answer, and whether its document is as new as its members.
fn represented(
    gateway: &Gateway,
    asked: &Asked,
    kind: &ResourceType,
    selection: &AttributeSelection,
    stored: &Stored,
    status: StatusCode,
    lens: &Lens,
) -> (Reply, bool) {
    let mut text = Vec::with_capacity(4096);
    let selection = (!selection.is_whole(&gateway.inner.registry, kind)).then_some(selection);
    let written = represent(gateway, asked, kind, stored, selection, lens, &mut text);
    let reply = Reply::text(status, text).located(location(asked, kind, stored), written.version.to_string());
    let reply = reply.holding(asked.room());
    (reply, written.is_current)
}

/// Appends the JSON of what a client sees of a resource: its own text where nothing is selected out of it.
pub(super) fn represent(
    gateway: &Gateway,
    asked: &Asked,
    kind: &ResourceType,
    stored: &Stored,
    selection: Option<&AttributeSelection>,
    lens: &Lens,
    out: &mut Vec<u8>,
) -> Written {
    let (inner, tenant) = (&gateway.inner, &asked.caller.tenant);
    let mut write = || {
        let Some(selection) = selection else {
            return inner.projection.write_json(tenant, stored, kind, lens, out);
        };
        let shown = inner.projection.represent_now(tenant, stored, kind, lens);
        let body = Value::Object(selection.apply(&inner.registry, kind, shown.object));
        out.extend_from_slice(body.to_string().as_bytes());
        Written { version: shown.version, is_current: shown.is_current }
    };
    // Looking again how many they are would let others change them in between.
    let is_long = lens.members && stored.member_count() > MEMBERS_SHORT;
    if is_long { aside(write) } else { write() }
}

/// Work that takes long, while others see to the connections. A worker of the runtime that is busy looks at none, and where
/// all others rest nobody else does.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // There is nobody else who could.
        _ => work(),
    }
}

fn lens(gateway: &Gateway, asked: &Asked, selection: &AttributeSelection) -> Lens {
    Lens {
        source: asked.caller.source.clone(),
        base_url: asked.caller.base_url.clone(),
        members: selection.wants(&gateway.inner.registry, "members"),
        groups: selection.wants(&gateway.inner.registry, "groups"),
        moment: Moment::NOW,
    }
}

fn location(asked: &Asked, kind: &ResourceType, stored: &Stored) -> String {
    format!("{}{}/{}", asked.caller.base_url, kind.endpoint, stored.id)
}

/// RFC 7644 §3.14, RFC 9110 §13.2.2.
fn expected(asked: &Asked) -> Expected {
    Expected { one_of: asked.header(header::IF_MATCH), none_of: asked.header(header::IF_NONE_MATCH) }
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
