//! What happened, told by the naive directory: histories, stays in groups, and differences, compared with what a projection
//! tells.

use std::collections::{BTreeMap, BTreeSet};

use projector::{Became, Difference, Moment, Projection, Stay, Stays};
use proto::{ResourceId, Tenant};
use scim::Object;

use super::model::{Model, Resource, Snapshot};

/// More than there is of anything.
const MANY: usize = 1_000_000;

/// A group, a member, since which sequence, and until which.
type Span = (ResourceId, ResourceId, u64, Option<u64>);

/// Asks one projection about what happened to a tenant until a moment.
pub(crate) struct Past<'a> {
    pub(crate) projection: &'a Projection,
    pub(crate) tenant: &'a Tenant,
    pub(crate) model: &'a Model,
    /// Where it stands, and the snapshot there.
    pub(crate) moment: Moment,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) what: String,
}

impl Past<'_> {
    /// The history of everybody, and every time in every group.
    pub(crate) async fn agrees(&self, page: usize) {
        let spans = self.model.spans(self.snapshot.sequence);
        for id in &self.model.ids {
            let happened = self.model.happened.iter();
            let expected: Vec<u64> = happened
                .filter(|(sequence, of)| of == id && *sequence <= self.snapshot.sequence)
                .map(|(sequence, _)| *sequence)
                .collect();
            assert_eq!(self.history(*id, MANY).await, expected, "history of {id}, {}", self.what);
            assert_eq!(self.history(*id, page).await, expected, "history of {id} in pages, {}", self.what);
            let of = |end: fn(&Span) -> ResourceId| -> Vec<Span> {
                spans.iter().filter(|span| end(span) == *id).copied().collect()
            };
            let stays = self.projection.stays_in(self.tenant, *id, self.moment).await;
            assert_eq!(joined(&self.told(&stays, page)), of(|span| span.0), "stays in {id}, {}", self.what);
            let stays = self.projection.stays_of(self.tenant, *id, self.moment).await;
            assert_eq!(joined(&self.told(&stays, page)), of(|span| span.1), "stays of {id}, {}", self.what);
        }
    }

    /// Times in groups, in pages of a size.
    fn told(&self, stays: &Stays, page: usize) -> Vec<Stay> {
        let pages = (0..stays.len()).step_by(page);
        pages.flat_map(|skip| self.projection.some_stays(self.tenant, stays, skip, page)).collect()
    }

    /// The sequences of somebody's events, in pages of a size.
    async fn history(&self, id: ResourceId, page: usize) -> Vec<u64> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let found = self.projection.history(self.tenant, id, self.moment, after, page).await.unwrap();
            let found = found.unwrap();
            all.extend(found.events.iter().map(|event| event.sequence));
            after = found.next;
            if after.is_none() {
                assert_eq!(found.total, all.len(), "{}", self.what);
                return all;
            }
        }
    }

    /// How the directory differs from what it was; nothing was before everything.
    pub(crate) async fn differs(&self, from: Option<(&Snapshot, Moment)>, page: usize) {
        let nothing = Snapshot::default();
        let before = from.map_or(&nothing, |(snapshot, _)| snapshot);
        let moments = (from.map(|(_, moment)| moment), self.moment);
        let what = format!("since {}: {}", before.sequence, self.what);
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let found = self.projection.differences(self.tenant, moments, after, page).await.unwrap();
            all.extend(found.resources);
            after = found.next;
            if after.is_none() {
                break;
            }
        }
        let count = all.len();
        let found: BTreeMap<ResourceId, Difference> = all.into_iter().map(|one| (one.id, one)).collect();
        assert_eq!(found.len(), count, "one is told twice, {what}");
        for id in &self.model.ids {
            let expected = difference(*id, before.find(*id), self.snapshot.find(*id));
            let mut found = found.get(id).cloned();
            if let Some(found) = &mut found {
                found.members_added.sort();
                found.members_removed.sort();
            }
            assert_eq!(found, expected, "{id}, {what}");
        }
    }
}

fn difference(id: ResourceId, before: Option<&Resource>, after: Option<&Resource>) -> Option<Difference> {
    let what = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => Became::Created,
        (Some(_), None) => Became::Deleted,
        (Some(_), Some(_)) => Became::Changed,
    };
    let members = |one: Option<&Resource>| one.map(|one| one.members.clone()).unwrap_or_default();
    let (old, new) = (members(before), members(after));
    let difference = Difference {
        id,
        resource_type: after.or(before)?.kind.clone(),
        what,
        changes: scim::diff(&shown(before), &shown(after)),
        members_added: new.difference(&old).copied().collect(),
        members_removed: old.difference(&new).copied().collect(),
    };
    let is_same = difference.changes.is_empty()
        && difference.members_added.is_empty()
        && difference.members_removed.is_empty();
    (what != Became::Changed || !is_same).then_some(difference)
}

fn shown(resource: Option<&Resource>) -> Object {
    let Some(resource) = resource else { return Object::new() };
    let ids = resource.external_ids.iter();
    let ids = ids.map(|(source, id)| (format!("externalId[{source}]"), id.clone().into()));
    resource.document.clone().into_iter().chain(ids).collect()
}

/// Stays that touch are one: a member that one event takes and gives never left.
fn joined(stays: &[Stay]) -> Vec<Span> {
    let span = |stay: &Stay| (stay.group, stay.member, stay.from.0, stay.to.map(|(sequence, _)| sequence));
    let mut spans: Vec<Span> = stays.iter().map(span).collect();
    spans.sort();
    spans.dedup_by(|next, before| {
        let touches = (next.0, next.1) == (before.0, before.1) && before.3 == Some(next.2);
        if touches {
            before.3 = next.3;
        }
        touches
    });
    spans
}

impl Model {
    /// Every time of every member in every group until a sequence.
    fn spans(&self, until: u64) -> Vec<Span> {
        let mut open: BTreeMap<(ResourceId, ResourceId), u64> = BTreeMap::new();
        let mut spans = Vec::new();
        for snapshot in self.snapshots.iter().take_while(|snapshot| snapshot.sequence <= until) {
            let groups = snapshot.living.iter().filter(|one| !one.members.is_empty());
            let now: BTreeSet<(ResourceId, ResourceId)> =
                groups.flat_map(|group| group.members.iter().map(|member| (group.id, *member))).collect();
            for (edge, from) in open.extract_if(.., |edge, _| !now.contains(edge)) {
                spans.push((edge.0, edge.1, from, Some(snapshot.sequence)));
            }
            for edge in now {
                open.entry(edge).or_insert(snapshot.sequence);
            }
        }
        spans.extend(open.into_iter().map(|((group, member), from)| (group, member, from, None)));
        spans.sort();
        spans
    }
}
