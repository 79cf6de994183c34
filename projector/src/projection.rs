//! The directory as a whole: open it, run it, ask it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use eventlog::{LastSequence, Log, Objects};
use jiff::Timestamp;
use proto::subject::Key;
use proto::{Body, Kind, ResourceId, Tenant};
use scim::Registry;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::directory::{Directory, NOW, Slot, TypeList};
use crate::frames::Frames;
use crate::hot::Hot;
use crate::images::Images;
use crate::own::Own;
use crate::reader::Reader;
use crate::row::ReadRow;
use crate::scan::PIECES_MAX;
use crate::stall::Stall;
use crate::state::State;
use crate::store::{Storage, Store};
use crate::stored::{Former, Outline, Stored};
use crate::waiters::Waiters;
use crate::{Error, KeyState, Lagging, Moment};

/// Where the projection stands and what it may use.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its rows stand.
    pub storage: Storage,
    /// Memory for sled's pages.
    pub cache_bytes: u64,
    /// Memory for opened documents.
    pub hot_bytes: u64,
    /// Attributes that are looked up by their values, besides those that always are.
    pub indexed: Vec<String>,
    /// The last sequence that is applied, unless a command goes on after it; nothing means all that come.
    pub until: Option<u64>,
    /// When the log was restored from a backup last: what was applied before may be gone from it.
    pub restored_at: Option<Timestamp>,
}

/// The directory. Cheap to clone; clones are the same directory.
#[derive(Clone)]
pub struct Projection {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) reader: Reader,
    pub(crate) registry: Arc<Registry>,
    /// What its types show of every resource.
    pub(crate) frames: Frames,
    pub(crate) store: Store,
    pub(crate) images: Images,
    /// Where snapshots are, when there are any.
    pub(crate) snapshots: Option<Arc<dyn Objects>>,
    /// Up to which sequence rows are still to be fetched; 0 when all are there.
    pub(crate) filling: AtomicU64,
    /// Up to which sequence history is thinned, and is to be.
    pub(crate) floor: AtomicU64,
    pub(crate) thin_to: AtomicU64,
    /// Whether snapshots are being removed.
    pub(crate) forgetting: AtomicBool,
    pub(crate) state: RwLock<State>,
    pub(crate) hot: Hot,
    /// What our own process is about to write.
    pub(crate) own: Own,
    /// The last sequence that is applied.
    pub(crate) until: Option<u64>,
    applied: watch::Sender<u64>,
    waiters: Waiters,
    /// Rows of the tail were written.
    pub(crate) written: Notify,
    /// What keeps them from being written.
    pub(crate) stall: Stall,
    /// Whose turn it is to put many values in order.
    pub(crate) settling: Mutex<()>,
    /// Turns at looking at many resources.
    pub(crate) scans: Semaphore,
    /// How far the log is.
    pub(crate) last: LastSequence,
}

/// How far the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The last sequence that was applied.
    pub applied: u64,
    /// The log's last sequence.
    pub last: u64,
}

/// What a projection stands on.
pub(crate) struct Ground {
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) snapshots: Option<Arc<dyn Objects>>,
    /// Up to which sequence rows are still to be fetched.
    pub(crate) filling: u64,
    /// Up to which sequence history was thinned.
    pub(crate) floor: u64,
}

impl Projection {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        reader: Reader,
        Ground { store, images, snapshots, filling, floor }: Ground,
        state: State,
        hot: Hot,
        until: Option<u64>,
    ) -> Self {
        let (applied, registry) = (state.applied(), reader.registry.clone());
        Self {
            inner: Arc::new(Inner {
                last: LastSequence::of(log.clone()),
                log,
                reader,
                frames: Frames::of(&registry),
                registry,
                store,
                images,
                snapshots,
                filling: AtomicU64::new(filling),
                floor: AtomicU64::new(floor),
                thin_to: AtomicU64::new(floor),
                forgetting: AtomicBool::new(false),
                state: RwLock::new(state),
                hot,
                own: Own::default(),
                until,
                settling: Mutex::new(()),
                scans: Semaphore::new(PIECES_MAX),
                applied: watch::Sender::new(applied),
                waiters: Waiters::default(),
                written: Notify::new(),
                stall: Stall::default(),
            }),
        }
    }

    /// The last sequence that was applied.
    pub fn applied(&self) -> u64 {
        *self.inner.applied.borrow()
    }

    /// Told after every change of [`Projection::applied`].
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.applied.subscribe()
    }

    /// Waits until a sequence is applied.
    pub async fn wait_until(&self, sequence: u64, deadline: Instant) -> Result<(), Lagging> {
        let lagging = || Lagging { applied: self.applied(), wanted: sequence };
        while self.applied() < sequence {
            let woken = self.inner.waiters.wait_for(sequence);
            if self.applied() >= sequence {
                break;
            }
            // A sender that is gone is looked after by the loop.
            if let Err(_elapsed) = tokio::time::timeout_at(deadline, woken).await {
                return Err(lagging());
            }
        }
        Ok(())
    }

    /// Shows what of our own was acknowledged.
    pub(crate) fn acknowledged(&self, rows: Vec<ReadRow>) {
        let entered = {
            let mut state = self.state_mut();
            if state.tail.is_full() {
                return;
            }
            state.acknowledged(rows)
        };
        self.entered(entered, false);
    }

    /// What was just applied is remembered for its readers, and whoever waits is woken.
    pub(crate) fn entered(&self, entered: Vec<ReadRow>, is_history: bool) {
        let Some(last) = entered.last().map(|read| read.row.sequence) else { return };
        for read in &entered {
            if matches!(read.event.kind, Kind::Erased | Kind::TenantDropped) {
                self.inner.reader.keyring.forget();
                self.inner.images.forget(&read.event.tenant);
                self.forget_snapshots();
            }
            let (row, event) = (&read.row, &read.event);
            self.inner.hot.learn(row.sequence, &event.kind, read.content.as_ref(), is_history);
        }
        // Two that apply at once may come here in the other order.
        self.inner.applied.send_if_modified(|applied| {
            let newer = *applied < last;
            *applied = last.max(*applied);
            newer
        });
        self.inner.waiters.wake(last);
    }

    /// Waits until everything is applied that stood in the log when this was called.
    pub async fn catch_up(&self, deadline: Instant) -> Result<(), Error> {
        let last = self.inner.last.ask().await?;
        Ok(self.wait_until(last, deadline).await?)
    }

    /// How far the directory is, asked of the log. One that does not hear the log any more lags behind it, however far it
    /// is.
    pub async fn readiness(&self) -> Result<Readiness, Error> {
        let last = self.inner.last.ask().await?;
        if self.stalled().is_some() {
            return Err(Lagging { applied: self.applied(), wanted: last }.into());
        }
        Ok(Readiness { applied: self.applied(), last })
    }

    /// A resource by its id.
    pub async fn resource(
        &self,
        tenant: &Tenant,
        resource_type: &str,
        id: ResourceId,
    ) -> Result<Option<Stored>, Error> {
        self.resource_at(tenant, resource_type, id, Moment::NOW).await
    }

    /// A resource as it was at a moment. Key, guard and claims are those of now.
    pub async fn resource_at(
        &self,
        tenant: &Tenant,
        resource_type: &str,
        id: ResourceId,
        moment: Moment,
    ) -> Result<Option<Stored>, Error> {
        let found = self.with(tenant, |directory| {
            let slot = directory.slot_at(id, moment.0);
            let slot = slot.filter(|slot| directory.type_at(*slot) == resource_type)?;
            Outline::of(directory, slot, moment.0)
        });
        match found.flatten() {
            Some(outline) => Ok(Some(self.read(tenant, outline).await?)),
            None => Ok(None),
        }
    }

    /// What is known of a key.
    pub fn key(&self, tenant: &Tenant, resource_type: &str, key: &Key) -> KeyState {
        self.with(tenant, |directory| directory.key(resource_type, key)).unwrap_or_default()
    }

    /// The type of a resource that exists.
    pub fn type_of(&self, tenant: &Tenant, id: ResourceId) -> Option<String> {
        self.with(tenant, |directory| Some(directory.type_at(directory.slot(id)?).to_string())).flatten()
    }

    /// Whether there is, or ever was, a resource with this id.
    pub fn was_there(&self, tenant: &Tenant, id: ResourceId) -> bool {
        self.with(tenant, |directory| directory.lives(id).next().is_some()).unwrap_or_default()
    }

    /// Whether a resource is a member of a group.
    pub fn has_member(&self, tenant: &Tenant, group: ResourceId, member: ResourceId) -> bool {
        self.with(tenant, |directory| match (directory.slot(group), directory.slot(member)) {
            (Some(group), Some(member)) => directory.edges().has(group, member, NOW),
            (None, _) | (_, None) => false,
        })
        .unwrap_or_default()
    }

    /// Whether what is derived for a resource may have changed after its version, so that a copy with the same version
    /// can differ.
    pub fn links_changed(&self, tenant: &Tenant, stored: &Stored) -> bool {
        let named = self.named(stored);
        let after = stored.version.sequence();
        self.with(tenant, |directory| directory.links_changed(stored.id, &named, after)).unwrap_or(true)
    }

    /// The members of a group, in the order of their creation.
    pub fn members(&self, tenant: &Tenant, group: ResourceId) -> Vec<ResourceId> {
        self.members_at(tenant, group, Moment::NOW)
    }

    /// The members that a group had at a moment, in the order of their creation.
    pub fn members_at(&self, tenant: &Tenant, group: ResourceId, moment: Moment) -> Vec<ResourceId> {
        self.neighbours(tenant, group, moment, |directory, slot| directory.edges().members(slot, moment.0))
    }

    /// How many direct members a group has.
    pub fn member_count(&self, tenant: &Tenant, group: ResourceId) -> usize {
        let count = |directory: &Directory| Some(directory.edges().member_count(directory.slot(group)?));
        self.with(tenant, count).flatten().unwrap_or_default()
    }

    /// The groups that a resource is a direct member of.
    pub fn groups_of(&self, tenant: &Tenant, member: ResourceId) -> Vec<ResourceId> {
        self.neighbours(tenant, member, Moment::NOW, |directory, slot| directory.edges().groups(slot, NOW))
    }

    /// Everybody whom a group holds now, by itself or through other groups, and those groups too.
    pub fn descendants(&self, tenant: &Tenant, group: ResourceId) -> Vec<ResourceId> {
        self.neighbours(tenant, group, Moment::NOW, |directory, slot| {
            directory.edges().descendants(slot, NOW)
        })
    }

    /// The groups that a resource was a member of at a moment, by itself (`true`) or through other groups.
    pub fn groups_at(&self, tenant: &Tenant, member: ResourceId, moment: Moment) -> Vec<(ResourceId, bool)> {
        self.with(tenant, |directory| {
            let Some(slot) = directory.slot_at(member, moment.0) else { return Vec::new() };
            let groups = directory.edges().ancestors(slot, moment.0);
            groups.into_iter().filter_map(|(slot, direct)| Some((directory.id(slot)?, direct))).collect()
        })
        .unwrap_or_default()
    }

    fn neighbours(
        &self,
        tenant: &Tenant,
        id: ResourceId,
        moment: Moment,
        of: impl Fn(&Directory, Slot) -> Vec<Slot>,
    ) -> Vec<ResourceId> {
        self.with(tenant, |directory| {
            let Some(slot) = directory.slot_at(id, moment.0) else { return Vec::new() };
            of(directory, slot).into_iter().filter_map(|slot| directory.id(slot)).collect()
        })
        .unwrap_or_default()
    }

    /// Every resource of a type, in the order of creation.
    pub fn ids(&self, tenant: &Tenant, resource_type: &str) -> Vec<ResourceId> {
        self.with(tenant, |directory| {
            let slots = directory.of_type(resource_type).into_iter().flat_map(|list| list.from(0));
            slots.filter(|slot| directory.exists(*slot, NOW)).filter_map(|slot| directory.id(slot)).collect()
        })
        .unwrap_or_default()
    }

    /// Every tenant, and how many resources of each type it has.
    pub fn counts(&self) -> BTreeMap<Tenant, BTreeMap<String, usize>> {
        let state = self.state();
        let types = self.inner.registry.resource_types();
        let count = |directory: &Directory| {
            types
                .iter()
                .map(|kind| (kind.name.clone(), directory.of_type(&kind.name).map_or(0, TypeList::total)))
                .collect()
        };
        state.tenants.iter().map(|(tenant, directory)| (tenant.clone(), count(directory))).collect()
    }

    /// About how much memory a tenant's directory takes, in bytes, part by part, and how many resources it holds, those
    /// that are gone included.
    pub fn memory(&self, tenant: &Tenant) -> (Vec<(&'static str, usize)>, usize) {
        let memory = |directory: &Directory| (directory.memory().to_vec(), directory.resource_count());
        self.with(tenant, memory).unwrap_or_default()
    }

    /// Says how much memory the directories take.
    pub(crate) fn tell_memory(&self) {
        let tenants: Vec<Tenant> = self.state().tenants.keys().cloned().collect();
        for tenant in tenants {
            let (parts, resources) = self.memory(&tenant);
            let total: usize = parts.iter().map(|(_, bytes)| bytes).sum();
            let each: Vec<String> =
                parts.iter().map(|(name, bytes)| format!("{name} {}", bytes / resources.max(1))).collect();
            tracing::info!(
                %tenant,
                resources,
                memory_mb = total / 1_000_000,
                bytes_per_resource = total / resources.max(1),
                parts = each.join(", "),
                "the directory in memory"
            );
        }
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with<T>(&self, tenant: &Tenant, ask: impl FnOnce(&Directory) -> T) -> Option<T> {
        self.state().tenants.get(tenant).map(ask)
    }

    /// Who had a key last, when that resource is gone and nobody has it now.
    pub async fn former(
        &self,
        tenant: &Tenant,
        resource_type: &str,
        key: &Key,
    ) -> Result<Option<Former>, Error> {
        let grave = self.with(tenant, |directory| directory.grave(resource_type, key)).flatten();
        let Some(grave) = grave else { return Ok(None) };
        let external_ids = (*self.content(tenant, grave.row).await?.external_ids).clone();
        let deleted = Timestamp::from_millisecond(grave.deleted_ms).unwrap_or_default();
        Ok(Some(Former { id: grave.id, deleted, external_ids }))
    }

    /// The document and the source that a resource began with.
    pub async fn beginning(
        &self,
        tenant: &Tenant,
        id: ResourceId,
    ) -> Result<Option<(String, Arc<Body>)>, Error> {
        let sequence = self.with(tenant, |directory| Some(directory.born(directory.slot(id)?)));
        let Some(sequence) = sequence.flatten() else { return Ok(None) };
        let (event, body) = self.opened(tenant, sequence).await?;
        Ok(Some((event.source, body.unwrap_or_default().into())))
    }
}
