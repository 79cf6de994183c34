//! Where parcels come from: the log as it grows, a part of it once more, or the directory at one moment. What is held is
//! made again from the same places.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use eventlog::Message;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use projector::{Lens, Moment, Part, Query, Stored, When, Window};
use proto::{Event, ResourceId, Tenant};
use scim::{Object, ResourceType};
use tokio::time::Instant;
use uuid::Uuid;

use super::event::{self, Around, Happened, Lookup, Snapshotted, Told};
use super::queue::{Origin, Parcel, Waiting};
use super::view::View;
use crate::herald;
use crate::{Error, Shared};

/// How long the directory may take to have what the log has.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);
/// Resources of a snapshot that are read at once.
const PAGE: usize = 200;
/// The resource type of what is told of the feed itself.
const FEED_TYPE: &str = "Feed";

/// Makes parcels. Cheap to clone.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) shared: Shared,
    /// The feed's name.
    pub(super) feed: String,
    pub(super) tenant: Tenant,
    pub(super) view: Arc<View>,
}

/// Parcels with ascending numbers.
pub(super) type Parcels = BoxStream<'static, Result<(u64, Parcel), Error>>;

impl Source {
    /// The log from a sequence on; ends after `last`, if there is one. The numbers are the sequences.
    pub(super) fn log(&self, first: u64, last: Option<u64>, replay: Option<String>) -> Parcels {
        if last.is_some_and(|last| last < first) {
            return stream::empty().boxed();
        }
        let messages = self.shared.broker.identity.follow(first);
        let state = (self.clone(), Some(messages), replay);
        let parcels = stream::unfold(state, move |(source, messages, replay)| async move {
            let mut messages = messages?;
            let message = match messages.next().await? {
                Ok(message) => message,
                Err(error) => return Some((Err(error.into()), (source, None, replay))),
            };
            let sequence = message.sequence;
            if last.is_some_and(|last| sequence > last) {
                return None;
            }
            let parcel = source.of_message(message, replay.clone()).await;
            // One more than the last is never waited for.
            let goes_on = last.is_none_or(|last| sequence < last) && parcel.is_ok();
            Some((parcel.map(|parcel| (sequence, parcel)), (source, goes_on.then_some(messages), replay)))
        });
        parcels.boxed()
    }

    async fn of_message(&self, message: Message, replay: Option<String>) -> Result<Parcel, Error> {
        let (sequence, time) = (message.sequence, message.time);
        let (event, body) = herald::open(&self.shared.keyring, message).await?;
        let told = if event.tenant == self.tenant {
            let happened =
                Happened { event: &event, body: body.as_ref(), sequence, time, replay: replay.as_deref() };
            let around = self.around(&happened).await?;
            event::of(&happened, &around, &self.view)
        } else {
            Vec::new()
        };
        let origin = Origin::Event { sequence, replay };
        Ok(parcel(origin, &event.resource_type, event.resource_id, told))
    }

    /// What an event does not tell of its resource and must be known.
    async fn around(&self, happened: &Happened<'_>) -> Result<Around, Error> {
        let Happened { event, body, sequence, .. } = *happened;
        let mut around = Around { before: event::before_update(event, body), ..Around::default() };
        match event::lookup(event, &self.view) {
            Lookup::Nothing => {}
            Lookup::Before => around.before = self.document(event, sequence.saturating_sub(1)).await?,
            Lookup::After => around.after = self.document(event, sequence).await?,
        }
        if event::scope(happened, &around, &self.view) == (false, true)
            && let Some(moment) = self.moment(sequence).await?
        {
            around.members = self.shared.projection.members_at(&self.tenant, event.resource_id, moment);
        }
        Ok(around)
    }

    /// A resource's document at a sequence; nothing when it is not kept any more.
    async fn document(&self, event: &Event, sequence: u64) -> Result<Option<Object>, Error> {
        let Some(moment) = self.moment(sequence).await? else { return Ok(None) };
        let found =
            self.shared.projection.resource_at(&self.tenant, &event.resource_type, event.resource_id, moment);
        Ok(found.await?.map(|stored| Object::clone(&stored.document)))
    }

    /// The moment after a sequence; nothing when it is not kept any more, or before anything happened.
    async fn moment(&self, sequence: u64) -> Result<Option<Moment>, Error> {
        let projection = &self.shared.projection;
        let wait = projection.wait_until(sequence, Instant::now() + CATCH_UP_TIMEOUT).await;
        wait.map_err(projector::Error::from)?;
        match projection.moment(&self.tenant, When::Sequence(sequence)) {
            Ok(moment) => Ok(moment),
            Err(projector::Error::NotKept { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a snapshot that begins now stands.
    pub(super) async fn position(&self) -> Result<u64, Error> {
        self.shared.projection.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await?;
        Ok(self.shared.projection.applied())
    }

    /// Everything as of a sequence, type by type in the order of creation, without the first ones. The numbers count them.
    /// Nothing when that moment is not kept any more.
    pub(super) async fn snapshot(
        &self,
        snapshot: &str,
        position: u64,
        time: Timestamp,
        skip: u64,
    ) -> Result<Option<Parcels>, Error> {
        let moment = self.moment(position).await?;
        if moment.is_none() && position > 0 && self.was_something(position) {
            return Ok(None);
        }
        let state = Pages {
            source: self.clone(),
            snapshot: snapshot.to_string(),
            position,
            time,
            moment,
            kinds: self.shared.registry.resource_types().iter().cloned().collect(),
            read: 0,
            number: 0,
            skip,
            page: VecDeque::new(),
        };
        let parcels = stream::unfold(state, |mut state| async move {
            let next = state.next().await.transpose()?;
            Some((next, state))
        });
        Ok(Some(parcels.boxed()))
    }

    /// Whether anything had happened to the tenant at a sequence.
    fn was_something(&self, sequence: u64) -> bool {
        let first = self.shared.projection.stands_at(&self.tenant, Moment::FIRST);
        first.is_some_and(|(first, _)| first <= sequence)
    }

    fn of_stored(&self, stored: &Stored, origin: &(String, u64, Timestamp), moment: Moment) -> Parcel {
        let (snapshot, position, time) = origin;
        let members = self.shared.projection.members_at(&self.tenant, stored.id, moment);
        let resource = Snapshotted {
            tenant: &self.tenant,
            snapshot,
            position: *position,
            time: *time,
            resource_type: &stored.resource_type,
            id: stored.id,
            document: &stored.document,
            members: &members,
        };
        let told = event::of_snapshot(&resource, &self.view);
        let origin = Origin::Snapshot { snapshot: snapshot.clone(), position: *position, time: *time };
        parcel(origin, &stored.resource_type, stored.id, told)
    }

    /// The end of a snapshot or a replay.
    pub(super) fn end(&self, origin: Origin) -> Parcel {
        let (tenant, feed) = (&self.tenant, self.feed.as_str());
        let told = match &origin {
            Origin::SnapshotCompleted { snapshot, position, time } => {
                vec![event::of_snapshot_end(tenant, feed, snapshot, *position, *time)]
            }
            Origin::ReplayCompleted { replay, first, last, time } => {
                vec![event::of_replay_end(tenant, feed, replay, (*first, *last), *time)]
            }
            Origin::Event { .. } | Origin::Snapshot { .. } => Vec::new(),
        };
        parcel(origin, FEED_TYPE, ResourceId::new(Uuid::nil()), told)
    }

    /// What is held, made again.
    pub(super) async fn again(
        &self,
        resource_type: &str,
        id: ResourceId,
        waiting: &Waiting,
    ) -> Result<Option<Parcel>, Error> {
        let parcel = match &waiting.origin {
            Origin::Event { sequence, replay } => match self.shared.broker.identity.read(*sequence).await? {
                Some(message) => Some(self.of_message(message, replay.clone()).await?),
                None => None,
            },
            Origin::Snapshot { snapshot, position, time } => {
                let projection = &self.shared.projection;
                // What is not kept any more is told as it is now.
                let moment = self.moment(*position).await?.unwrap_or(Moment::NOW);
                let stored = projection.resource_at(&self.tenant, resource_type, id, moment).await?;
                stored.map(|stored| self.of_stored(&stored, &(snapshot.clone(), *position, *time), moment))
            }
            Origin::SnapshotCompleted { .. } | Origin::ReplayCompleted { .. } => {
                Some(self.end(waiting.origin.clone()))
            }
        };
        Ok(parcel.map(|parcel| Parcel { next: waiting.next, ..parcel }))
    }
}

/// A snapshot that is being read.
struct Pages {
    source: Source,
    snapshot: String,
    position: u64,
    time: Timestamp,
    moment: Option<Moment>,
    /// Types that are not read to their end.
    kinds: VecDeque<ResourceType>,
    /// Resources of the first of them that were read.
    read: usize,
    /// Resources that were passed on or skipped.
    number: u64,
    /// Resources that are still to be skipped.
    skip: u64,
    page: VecDeque<Stored>,
}

impl Pages {
    async fn next(&mut self) -> Result<Option<(u64, Parcel)>, Error> {
        let Some(moment) = self.moment else { return Ok(None) };
        while self.page.is_empty() {
            let Some(kind) = self.kinds.front() else { return Ok(None) };
            let lens = Lens { moment, ..Lens::default() };
            let passed = self.read + usize::try_from(self.skip).unwrap_or(usize::MAX);
            let query = Query {
                parts: &[Part { kind, filter: None, sort: None }],
                lens: &lens,
                window: &Window::From(passed.saturating_add(1)),
                count: PAGE,
                scan_rows_max: usize::MAX,
            };
            let page = self.source.shared.projection.query(&self.source.tenant, query).await?;
            let skipped = self.skip.min(page.total as u64);
            self.skip -= skipped;
            self.number += skipped;
            self.read = passed + page.resources.len();
            if page.resources.is_empty() {
                self.kinds.pop_front();
                self.read = 0;
            }
            self.page = page.resources.into();
        }
        let Some(stored) = self.page.pop_front() else { return Ok(None) };
        self.number += 1;
        let origin = (self.snapshot.clone(), self.position, self.time);
        Ok(Some((self.number, self.source.of_stored(&stored, &origin, moment))))
    }
}

fn parcel(origin: Origin, resource_type: &str, resource_id: ResourceId, told: Vec<Told>) -> Parcel {
    let told = told.into_iter().map(Arc::new).collect();
    Parcel { origin, resource_type: resource_type.to_string(), resource_id, told, next: 0 }
}
