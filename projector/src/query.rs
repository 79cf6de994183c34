//! Questions with a filter: a plan narrows the candidates, the filter decides on each of them.

use proto::{ResourceId, Tenant};
use scim::{Filter, Op, ResourceType};
use serde_json::Value;

use crate::directory::{Directory, Term};
use crate::edges::Slot;
use crate::{Error, Lens, Projection, Stored};

/// How many candidates are looked at before others get their turn.
const YIELD_ROWS: usize = 256;

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The type of the resources.
    pub kind: &'a ResourceType,
    /// What they must satisfy.
    pub filter: Option<&'a Filter>,
    /// Who asks: decides whose `externalId` is compared.
    pub lens: &'a Lens,
    /// The first wanted result, from 1.
    pub start_index: usize,
    /// How many at most.
    pub count: usize,
    /// How many resources may be looked at.
    pub scan_rows_max: usize,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// How many resources satisfy the filter.
    pub total: usize,
    /// The wanted ones, in the order of creation.
    pub resources: Vec<Stored>,
}

impl Projection {
    /// Answers a question. `total` is exact.
    pub async fn query(&self, tenant: &Tenant, query: Query<'_>) -> Result<Page, Error> {
        let skip = query.start_index.saturating_sub(1);
        let Some(filter) = query.filter else {
            let (total, slots) = self
                .with(tenant, |directory| {
                    let slots = directory.of_type(&query.kind.name);
                    let wanted = slots.into_iter().flatten().copied().skip(skip).take(query.count).collect();
                    (slots.map_or(0, |slots| slots.len()), wanted)
                })
                .unwrap_or((0, Vec::new()));
            let mut resources = Vec::with_capacity(slots.len());
            for slot in slots {
                resources.extend(self.read_slot(tenant, slot).await?);
            }
            return Ok(Page { total, resources });
        };
        let candidates =
            self.with(tenant, |directory| candidates(directory, query, filter)).unwrap_or_default();
        if candidates.len() > query.scan_rows_max {
            metrics::counter!("rollcall_query_too_many_total").increment(1);
            return Err(Error::TooMany { rows_max: query.scan_rows_max });
        }
        let lens = Lens {
            members: filter.mentions("members"),
            groups: filter.mentions("groups"),
            ..query.lens.clone()
        };
        let mut page = Page::default();
        for (looked_at, slot) in candidates.into_iter().enumerate() {
            if looked_at % YIELD_ROWS == YIELD_ROWS - 1 {
                tokio::task::yield_now().await;
            }
            let Some(stored) = self.read_slot(tenant, slot).await? else { continue };
            if !filter.matches(&self.represent(tenant, &stored, query.kind, &lens)) {
                continue;
            }
            page.total += 1;
            if page.total > skip && page.resources.len() < query.count {
                page.resources.push(stored);
            }
        }
        Ok(page)
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
fn candidates(directory: &Directory, query: Query<'_>, filter: &Filter) -> Vec<Slot> {
    match narrowed(directory, &query.lens.source, filter) {
        Some(slots) => {
            let of_type =
                |slot: &Slot| directory.at(*slot).is_some_and(|entry| entry.resource_type == query.kind.name);
            slots.into_iter().filter(of_type).collect()
        }
        None => directory.of_type(&query.kind.name).into_iter().flatten().copied().collect(),
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
            let union: std::collections::BTreeSet<Slot> = plans?.into_iter().flatten().collect();
            Some(union.into_iter().collect())
        }
        Filter::Compare { path, op: Op::Eq, value: Value::String(value), .. } if path.schema.is_none() => {
            let by_id = |value: &str| value.parse::<ResourceId>().ok().and_then(|id| directory.slot(id));
            match (path.name.as_deref()?, path.sub.as_deref()) {
                ("id", None) => Some(by_id(value).into_iter().collect()),
                ("externalId", None) => {
                    Some(directory.having(&Term::External(source.to_string(), value.clone())))
                }
                ("members", None | Some("value")) => {
                    Some(linked(by_id(value), |slot| directory.edges().groups(slot).collect()))
                }
                ("groups", None | Some("value")) => {
                    Some(linked(by_id(value), |slot| directory.edges().members(slot).collect()))
                }
                (name, None) => Some(directory.having(&Term::of(name, value)?)),
                (_, Some(_)) => None,
            }
        }
        Filter::Compare { .. } | Filter::Not(_) | Filter::Present(_) | Filter::Values { .. } => None,
    }
}

fn linked(slot: Option<Slot>, of: impl Fn(Slot) -> Vec<Slot>) -> Vec<Slot> {
    slot.map(of).unwrap_or_default()
}
