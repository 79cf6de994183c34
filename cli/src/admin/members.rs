//! `GET /api/v1/audit/members`: who was in a group, and in which groups somebody was.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use projector::{Known, Stay};
use proto::ResourceId;
use serde_json::{Value, json};

use super::About;
use super::asked::Asked;
use super::found::{Finds, Question, What};
use super::problem::Problem;
use super::then::{Page, Then, Who, shown, unnamed};

/// From which end memberships are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Who is in it.
    Members,
    /// What it is in.
    Groups,
}

pub(super) async fn members(State(about): State<Arc<About>>, mut asked: Asked) -> Result<Page, Problem> {
    let who = Who::read(&mut asked)?.ok_or_else(unnamed)?;
    let named = match asked.text("list").as_deref() {
        None => None,
        Some("members") => Some(End::Members),
        Some("groups") => Some(End::Groups),
        Some(_) => {
            return Err(Problem::unreadable("invalidParameter", "list: must be members or groups"));
        }
    };
    let (nested, stays) = (asked.flag("nested")?, asked.flag("stays")?.unwrap_or(false));
    let (start_index, count) = (asked.start_index()?, asked.count()?);
    let then = about.then(&mut asked).await?;
    asked.end()?;
    if stays && nested == Some(true) {
        let detail = "stays: what somebody was in by itself has a beginning and an end; leave nested out";
        return Err(Problem::unreadable("invalidParameter", detail));
    }
    let id = then.find(&who).await?;
    let known =
        about.projection.known_at(&then.tenant, id, then.moment).ok_or_else(|| then.no_such(false))?;
    let end = named.unwrap_or_else(|| usual(&about, &known));
    if !stays && !known.exists {
        return Err(then.no_such(true));
    }
    let what = match (end, stays) {
        (End::Members, true) => What::StaysIn,
        (End::Groups, true) => What::StaysOf,
        (End::Members, false) if nested.unwrap_or(false) => What::NestedMembers,
        (End::Members, false) => What::Members,
        (End::Groups, false) if nested.unwrap_or(true) => What::NestedGroups,
        (End::Groups, false) => What::Groups,
    };
    let question = Question { tenant: then.tenant.clone(), id, sequence: then.position.0, what };
    let finds = match about.found.of(&question) {
        Some(finds) => finds,
        None => Arc::new(find(&then, id, what).await),
    };
    let (skip, total) = (start_index - 1, finds.len());
    let items: Vec<Value> = match &*finds {
        Finds::Links(links) => links.iter().skip(skip).take(count).map(|link| item(&then, link)).collect(),
        Finds::Stays(stays) => {
            about.projection.some_stays(&then.tenant, stays, skip, count).iter().map(stay).collect()
        }
    };
    about.found.keep(question, finds, skip + items.len() < total);
    Ok(then.page(items).with("id", id.to_string()).next_index(start_index, total))
}

async fn find(then: &Then<'_>, id: ResourceId, what: What) -> Finds {
    let (projection, tenant, moment) = (&then.about.projection, &then.tenant, then.moment);
    match what {
        What::StaysIn => Finds::Stays(projection.stays_in(tenant, id, moment).await),
        What::StaysOf => Finds::Stays(projection.stays_of(tenant, id, moment).await),
        What::Members => Finds::Links(members_of(then, id, false)),
        What::NestedMembers => Finds::Links(members_of(then, id, true)),
        What::Groups => Finds::Links(groups_of(then, id, false)),
        What::NestedGroups => Finds::Links(groups_of(then, id, true)),
    }
}

/// What has members is asked for them, everybody else for groups.
fn usual(about: &About, known: &Known) -> End {
    let kind = about.registry.by_name(&known.resource_type);
    let core = kind.map(|kind| about.registry.core(kind)).unwrap_or_default();
    if core.iter().any(|attribute| attribute.name == "members") { End::Members } else { End::Groups }
}

/// Members by themselves first, then those of groups in it; each once, circles end.
fn members_of(then: &Then<'_>, group: ResourceId, nested: bool) -> Vec<(ResourceId, bool)> {
    let members = |group| then.about.projection.members_at(&then.tenant, group, then.moment);
    let mut found: Vec<(ResourceId, bool)> = members(group).into_iter().map(|id| (id, true)).collect();
    if !nested {
        return found;
    }
    let mut seen: BTreeSet<ResourceId> = found.iter().map(|(id, _)| *id).chain([group]).collect();
    let mut next = 0;
    while let Some((id, _)) = found.get(next).copied() {
        next += 1;
        found.extend(members(id).into_iter().filter(|id| seen.insert(*id)).map(|id| (id, false)));
    }
    found
}

fn groups_of(then: &Then<'_>, member: ResourceId, nested: bool) -> Vec<(ResourceId, bool)> {
    let mut groups = then.about.projection.groups_at(&then.tenant, member, then.moment);
    groups.retain(|(_, direct)| nested || *direct);
    groups
}

fn item(then: &Then<'_>, (id, direct): &(ResourceId, bool)) -> Value {
    let known = then.about.projection.known_at(&then.tenant, *id, then.moment);
    let (resource_type, display) =
        known.map(|known| (known.resource_type, known.display)).unwrap_or_default();
    json!({"id": id.to_string(), "resourceType": resource_type, "display": display, "direct": direct})
}

fn stay(stay: &Stay) -> Value {
    json!({
        "group": stay.group.to_string(),
        "member": stay.member.to_string(),
        "display": stay.display,
        "from": shown(stay.from),
        "to": stay.to.map_or(Value::Null, shown),
    })
}
