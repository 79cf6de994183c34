//! `/api/v1/audit/…` and `/api/v1/explain`: the directory and its history, as of any event. Everything is a page.

use std::sync::Arc;

use axum::extract::State;
use projector::{Became, Difference, Happened, Part, Query, Window};
use proto::{Kind, ResourceId};
use scim::{Dialect, Filter, ResourceType, Sort};
use serde_json::{Value, json};

use super::About;
use super::asked::{Asked, Parameters};
use super::problem::Problem;
use super::then::{Page, Then, Who, shown, unnamed, until_full};
use crate::at;

/// What happened to one resource.
pub(super) async fn history(State(about): State<Arc<About>>, mut asked: Asked) -> Result<Page, Problem> {
    let who = Who::read(&mut asked)?.ok_or_else(unnamed)?;
    let (after, count) = (asked.number("after")?, asked.count()?);
    let then = about.then(&mut asked).await?;
    asked.end()?;
    let id = then.find(&who).await?;
    let history = about.projection.history(&then.tenant, id, then.moment, after, count).await?;
    let history = history.ok_or_else(|| then.no_such(false))?;
    let next = history.next.map(|after| json!({"at": then.position.0, "after": after}));
    let items = history.events.iter().map(|happened| event(id, happened)).collect();
    let page = then
        .page(items)
        .with("id", id.to_string())
        .with("total", history.total)
        .with("notKept", history.not_kept);
    Ok(page.next(next))
}

fn event(id: ResourceId, happened: &Happened) -> Value {
    let event = &happened.event;
    let (added, removed) = match &event.kind {
        // The end of a member ends its place in its groups.
        Kind::Deleted if event.resource_id != id => (&[][..], std::slice::from_ref(&event.resource_id)),
        kind => kind.members(),
    };
    // What changed in another resource is told in its own history.
    let changes = if event.resource_id == id { happened.changes.as_slice() } else { &[] };
    json!({
        "sequence": happened.sequence,
        "time": at::shown(happened.time),
        "eventId": event.id.to_string(),
        "kind": event.kind.name(),
        "resourceType": event.resource_type,
        "resourceId": event.resource_id.to_string(),
        "source": event.source,
        "actor": event.actor,
        "txn": event.txn,
        "reason": event.reason,
        "callerAddress": happened.caller_address,
        "changes": changes,
        "membersAdded": texts(added),
        "membersRemoved": texts(removed),
        "erased": happened.is_erased,
    })
}

fn texts(ids: &[ResourceId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Resources as a client read them then.
pub(super) async fn at(State(about): State<Arc<About>>, mut asked: Asked) -> Result<Page, Problem> {
    let (who, source) = (Who::read(&mut asked)?, asked.text("source"));
    let (start_index, count) = (asked.start_index()?, asked.count()?);
    if let Some(who) = who {
        let then = about.then(&mut asked).await?;
        asked.end()?;
        let id = then.find(&who).await?;
        let (stored, kind) = then.read(id).await?;
        let item = then.represent(&stored, kind, &then.lens(source));
        return Ok(then.page(vec![item]).with("total", 1));
    }
    let Some(question) = Question::read(&about, &mut asked)? else {
        let detail = "say what is meant with id, user, group or type (and filter)";
        return Err(Problem::unreadable("invalidParameter", detail));
    };
    let then = about.then(&mut asked).await?;
    asked.end()?;
    let lens = then.lens(source);
    let query = Query {
        parts: &[question.part()],
        lens: &lens,
        window: &Window::From(start_index),
        count,
        scan_rows_max: about.limits.scan_rows_max,
    };
    let found = about.projection.query(&then.tenant, query).await?;
    let items = found.resources.iter().map(|stored| then.represent(stored, question.kind, &lens));
    Ok(then.page(until_full(items)).next_index(start_index, found.total))
}

/// How a question would be answered.
pub(super) async fn explain(State(about): State<Arc<About>>, mut asked: Asked) -> Result<Page, Problem> {
    let source = asked.text("source");
    if let Some(first) = about.registry.resource_types().first() {
        asked.default("type", &first.name);
    }
    let Some(question) = Question::read(&about, &mut asked)? else {
        return Err(Problem::missing("notFound", "there is no resource type"));
    };
    let then = about.then(&mut asked).await?;
    asked.end()?;
    let lines = about.projection.explain(&then.tenant, question.part(), &then.lens(source));
    Ok(then.page(lines.into_iter().map(Value::from).collect()))
}

/// A question about the resources of one type.
struct Question<'a> {
    kind: &'a ResourceType,
    filter: Option<Filter>,
    sort: Option<Sort>,
}

impl<'a> Question<'a> {
    /// Reads `type`, `filter`, `sortBy` and `sortOrder`; nothing without a type.
    fn read(about: &'a About, parameters: &mut Parameters) -> Result<Option<Self>, Problem> {
        let registry = &about.registry;
        let Some(name) = parameters.text("type") else { return Ok(None) };
        let Some(kind) = registry.by_name(&name) else {
            let names: Vec<&str> = registry.resource_types().iter().map(|kind| kind.name.as_str()).collect();
            let detail = format!("type: there is no such resource type; there are {}", names.join(", "));
            return Err(Problem::unreadable("invalidParameter", detail));
        };
        let filter = parameters.text("filter");
        let filter = filter
            .map(|text| Filter::parse(&text, &about.filter_limits(), Dialect::Rfc, registry, kind))
            .transpose()?;
        let descending = match parameters.text("sortOrder").as_deref() {
            None | Some("ascending") => false,
            Some("descending") => true,
            Some(_) => {
                let detail = "sortOrder: must be ascending or descending";
                return Err(Problem::unreadable("invalidParameter", detail));
            }
        };
        let sort = parameters.text("sortBy");
        let sort = sort.map(|path| Sort::parse(&path, descending, registry, kind)).transpose()?;
        Ok(Some(Self { kind, filter, sort }))
    }

    fn part(&self) -> Part<'_> {
        Part { kind: self.kind, filter: self.filter.as_ref(), sort: self.sort.as_ref() }
    }
}

/// How the directory differs between two moments.
pub(super) async fn diff(State(about): State<Arc<About>>, mut asked: Asked) -> Result<Page, Problem> {
    let (from, to) = (asked.text("from"), asked.when("to")?);
    let from = from.ok_or_else(|| Problem::unreadable("invalidParameter", "from: say since when"))?;
    let from = at::parse(&from)
        .map_err(|reason| Problem::unreadable("invalidParameter", format!("from: {reason}")))?;
    let (after, count) = (asked.number("after")?, asked.count()?);
    let tenant = about.tenant(&mut asked).await?;
    asked.end()?;
    let then = about.at(&tenant, to).await?.ok_or_else(|| about.nothing_yet(&tenant))?;
    // Before its first event a directory was empty.
    let since = about.at(&tenant, from).await?;
    if since.as_ref().is_some_and(|since| since.position.0 > then.position.0) {
        return Err(Problem::unanswerable("reversed", "from is later than to"));
    }
    let moments = (since.as_ref().map(|since| since.moment), then.moment);
    let found = about.projection.differences(&tenant, moments, after, count).await?;
    let items = found.resources.iter().map(|one| difference(&then, one)).collect();
    let begun = since.as_ref().map(|since| since.position);
    let next = found.next.map(
        |after| json!({"from": begun.map_or(0, |begun| begun.0), "to": then.position.0, "after": after}),
    );
    Ok(then.page(items).with("from", begun.map_or(Value::Null, shown)).next(next))
}

fn difference(then: &Then<'_>, difference: &Difference) -> Value {
    let known = then.about.projection.known_at(&then.tenant, difference.id, then.moment);
    let what = match difference.what {
        Became::Created => "created",
        Became::Deleted => "deleted",
        Became::Changed => "changed",
    };
    json!({
        "id": difference.id.to_string(),
        "resourceType": difference.resource_type,
        "display": known.and_then(|known| known.display),
        "what": what,
        "changes": difference.changes,
        "membersAdded": texts(&difference.members_added),
        "membersRemoved": texts(&difference.members_removed),
    })
}

/// A digest of everything that the directory answers.
pub(super) async fn digest(State(about): State<Arc<About>>, mut asked: Asked) -> Result<Page, Problem> {
    let then = about.then(&mut asked).await?;
    asked.end()?;
    let digest = about.projection.digest(&then.tenant, then.moment, |_, _| {}).await?;
    let digest = digest.ok_or_else(|| about.nothing_yet(&then.tenant))?;
    let item =
        json!({"resources": digest.resources, "sha256": data_encoding::HEXLOWER.encode(&digest.sha256)});
    Ok(then.page(vec![item]))
}
