//! Times in groups: everybody's in one, or one resource's in all. There can be a million of them: they are found once, in a
//! copy, so that nobody waits meanwhile, and told in pages.

use jiff::Timestamp;
use proto::{ResourceId, Tenant};

use crate::directory::{Directory, Number, Slot};
use crate::{Moment, Projection};

/// A time in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The group.
    pub group: ResourceId,
    /// The member.
    pub member: ResourceId,
    /// What the other end is called now, or was at its end.
    pub display: Option<String>,
    /// The event that began it.
    pub from: (u64, Timestamp),
    /// The event that ended it.
    pub to: Option<(u64, Timestamp)>,
}

/// Of whom times in groups are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Group,
    Member,
}

/// All times in one group, or of one resource in groups, until a moment, in the order of their beginnings.
#[derive(Debug)]
pub struct Stays {
    id: ResourceId,
    of: Of,
    /// Where the resource stands; nothing when there never was one.
    slot: Option<Slot>,
    until: Number,
    /// The other end, from which event, until which.
    all: Vec<(Slot, Number, Number)>,
}

impl Stays {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether places are still those of the same: not where the tenant was dropped meanwhile.
    fn is_known_to(&self, directory: &Directory) -> bool {
        let id = self.slot.and_then(|slot| directory.id(slot));
        directory.rows() > self.until as usize && id == Some(self.id)
    }
}

impl Projection {
    /// Everyone who was ever in a group until a moment, each time from when until when.
    pub async fn stays_in(&self, tenant: &Tenant, group: ResourceId, until: Moment) -> Stays {
        self.stays(tenant, (group, Of::Group), until).await
    }

    /// Every group that a resource was ever in by itself until a moment, each time from when until when.
    pub async fn stays_of(&self, tenant: &Tenant, member: ResourceId, until: Moment) -> Stays {
        self.stays(tenant, (member, Of::Member), until).await
    }

    async fn stays(&self, tenant: &Tenant, (id, of): (ResourceId, Of), until: Moment) -> Stays {
        let found = self.with(tenant, |directory| {
            let lives: Vec<Slot> = directory.lives(id).collect();
            (directory.edges().clone(), lives, directory.moment_that_stays(until.0))
        });
        let Some((edges, lives, until)) = found else {
            return Stays { id, of, slot: None, until: 0, all: Vec::new() };
        };
        let slot = lives.first().copied();
        let find = move || {
            let stays = lives.into_iter().flat_map(|slot| edges.stays(slot, of == Of::Group));
            let mut all: Vec<_> = stays.filter(|(_, from, _)| *from <= until).collect();
            all.sort_unstable_by_key(|(other, from, _)| (*from, *other));
            all
        };
        let all = match tokio::task::spawn_blocking(find).await {
            Ok(all) => all,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process ends.
                Err(_) => std::future::pending().await,
            },
        };
        Stays { id, of, slot, until, all }
    }

    /// So many of them, after some.
    pub fn some_stays(&self, tenant: &Tenant, stays: &Stays, skip: usize, count: usize) -> Vec<Stay> {
        let told = |directory: &Directory| {
            let event = |number: Number| {
                let step = directory.versions().get(number)?;
                Some((step.sequence, Timestamp::from_millisecond(step.time_ms).ok()?))
            };
            let stay = |(other, from, to): &(Slot, Number, Number)| {
                let other_id = directory.id(*other)?;
                let (group, member) = match stays.of {
                    Of::Group => (stays.id, other_id),
                    Of::Member => (other_id, stays.id),
                };
                let display = directory.last_display(*other, stays.until).map(str::to_string);
                let to = event(*to).filter(|_| *to <= stays.until);
                Some(Stay { group, member, display, from: event(*from)?, to })
            };
            let some = stays.all.iter().skip(skip).take(count);
            some.filter(|_| stays.is_known_to(directory)).filter_map(stay).collect()
        };
        self.with(tenant, told).unwrap_or_default()
    }

    /// Whose time in a group an event ended.
    pub fn left_with(&self, tenant: &Tenant, group: ResourceId, sequence: u64) -> Vec<ResourceId> {
        self.ended_with(tenant, (group, Of::Group), sequence)
    }

    /// In which groups an event ended the time of a resource.
    pub fn lost_with(&self, tenant: &Tenant, member: ResourceId, sequence: u64) -> Vec<ResourceId> {
        self.ended_with(tenant, (member, Of::Member), sequence)
    }

    fn ended_with(&self, tenant: &Tenant, (id, of): (ResourceId, Of), sequence: u64) -> Vec<ResourceId> {
        self.with(tenant, |directory| {
            let Some(at) = directory.versions().exactly(sequence) else { return Vec::new() };
            let edges = directory.edges();
            let ended = directory.lives(id).flat_map(|slot| edges.ended(slot, of == Of::Group, at));
            ended.filter_map(|slot| directory.id(slot)).collect()
        })
        .unwrap_or_default()
    }
}
