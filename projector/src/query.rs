//! Questions with a filter: a plan narrows the candidates, the filter decides on each of them.

use std::collections::BTreeSet;

use proto::{ResourceId, Tenant};
use scim::{Filter, Op, ResourceType, Sort, SortKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::directory::Directory;
use crate::edges::Slot;
use crate::index::Term;
use crate::{Error, Lens, Projection, Stored};

/// How many candidates are looked at before others get their turn.
const YIELD_ROWS: usize = 256;

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// What is asked of each resource type.
    pub parts: &'a [Part<'a>],
    /// Who asks: decides whose `externalId` is compared.
    pub lens: &'a Lens,
    /// Which of the results are wanted.
    pub window: &'a Window,
    /// How many at most.
    pub count: usize,
    /// How many resources may be looked at.
    pub scan_rows_max: usize,
}

/// What is asked of one resource type.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The type.
    pub kind: &'a ResourceType,
    /// What its resources must satisfy.
    pub filter: Option<&'a Filter>,
    /// What they are sorted by; otherwise they come in the order of creation.
    pub sort: Option<&'a Sort>,
}

/// Which of the results are wanted.
#[derive(Clone, Debug)]
pub enum Window {
    /// From this one on, counted from 1.
    From(usize),
    /// Those that come after this place; nothing means from the beginning. What is created, changed or deleted
    /// meanwhile neither repeats nor hides another resource.
    After(Option<Place>),
}

/// A place in a list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Place {
    /// What the list is sorted by.
    key: Option<SortKey>,
    /// The sequence at which the resource there was created.
    created: u64,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// How many resources satisfy the filter.
    pub total: usize,
    /// The wanted ones.
    pub resources: Vec<Stored>,
    /// Where the last of them stands, when more come after it.
    pub next: Option<Place>,
}

/// A resource that is in the list.
struct Found {
    key: Option<SortKey>,
    slot: Slot,
}

impl Projection {
    /// Answers a question. `total` is exact.
    pub async fn query(&self, tenant: &Tenant, query: Query<'_>) -> Result<Page, Error> {
        if query.parts.iter().all(|part| part.filter.is_none() && part.sort.is_none()) {
            return self.everything(tenant, query).await;
        }
        let mut found = Vec::new();
        for part in query.parts {
            self.search(tenant, query, *part, &mut found).await?;
        }
        let sort = query.parts.iter().find_map(|part| part.sort);
        let order = |left: &Found, right: &Found| match (sort, &left.key, &right.key) {
            (Some(sort), Some(one), Some(other)) => sort.compare(one, other).then(left.slot.cmp(&right.slot)),
            (_, _, _) => left.slot.cmp(&right.slot),
        };
        found.sort_by(order);
        let skip = match query.window {
            Window::From(start_index) => start_index.saturating_sub(1).min(found.len()),
            Window::After(None) => 0,
            Window::After(Some(place)) => {
                let slot = self.with(tenant, |directory| directory.created_after(place.created)).unwrap_or(0);
                // The place itself is the last slot before the first that was created later.
                let place = Found { key: place.key.clone(), slot: slot.saturating_sub(1) };
                found.partition_point(|one| slot > 0 && order(one, &place).is_le())
            }
        };
        let total = found.len();
        let wanted: Vec<Found> = found.into_iter().skip(skip).take(query.count).collect();
        let more = skip + wanted.len() < total;
        self.page(tenant, total, wanted, more).await
    }

    /// All of some types in the order of creation.
    async fn everything(&self, tenant: &Tenant, query: Query<'_>) -> Result<Page, Error> {
        let found = self.with(tenant, |directory| {
            let sets: Vec<&BTreeSet<Slot>> =
                query.parts.iter().filter_map(|part| directory.of_type(&part.kind.name)).collect();
            let total = sets.iter().map(|set| set.len()).sum();
            let first = match query.window {
                Window::From(_) | Window::After(None) => 0,
                Window::After(Some(place)) => directory.created_after(place.created),
            };
            let skip = match query.window {
                Window::From(start_index) => start_index.saturating_sub(1),
                Window::After(_) => 0,
            };
            let mut wanted: Vec<Slot> = match sets.as_slice() {
                [one] => one.range(first..).copied().skip(skip).take(query.count + 1).collect(),
                many => {
                    let merged: BTreeSet<Slot> =
                        many.iter().flat_map(|set| set.range(first..)).copied().collect();
                    merged.into_iter().skip(skip).take(query.count + 1).collect()
                }
            };
            let more = wanted.len() > query.count;
            wanted.truncate(query.count);
            (total, wanted.into_iter().map(|slot| Found { key: None, slot }).collect(), more)
        });
        let (total, wanted, more) = found.unwrap_or_default();
        self.page(tenant, total, wanted, more).await
    }

    async fn page(
        &self,
        tenant: &Tenant,
        total: usize,
        wanted: Vec<Found>,
        more: bool,
    ) -> Result<Page, Error> {
        let mut page = Page { total, ..Page::default() };
        for Found { key, slot } in wanted {
            let created = self.with(tenant, |directory| directory.born(slot)).unwrap_or_default();
            page.next = Some(Place { key, created });
            page.resources.extend(self.read_slot(tenant, slot).await?);
        }
        page.next = page.next.filter(|_| more);
        Ok(page)
    }

    /// The resources of one type that satisfy the filter.
    async fn search(
        &self,
        tenant: &Tenant,
        query: Query<'_>,
        part: Part<'_>,
        found: &mut Vec<Found>,
    ) -> Result<(), Error> {
        let candidates =
            self.with(tenant, |directory| candidates(directory, query.lens, part)).unwrap_or_default();
        if candidates.len() > query.scan_rows_max {
            metrics::counter!("rollcall_query_too_many_total").increment(1);
            return Err(Error::TooMany { rows_max: query.scan_rows_max });
        }
        let mentions = |name: &str| {
            part.filter.is_some_and(|filter| filter.mentions(name))
                || part.sort.is_some_and(|sort| sort.mentions(name))
        };
        let lens = Lens { members: mentions("members"), groups: mentions("groups"), ..query.lens.clone() };
        for (looked_at, slot) in candidates.into_iter().enumerate() {
            if looked_at % YIELD_ROWS == YIELD_ROWS - 1 {
                tokio::task::yield_now().await;
            }
            let Some(stored) = self.read_slot(tenant, slot).await? else { continue };
            let whole = self.represent(tenant, &stored, part.kind, &lens);
            if part.filter.is_none_or(|filter| filter.matches(&whole)) {
                found.push(Found { key: part.sort.map(|sort| sort.key(&whole)), slot });
            }
        }
        Ok(())
    }

    async fn read_slot(&self, tenant: &Tenant, slot: Slot) -> Result<Option<Stored>, Error> {
        let found = self.with(tenant, |directory| {
            let entry = directory.at(slot)?;
            Some((entry.clone(), directory.key(&entry.resource_type, &entry.key).last))
        });
        match found.flatten() {
            Some((entry, guard)) => Ok(Some(self.read(tenant, entry, guard).await?)),
            None => Ok(None),
        }
    }
}

/// The resources that may satisfy the filter: by an index where one helps, else all of the type.
fn candidates(directory: &Directory, lens: &Lens, part: Part<'_>) -> Vec<Slot> {
    match part.filter.and_then(|filter| narrowed(directory, &lens.source, filter)) {
        Some(slots) => {
            let of_type =
                |slot: &Slot| directory.at(*slot).is_some_and(|entry| entry.resource_type == part.kind.name);
            slots.into_iter().filter(of_type).collect()
        }
        None => directory.of_type(&part.kind.name).into_iter().flatten().copied().collect(),
    }
}

fn narrowed(directory: &Directory, source: &str, filter: &Filter) -> Option<Vec<Slot>> {
    match filter {
        Filter::And(filters) => {
            let plans = filters.iter().filter_map(|filter| narrowed(directory, source, filter));
            plans.min_by_key(Vec::len)
        }
        Filter::Or(filters) => {
            let plans: Option<Vec<Vec<Slot>>> =
                filters.iter().map(|filter| narrowed(directory, source, filter)).collect();
            let union: BTreeSet<Slot> = plans?.into_iter().flatten().collect();
            Some(union.into_iter().collect())
        }
        Filter::Compare { path, op: Op::Eq, value: Value::String(value), .. } => {
            let by_id = |value: &str| value.parse::<ResourceId>().ok().and_then(|id| directory.slot(id));
            let name = path.name.as_deref().filter(|_| path.schema.is_none());
            match (name, path.sub.as_deref()) {
                (Some("id"), None) => Some(by_id(value).into_iter().collect()),
                (Some("externalId"), None) => {
                    Some(directory.having(&Term::External(source.to_string(), value.clone())))
                }
                (Some("members"), None | Some("value")) => {
                    Some(linked(by_id(value), |slot| directory.edges().groups(slot).collect()))
                }
                (Some("groups"), None | Some("value")) => Some(linked(by_id(value), |slot| {
                    directory.edges().descendants(slot).into_iter().collect()
                })),
                (_, _) => Some(directory.having(&directory.indexes().term(path, value)?)),
            }
        }
        Filter::Values { path, filter } => {
            Some(directory.having(&directory.indexes().term_within(path, filter)?))
        }
        Filter::Compare { .. } | Filter::Not(_) | Filter::Present(_) => None,
    }
}

fn linked(slot: Option<Slot>, of: impl Fn(Slot) -> Vec<Slot>) -> Vec<Slot> {
    slot.map(of).unwrap_or_default()
}
