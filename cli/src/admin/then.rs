//! The directory then: which tenant, as of which event, and who is meant.

use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use projector::{Lens, Moment, Part, Query, Stored, When, Window};
use proto::{ResourceId, Tenant};
use scim::{Attribute, AttributeSelection, Dialect, Filter, FilterLimits, Object, ResourceType};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::About;
use super::asked::Parameters;
use super::problem::Problem;
use crate::at;
use crate::sum::Sum;

/// How long to wait for the projection when what is asked for may not be applied yet.
pub(super) const CATCH_UP_MAX: Duration = Duration::from_secs(10);
/// A page ends with the item that goes beyond so many bytes: a group can hold everybody.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// How many of those that one name means are told.
const AMBIGUOUS_TOLD: usize = 10;

/// A tenant's directory as of one event.
pub(super) struct Then<'a> {
    pub(super) about: &'a About,
    pub(super) tenant: Tenant,
    pub(super) moment: Moment,
    /// The event, and its log time.
    pub(super) position: (u64, Timestamp),
}

/// Who is meant.
pub(super) enum Who {
    Id(ResourceId),
    /// By the attribute that resources with groups are known by.
    User(String),
    /// By the name of what has members.
    Group(String),
}

impl Who {
    /// Reads `id`, `user` or `group`; nothing when none of them is given.
    pub(super) fn read(parameters: &mut Parameters) -> Result<Option<Self>, Problem> {
        let (id, user, group) = (parameters.text("id"), parameters.text("user"), parameters.text("group"));
        match (id, user, group) {
            (None, None, None) => Ok(None),
            (Some(id), None, None) => match id.parse() {
                Ok(id) => Ok(Some(Self::Id(id))),
                Err(_) => Err(Problem::unreadable("invalidParameter", "id: must be a UUID in lower case")),
            },
            (None, Some(name), None) => Ok(Some(Self::User(name))),
            (None, None, Some(name)) => Ok(Some(Self::Group(name))),
            (_, _, _) => {
                Err(Problem::unreadable("invalidParameter", "only one of id, user and group can be meant"))
            }
        }
    }
}

/// Whoever must be named and is not.
pub(super) fn unnamed() -> Problem {
    Problem::unreadable("invalidParameter", "say who is meant with id, user or group")
}

impl About {
    /// The tenant that is named, or the only one.
    pub(super) async fn tenant(&self, parameters: &mut Parameters) -> Result<Tenant, Problem> {
        let named = parameters.text("tenant");
        let known = || self.projection.counts().into_keys().collect::<Vec<_>>();
        let pick = |known: &[Tenant]| match &named {
            Some(name) => known.iter().find(|tenant| tenant.as_str() == name).cloned(),
            None => known.first().filter(|_| known.len() == 1).cloned(),
        };
        if let Some(tenant) = pick(&known()) {
            return Ok(tenant);
        }
        // Its first event may have been written a moment ago.
        self.projection.catch_up(Instant::now() + CATCH_UP_MAX).await?;
        let known = known();
        if let Some(tenant) = pick(&known) {
            return Ok(tenant);
        }
        let list = known.iter().map(Tenant::as_str).collect::<Vec<_>>().join(", ");
        match named {
            _ if known.is_empty() => {
                Err(Problem::missing("noTenant", "nothing has happened in any tenant yet"))
            }
            Some(_) => Err(Problem::missing(
                "noTenant",
                format!("there is no such tenant, or nothing has happened in it; there are {list}"),
            )),
            None => Err(Problem::unreadable("invalidParameter", format!("tenant: name one of {list}"))),
        }
    }

    /// A tenant's directory at a moment; nothing before its first event. What is applied is answered from the projection
    /// alone; for everything else the log is asked first how far it is.
    pub(super) async fn at(&self, tenant: &Tenant, when: When) -> Result<Option<Then<'_>>, Problem> {
        let projection = &self.projection;
        let is_applied = match when {
            When::Now => false,
            When::Sequence(sequence) => sequence <= projection.applied(),
            When::Instant(instant) => projection.has_passed(instant).await,
        };
        if !is_applied {
            let readiness = projection.readiness().await?;
            if let When::Sequence(sequence) = when
                && sequence > readiness.last
            {
                let asked = format!("sequence {sequence}");
                return Err(projector::Error::NotYet { asked, applied: readiness.applied }.into());
            }
            let deadline = Instant::now() + CATCH_UP_MAX;
            projection.wait_until(readiness.last, deadline).await.map_err(projector::Error::from)?;
        }
        let Some(moment) = projection.moment(tenant, when)? else { return Ok(None) };
        let Some(position) = projection.stands_at(tenant, moment) else { return Ok(None) };
        // What is applied while we answer does not count.
        let moment = projection.moment(tenant, When::Sequence(position.0))?.unwrap_or(moment);
        Ok(Some(Then { about: self, tenant: tenant.clone(), moment, position }))
    }

    /// The tenant and the moment of `at`, which must not be before the tenant's first event.
    pub(super) async fn then(&self, parameters: &mut Parameters) -> Result<Then<'_>, Problem> {
        let when = parameters.when("at")?;
        let tenant = self.tenant(parameters).await?;
        self.at(&tenant, when).await?.ok_or_else(|| self.nothing_yet(&tenant))
    }

    /// There is no event of a tenant at or before the moment.
    pub(super) fn nothing_yet(&self, tenant: &Tenant) -> Problem {
        let first = self.projection.stands_at(tenant, Moment::FIRST);
        let detail = match first {
            Some((sequence, time)) => format!(
                "nothing is known of tenant {tenant} at that moment: its first event stands at sequence {sequence}, {}",
                at::shown(time)
            ),
            None => format!("nothing is known of tenant {tenant} at that moment"),
        };
        Problem::missing("beforeFirst", detail)
    }

    /// How much a filter may ask for: the same as over SCIM.
    pub(super) fn filter_limits(&self) -> FilterLimits {
        FilterLimits {
            length_bytes_max: self.limits.filter_bytes_max,
            depth_max: self.limits.filter_depth_max,
            terms_max: self.limits.filter_terms_max,
        }
    }
}

impl Then<'_> {
    /// What a client of this source sees, as of the moment.
    pub(super) fn lens(&self, source: Option<String>) -> Lens {
        Lens {
            source: source.unwrap_or_default(),
            base_url: format!("{}/t/{}/scim/v2", self.about.scim_url, self.tenant),
            members: true,
            groups: true,
            moment: self.moment,
        }
    }

    /// A resource as a client reads it.
    pub(super) fn represent(&self, stored: &Stored, kind: &ResourceType, lens: &Lens) -> Value {
        let whole = self.about.projection.represent(&self.tenant, stored, kind, lens);
        AttributeSelection::default().apply(&self.about.registry, kind, whole).into()
    }

    /// The id of whoever is meant; of an id, whether or not it is one.
    pub(super) async fn find(&self, who: &Who) -> Result<ResourceId, Problem> {
        let registry = &self.about.registry;
        let has = |kind: &ResourceType, name: &str| {
            registry.core(kind).iter().any(|attribute: &Attribute| attribute.name == name)
        };
        let (linked, name) = match who {
            Who::Id(id) => return Ok(*id),
            Who::User(name) => ("groups", name),
            Who::Group(name) => ("members", name),
        };
        let mut filters = Vec::new();
        for kind in registry.resource_types().iter().filter(|kind| has(kind, linked)) {
            let attribute = match who {
                Who::User(_) => registry.unique_attribute(kind).map(|attribute| attribute.name.as_str()),
                Who::Id(_) | Who::Group(_) => Some("displayName").filter(|name| has(kind, name)),
            };
            let Some(attribute) = attribute else { continue };
            let text = format!("{attribute} eq {}", Value::from(name.as_str()));
            let filter = Filter::parse(&text, &self.about.filter_limits(), Dialect::Rfc, registry, kind)?;
            filters.push((kind, attribute, filter));
        }
        let parts: Vec<Part<'_>> =
            filters.iter().map(|(kind, _, filter)| Part { kind, filter: Some(filter), sort: None }).collect();
        let query = Query {
            parts: &parts,
            lens: &self.lens(None),
            window: &Window::From(1),
            count: AMBIGUOUS_TOLD,
            scan_rows_max: self.about.limits.scan_rows_max,
        };
        let page = self.about.projection.query(&self.tenant, query).await?;
        let (what, attribute) = match filters.first() {
            Some((kind, attribute, _)) => (kind.name.as_str(), *attribute),
            None => ("resource", "name"),
        };
        match page.resources.as_slice() {
            [] => Err(Problem::missing(
                "notFound",
                format!(
                    "no {what} has this {attribute} as of sequence {}; one that had it at another time is found with at, \
                     or by its id",
                    self.position.0
                ),
            )),
            [one] => Ok(one.id),
            several => {
                let ids: Vec<String> = several.iter().map(|stored| stored.id.to_string()).collect();
                let detail =
                    format!("{} have this {attribute}; name one by its id: {}", page.total, ids.join(", "));
                Err(Problem::unanswerable("ambiguous", detail))
            }
        }
    }

    /// A resource that exists at the moment, with its type.
    pub(super) async fn read(&self, id: ResourceId) -> Result<(Stored, &ResourceType), Problem> {
        let (projection, registry) = (&self.about.projection, &self.about.registry);
        let known = projection.known_at(&self.tenant, id, self.moment);
        if let Some(known) = &known
            && let Some(kind) = registry.by_name(&known.resource_type)
            && let Some(stored) = projection.resource_at(&self.tenant, &kind.name, id, self.moment).await?
        {
            return Ok((stored, kind));
        }
        Err(self.no_such(known.is_some()))
    }

    /// Nobody has this id, at this moment or ever.
    pub(super) fn no_such(&self, is_known: bool) -> Problem {
        let sequence = self.position.0;
        let detail = if is_known {
            format!("the resource does not exist as of sequence {sequence}; its history says when it did")
        } else {
            format!("tenant {} never had a resource with this id", self.tenant)
        };
        Problem::missing("notFound", detail)
    }

    /// An answer as of this moment.
    pub(super) fn page(&self, items: Vec<Value>) -> Page {
        Page {
            tenant: self.tenant.clone(),
            position: self.position,
            further: Object::new(),
            items,
            next: None,
        }
    }
}

/// The first of these, until they have so many bytes together: at least one where there is one.
pub(super) fn until_full(mut items: impl Iterator<Item = Value>) -> Vec<Value> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES_MAX
        && let Some(item) = items.next()
    {
        bytes += size(&item);
        page.push(item);
    }
    page
}

/// About how long a value is as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 5,
        Value::String(text) => text.len() + 3,
        Value::Array(values) => values.iter().map(size).sum::<usize>() + 3,
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>() + 3
        }
    }
}

/// An answer.
pub(super) struct Page {
    tenant: Tenant,
    position: (u64, Timestamp),
    further: Object,
    items: Vec<Value>,
    next: Option<Value>,
}

impl Page {
    /// Says something more about the whole.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.further.insert(name.to_string(), value.into());
        self
    }

    /// The parameters of the next page, which is as of the same moment.
    pub(super) fn next(mut self, next: Option<Value>) -> Self {
        self.next = next;
        self
    }

    /// The next page of a list that is counted from 1.
    pub(super) fn next_index(self, start_index: usize, total: usize) -> Self {
        let (at, next) = (self.position.0, start_index + self.items.len());
        let more = !self.items.is_empty() && next <= total;
        self.next(more.then(|| json!({"at": at, "startIndex": next}))).with("total", total)
    }
}

/// A position as every answer shows it.
pub(super) fn shown((sequence, time): (u64, Timestamp)) -> Value {
    json!({"sequence": sequence, "time": at::shown(time)})
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let sum = Sum::of(&self.items);
        let mut body = self.further;
        body.insert("tenant".to_string(), self.tenant.to_string().into());
        body.insert("position".to_string(), shown(self.position));
        body.insert("count".to_string(), sum.count().into());
        body.insert("digest".to_string(), sum.digest().into());
        body.insert("items".to_string(), self.items.into());
        if let Some(next) = self.next {
            body.insert("next".to_string(), next);
        }
        ([(header::CONTENT_TYPE, "application/json")], format!("{}\n", Value::Object(body))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_with_what_fills_it() {
        let large = json!({"members": vec![json!({"value": "x".repeat(36), "type": "User"}); 100_000]});
        let some = |items: [&Value; 4]| until_full(items.into_iter().cloned()).len();
        let small = json!({"id": "1"});
        assert_eq!(some([&small; 4]), 4);
        assert_eq!(some([&small, &large, &large, &large]), 3);
        assert_eq!(some([&large; 4]), 2);
        let text = large.to_string().len();
        assert!(size(&large).abs_diff(text) < text / 5, "{} {text}", size(&large));
    }
}
