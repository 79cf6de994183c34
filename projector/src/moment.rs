//! Moments: the directory as of an event or an instant.

use std::cmp::Reverse;

use eventlog::clock;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use proto::{CLOCK_TOLERANCE, ResourceId, Tenant};

use crate::directory::{Directory, NOW, Number};
use crate::{Error, Projection};

/// Log time is in whole milliseconds.
const TICK: SignedDuration = SignedDuration::from_millis(1);

/// Which moment is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// As of the last event that was applied.
    #[default]
    Now,
    /// As of this sequence of the log.
    Sequence(u64),
    /// As of this instant, in log time: everything that happened until then, and itself.
    Instant(Timestamp),
}

/// A moment of a tenant's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub(crate) Number);

impl Moment {
    /// As of whatever was applied last when one looks.
    pub const NOW: Self = Self(NOW);
    /// As of the first event that is known of a tenant.
    pub const FIRST: Self = Self(0);
}

/// What is known of a resource without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The resource type's name.
    pub resource_type: String,
    /// What it is called at the moment, or was at its end.
    pub display: Option<String>,
    /// Whether it exists at the moment.
    pub exists: bool,
}

impl Default for Moment {
    fn default() -> Self {
        Self::NOW
    }
}

impl Projection {
    /// The moment that is meant; nothing when the tenant had no event yet. One that the log has not reached is refused:
    /// what will be there is not known.
    pub fn moment(&self, tenant: &Tenant, when: When) -> Result<Option<Moment>, Error> {
        let applied = self.applied();
        if let When::Sequence(sequence) = when
            && sequence > applied
        {
            return Err(Error::NotYet { asked: format!("sequence {sequence}"), applied });
        }
        if let When::Instant(instant) = when
            && instant > clock::now()
        {
            return Err(Error::NotYet { asked: instant.to_string(), applied });
        }
        let found = self.with(tenant, |directory| match when {
            When::Now => directory.rows().checked_sub(1).map(|_| NOW),
            When::Sequence(sequence) => directory.at_sequence(sequence),
            When::Instant(instant) => directory.at_time(instant),
        });
        match found.flatten().map(Moment) {
            Some(moment) => {
                self.kept(tenant, moment)?;
                Ok(Some(moment))
            }
            None => Ok(None),
        }
    }

    /// Whether everything is applied that ever will have happened until an instant. Of one that has just passed that is not
    /// known while a writer's clock that is believed can be behind: what is on its way may still happen then. That is
    /// waited for.
    pub async fn has_passed(&self, instant: Timestamp) -> bool {
        // Log time never goes back.
        let is_known = || self.state().confirmed_time() > instant;
        let now = clock::now();
        let open = CLOCK_TOLERANCE + TICK - now.duration_since(instant);
        if instant <= now && !is_known() {
            tokio::time::sleep(open.try_into().unwrap_or_default()).await;
        }
        is_known()
    }

    /// The first sequence at which the broker's clock had reached an instant; one past the last when there is none. That
    /// clock may have gone back, so its times are in no order to search in. Log time never goes back, and is never further
    /// before it than a writer's clock is believed: it says from where on to look.
    pub async fn sequence_at(&self, instant: Timestamp) -> Result<u64, Error> {
        let last = self.inner.last.ask().await?;
        let before = instant.checked_sub(CLOCK_TOLERANCE + TICK + TICK).unwrap_or(Timestamp::MIN);
        let from = self.last_until(before) + 1;
        if from > last {
            return Ok(last + 1);
        }
        let mut messages = self.inner.log.follow(from);
        while let Some(message) = messages.next().await.transpose()? {
            if message.time >= instant {
                return Ok(message.sequence);
            }
            if message.sequence >= last {
                break;
            }
        }
        Ok(last + 1)
    }

    /// The last sequence that is applied of what happened until an instant, in log time, in whatever tenant; 0 when nothing
    /// did. A tenant that was dropped has nothing from before.
    fn last_until(&self, instant: Timestamp) -> u64 {
        let last =
            |directory: &Directory| Some(directory.versions().get(directory.at_time(instant)?)?.sequence);
        self.state().tenants.values().filter_map(last).max().unwrap_or_default()
    }

    /// The last event at a moment: its sequence and its log time.
    pub fn stands_at(&self, tenant: &Tenant, moment: Moment) -> Option<(u64, Timestamp)> {
        self.with(tenant, |directory| {
            let last = u32::try_from(directory.rows()).ok()?.checked_sub(1)?;
            let step = directory.versions().get(moment.0.min(last))?;
            Some((step.sequence, Timestamp::from_millisecond(step.time_ms).ok()?))
        })
        .flatten()
    }

    /// What is known at a moment of a resource that exists or did at some time.
    pub fn known_at(&self, tenant: &Tenant, id: ResourceId, moment: Moment) -> Option<Known> {
        self.with(tenant, |directory| {
            let slot = directory.slot_at(id, moment.0)?;
            Some(Known {
                resource_type: directory.type_at(slot).to_string(),
                display: directory.last_display(slot, moment.0).map(str::to_string),
                exists: directory.exists(slot, moment.0),
            })
        })
        .flatten()
    }

    /// Every resource of a type: whoever changed last first, and those who never did in the order of creation.
    pub fn last_changed_first(&self, tenant: &Tenant, resource_type: &str) -> Vec<ResourceId> {
        let found = self.with(tenant, |directory| {
            let slots = directory.of_type(resource_type).into_iter().flat_map(|list| list.from(0));
            let seen = slots.filter_map(|slot| directory.seen(slot, NOW));
            let changed =
                |modified_ms: i64, created_ms: i64| Some(modified_ms).filter(|_| modified_ms > created_ms);
            let all = seen.map(|seen| (Reverse(changed(seen.modified_ms, seen.created_ms)), seen.id));
            all.collect::<Vec<_>>()
        });
        let mut found = found.unwrap_or_default();
        found.sort_by_key(|(changed, _)| *changed);
        found.into_iter().map(|(_, id)| id).collect()
    }
}
