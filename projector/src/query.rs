//! Questions with a filter: a plan finds candidates in the indexes; where it does not say all, each is looked at.

use std::cmp::Ordering;

use jiff::Timestamp;
use proto::{ResourceId, Tenant};
use scim::{Filter, ResourceType, Sort, SortKey};
use serde::{Deserialize, Serialize};

use crate::directory::{ColumnNumber, Directory, NOW, Number, Slot, beginning};
use crate::plan::{Plan, Planned, Planner};
use crate::scan::Scan;
use crate::sift::Sifting;
use crate::stored::Outline;
use crate::{Error, Lens, Moment, Projection, Stored};

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// What is asked of each resource type.
    pub parts: &'a [Part<'a>],
    /// Who asks, and as of when: decides whose `externalId` is compared.
    pub lens: &'a Lens,
    /// Which of the results are wanted.
    pub window: &'a Window,
    /// How many at most.
    pub count: usize,
    /// How many resources may be looked at one by one.
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
    /// What the list is sorted by; nothing when it is not.
    key: Option<SortKey>,
    /// The sequence at which the resource there was created.
    created: u64,
}

/// An answer: the directory as it was at one moment.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// How many resources satisfy the filter.
    pub total: usize,
    /// The wanted ones.
    pub resources: Vec<Stored>,
    /// Where the last of them stands, when more come after it.
    pub next: Option<Place>,
    /// The moment; whoever shows the resources with it shows what the filter saw.
    pub moment: Moment,
}

/// A resource that is in the list.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) key: Option<SortKey>,
    pub(crate) slot: Slot,
}

/// Keys that are taken from memory at once.
const KEYS: usize = 1_024;

impl Projection {
    /// Answers a question. `total` is exact.
    pub async fn query(&self, tenant: &Tenant, query: Query<'_>) -> Result<Page, Error> {
        self.settle_aside(tenant).await;
        let looked = self.with_order(tenant, |directory| {
            let at = directory.moment_that_stays(query.lens.moment.0);
            (at, in_order(directory, query, at))
        });
        let at = match looked {
            None => return Ok(Page::default()),
            Some((at, Some((total, wanted, more)))) => {
                return self.page(tenant, total, wanted, more, at).await;
            }
            Some((at, None)) => at,
        };
        let lens = Lens { moment: Moment(at), ..query.lens.clone() };
        let mut found = Vec::new();
        for part in query.parts {
            let Some((slots, is_exact)) = self.sifted(tenant, &lens, *part, at).await else { continue };
            let by = part
                .sort
                .and_then(|sort| self.with(tenant, |directory| key_from_memory(directory, sort)).flatten());
            match (is_exact, part.sort, by) {
                (true, None, _) if query.parts.len() == 1 => {
                    return self.page_of_slots(tenant, &slots, query, at).await;
                }
                (true, None, _) => found.extend(slots.into_iter().map(|slot| Found { key: None, slot })),
                (true, Some(_), Some(by)) => self.keyed(tenant, &slots, by, at, &mut found).await,
                (_, _, _) => {
                    if slots.len() > query.scan_rows_max {
                        metrics::counter!("rollcall_query_too_many_total").increment(1);
                        return Err(Error::TooMany { rows_max: query.scan_rows_max });
                    }
                    metrics::counter!("rollcall_query_rows_scanned_total").increment(slots.len() as u64);
                    let scan = Scan::new(self, tenant, part.kind, part.filter, part.sort, &lens);
                    found.extend(scan.run(&slots).await?);
                }
            }
        }
        let sort = query.parts.iter().find_map(|part| part.sort);
        found.sort_by(|left, right| order(sort, left, right));
        let skip = match query.window {
            Window::From(start_index) => start_index.saturating_sub(1).min(found.len()),
            Window::After(None) => 0,
            Window::After(Some(place)) => {
                let slot = self.with(tenant, |directory| directory.created_after(place.created)).unwrap_or(0);
                // In what an earlier release wrote, a sorted list has a place without a key where the resource has no value.
                let key = place.key.clone().unwrap_or(SortKey::of_text(None));
                // The place itself is the last slot before the first that was created later.
                let place = Found { key: Some(key), slot: slot.saturating_sub(1) };
                found.partition_point(|one| slot > 0 && order(sort, one, &place).is_le())
            }
        };
        let total = found.len();
        let wanted: Vec<Found> = found.into_iter().skip(skip).take(query.count).collect();
        let more = skip + wanted.len() < total;
        self.page(tenant, total, wanted, more, at).await
    }

    /// The ids of those that satisfy a filter now, in the order of creation, when the indexes say all; nothing when
    /// resources would have to be looked at.
    pub fn indexed_ids(
        &self,
        tenant: &Tenant,
        kind: &ResourceType,
        filter: &Filter,
    ) -> Option<Vec<ResourceId>> {
        self.settle(tenant);
        let (lens, part) = (Lens::default(), Part { kind, filter: Some(filter), sort: None });
        let begun = self.with_order(tenant, |directory| {
            let at = directory.moment_that_stays(NOW);
            let (_, sifting, is_exact) = begin(directory, &lens, part, at);
            is_exact.then_some((sifting, at))
        });
        // A tenant that nothing is known of has nobody.
        let Some(begun) = begun else { return Some(Vec::new()) };
        let (mut sifting, at) = begun?;
        let step = |sifting: &mut Sifting| {
            self.with(tenant, |directory| sifting.step(&planner(directory, &lens, part, at)))
        };
        while step(&mut sifting) == Some(false) {}
        let ids = |directory: &Directory| {
            sifting.found().into_iter().filter_map(|slot| directory.id(slot)).collect()
        };
        Some(self.with(tenant, ids).unwrap_or_default())
    }

    /// Who can satisfy a filter, and whether all of them do. Others have their turn between the pieces of the work.
    async fn sifted(
        &self,
        tenant: &Tenant,
        lens: &Lens,
        part: Part<'_>,
        at: Number,
    ) -> Option<(Vec<Slot>, bool)> {
        let begun = self.with(tenant, |directory| begin(directory, lens, part, at));
        let (mut is_done, mut sifting, is_exact) = begun?;
        while !is_done {
            tokio::task::yield_now().await;
            // Those who have the permits let go of them.
            let _turn = self.inner.scans.acquire().await.ok();
            is_done = self.with(tenant, |directory| sifting.step(&planner(directory, lens, part, at)))?;
        }
        Some((sifting.found(), is_exact))
    }

    /// What they are sorted by, from memory.
    async fn keyed(&self, tenant: &Tenant, slots: &[Slot], by: By, at: Number, found: &mut Vec<Found>) {
        for (index, piece) in slots.chunks(KEYS).enumerate() {
            if index > 0 {
                tokio::task::yield_now().await;
            }
            self.with(tenant, |directory| {
                let key = |slot: &Slot| Found { key: Some(by.key(directory, *slot, at)), slot: *slot };
                found.extend(piece.iter().map(key));
            });
        }
    }

    /// How a question would be answered: a line for each step, with about how many resources it looks at.
    pub fn explain(&self, tenant: &Tenant, part: Part<'_>, lens: &Lens) -> Vec<String> {
        self.settle(tenant);
        self.with_order(tenant, |directory| {
            let at = directory.moment_that_stays(lens.moment.0);
            let planner = planner(directory, lens, part, at);
            let mut lines = Vec::new();
            let planned = planned(&planner, part);
            planner.explain(&planned.plan, 0, &mut lines);
            if !planned.is_exact {
                lines.push("then each is looked at".to_string());
            }
            if let Some(sort) = part.sort {
                lines.push(match key_from_memory(directory, sort) {
                    Some(By::Value(column)) if walks(directory, part, column, at) => {
                        "in the order of the index; only the page is read".to_string()
                    }
                    Some(_) => "then sorted by what the indexes hold".to_string(),
                    None => "then each is read and sorted".to_string(),
                });
            }
            lines
        })
        .unwrap_or_default()
    }

    /// The page of all that are found, which are in order.
    async fn page_of_slots(
        &self,
        tenant: &Tenant,
        slots: &[Slot],
        query: Query<'_>,
        at: Number,
    ) -> Result<Page, Error> {
        let skip = match query.window {
            Window::From(start_index) => start_index.saturating_sub(1),
            Window::After(None) => 0,
            Window::After(Some(place)) => {
                let first = self.with(tenant, |directory| directory.created_after(place.created));
                slots.partition_point(|slot| *slot < first.unwrap_or(0))
            }
        };
        let rest = slots.get(skip..).unwrap_or_default();
        let wanted = rest.get(..query.count).unwrap_or(rest);
        let more = wanted.len() < rest.len();
        let wanted = wanted.iter().map(|slot| Found { key: None, slot: *slot }).collect();
        self.page(tenant, slots.len(), wanted, more, at).await
    }

    async fn page(
        &self,
        tenant: &Tenant,
        total: usize,
        wanted: Vec<Found>,
        more: bool,
        at: Number,
    ) -> Result<Page, Error> {
        let mut page = Page { total, moment: Moment(at), ..Page::default() };
        let outlines = self.with(tenant, |directory| {
            if let Some(last) = wanted.last().filter(|_| more) {
                page.next = Some(Place { key: last.key.clone(), created: directory.born(last.slot) });
            }
            wanted.iter().filter_map(|found| Outline::of(directory, found.slot, at)).collect::<Vec<_>>()
        });
        page.resources = self.read_all(tenant, outlines.unwrap_or_default()).await?;
        Ok(page)
    }
}

fn planner<'a>(directory: &'a Directory, lens: &'a Lens, part: Part<'a>, at: Number) -> Planner<'a> {
    let resource_type = &part.kind.name;
    Planner { directory, resource_type, kind: directory.kind(resource_type), source: &lens.source, at }
}

fn planned(planner: &Planner<'_>, part: Part<'_>) -> Planned {
    match part.filter {
        None => Planned { plan: Plan::Everything, is_exact: true },
        Some(filter) => planner.plan(filter).unwrap_or(Planned { plan: Plan::Everything, is_exact: false }),
    }
}

/// A plan whose first piece is done, whether that is all of it, and whether what it finds satisfies the filter.
fn begin(directory: &Directory, lens: &Lens, part: Part<'_>, at: Number) -> (bool, Sifting, bool) {
    let planner = planner(directory, lens, part, at);
    let Planned { plan, is_exact } = planned(&planner, part);
    let mut sifting = Sifting::new(&planner, plan);
    (sifting.step(&planner), sifting, is_exact)
}

fn order(sort: Option<&Sort>, left: &Found, right: &Found) -> Ordering {
    match (sort, &left.key, &right.key) {
        (Some(sort), Some(one), Some(other)) => sort.compare(one, other).then(left.slot.cmp(&right.slot)),
        (_, _, _) => left.slot.cmp(&right.slot),
    }
}

/// What a list is sorted by, when it need not be read from documents.
#[derive(Clone, Copy)]
enum By {
    Value(ColumnNumber),
    Created,
    Modified,
}

impl By {
    fn key(self, directory: &Directory, slot: Slot, at: Number) -> SortKey {
        let instant = |ms| SortKey::of_instant(Timestamp::from_millisecond(ms).unwrap_or_default());
        match (self, directory.seen(slot, at)) {
            (Self::Value(column), _) => {
                SortKey::of_text(directory.values().value(slot, column, at).map(str::to_string))
            }
            (Self::Created, Some(seen)) => instant(seen.created_ms),
            (Self::Modified, Some(seen)) => instant(seen.modified_ms),
            (_, None) => SortKey::of_text(None),
        }
    }
}

fn key_from_memory(directory: &Directory, sort: &Sort) -> Option<By> {
    let (path, rule) = sort.attribute()?;
    match (path.schema.as_deref(), path.name.as_deref(), path.sub.as_deref()) {
        (None, Some("meta"), Some("created")) => return Some(By::Created),
        (None, Some("meta"), Some("lastModified")) => return Some(By::Modified),
        (_, _, _) => {}
    }
    let column = directory.indexes().find(path, rule)?;
    let indexed = directory.indexes().column(column)?;
    let is_text = rule.kind == scim::Type::String && directory.values().is_exact(column);
    (sort.is_single() && is_text && indexed.path == *path).then_some(By::Value(column))
}

/// Whether an index holds all of a type now, so that a page can be taken from its order.
fn walks(directory: &Directory, part: Part<'_>, column: ColumnNumber, at: Number) -> bool {
    let is_now = at as usize + 1 == directory.rows();
    // More values than resources are values of the past: then the walk could be long.
    let total = directory.of_type(&part.kind.name).map_or(0, |list| list.total());
    part.filter.is_none()
        && is_now
        && directory.values().order(column).is_some_and(|order| order.len() <= 4 * total)
}

type Taken = (usize, Vec<Found>, bool);

/// Pages that need nothing but an order that is there: all of some types as they were created, or all of one type by an
/// indexed attribute.
fn in_order(directory: &Directory, query: Query<'_>, at: Number) -> Option<Taken> {
    if query.parts.iter().any(|part| part.filter.is_some()) {
        return None;
    }
    if query.parts.iter().all(|part| part.sort.is_none()) {
        return as_created(directory, query, at);
    }
    let [part] = query.parts else { return None };
    let sort = part.sort?;
    let By::Value(column) = key_from_memory(directory, sort)? else { return None };
    if !walks(directory, *part, column, at) {
        return None;
    }
    by_value(directory, query, *part, sort, column, at)
}

fn as_created(directory: &Directory, query: Query<'_>, at: Number) -> Option<Taken> {
    if at as usize + 1 != directory.rows() {
        return None;
    }
    let lists: Vec<_> = query.parts.iter().filter_map(|part| directory.of_type(&part.kind.name)).collect();
    let total = lists.iter().map(|list| list.total()).sum();
    let (first, skip) = match query.window {
        Window::After(Some(place)) => (directory.created_after(place.created), 0),
        Window::After(None) => (0, 0),
        Window::From(start_index) => match lists.as_slice() {
            [one] => one.skip(start_index.saturating_sub(1)),
            _ => (0, start_index.saturating_sub(1)),
        },
    };
    let exists = |slot: &Slot| directory.exists(*slot, at);
    let mut wanted: Vec<Slot> = match lists.as_slice() {
        [one] => one.from(first).filter(exists).skip(skip).take(query.count + 1).collect(),
        many => {
            let enough = skip.saturating_add(query.count).saturating_add(1);
            let mut merged: Vec<Slot> =
                many.iter().flat_map(|list| list.from(first).filter(exists).take(enough)).collect();
            merged.sort_unstable();
            merged.into_iter().skip(skip).take(query.count + 1).collect()
        }
    };
    let more = wanted.len() > query.count;
    wanted.truncate(query.count);
    Some((total, wanted.into_iter().map(|slot| Found { key: None, slot }).collect(), more))
}

/// The page of an index's order. Nothing when some of the type have no value there, whose place is at an end.
fn by_value(
    directory: &Directory,
    query: Query<'_>,
    part: Part<'_>,
    sort: &Sort,
    column: ColumnNumber,
    at: Number,
) -> Option<Taken> {
    let (values, total) = (directory.values(), directory.of_type(&part.kind.name)?.total());
    let index = values.order(column)?;
    let is_wanted = |number: &Number| {
        values.posting(*number).is_some_and(|posting| {
            posting.is_at(at)
                && directory.exists(posting.slot, at)
                && directory.type_at(posting.slot) == part.kind.name
        })
    };
    let mut skip = match query.window {
        Window::From(start_index) => start_index.saturating_sub(1),
        Window::After(_) => 0,
    };
    let place = match query.window {
        Window::After(Some(place)) => {
            let key = place.key.as_ref()?.text()?;
            Some((key.as_bytes(), directory.created_after(place.created)))
        }
        Window::From(_) | Window::After(None) => None,
    };
    let behind = |number: Number| match (&place, values.posting(number)) {
        (Some((key, first)), Some(posting)) => (values.text(number), posting.slot) >= (*key, *first),
        (_, _) => true,
    };
    let begins = place.as_ref().map_or(0, |(key, _)| beginning(key));
    let from = index.place(begins, |number| !behind(number));
    let mut found: Vec<Found> = Vec::new();
    let key = |number: Number| {
        let text = std::str::from_utf8(values.text(number)).unwrap_or_default().to_string();
        Some(SortKey::of_text(Some(text)))
    };
    if sort.is_descending() {
        // Of equal texts the earlier resource still comes first, so they are taken together.
        let place_text = place.as_ref().map(|(text, _)| text.to_vec());
        let to = match &place_text {
            None => index.end(),
            Some(text) => index.place(beginning(text), |number| values.text(number) <= text.as_slice()),
        };
        let mut numbers = index.range(index.begin(), to).rev().peekable();
        while found.len() <= query.count
            && let Some(first) = numbers.next()
        {
            let mut same = vec![first];
            while let Some(next) = numbers.next_if(|next| values.text(*next) == values.text(first)) {
                same.push(next);
            }
            same.retain(is_wanted);
            if place_text.as_deref() == Some(values.text(first)) {
                let begin = place.as_ref().map_or(0, |(_, first)| *first);
                same.retain(|number| values.posting(*number).is_some_and(|posting| posting.slot >= begin));
            }
            same.sort_by_key(|number| values.posting(*number).map(|posting| posting.slot));
            for number in same {
                if skip > 0 {
                    skip -= 1;
                } else if let Some(posting) = values.posting(number) {
                    found.push(Found { key: key(number), slot: posting.slot });
                }
            }
        }
    } else {
        let numbers = index.range(from, index.end()).filter(is_wanted).skip(skip).take(query.count + 1);
        let with_slot = numbers.filter_map(|number| Some((number, values.posting(number)?.slot)));
        found = with_slot.map(|(number, slot)| Found { key: key(number), slot }).collect();
    }
    let more = found.len() > query.count;
    // Whoever has no value comes last, or first when descending: only a walk over all tells who that is.
    let is_complete = directory.valued(column, &part.kind.name) == total;
    if !is_complete && (sort.is_descending() || !more) {
        return None;
    }
    found.truncate(query.count);
    Some((total, found, more))
}
