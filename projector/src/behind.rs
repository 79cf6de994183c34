//! The thread that writes behind: rows, and now and then an image of each directory. A large image is written by a thread
//! of its own, one at a time, so that rows need not wait for it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proto::Tenant;

use crate::directory::{Directory, Image};
use crate::mend::Broken;
use crate::store::{Doubt, Facts};
use crate::writer::{WRITE_INTERVAL, write_all};
use crate::{Error, Projection};

/// An image is written when so many rows came and there are three times as many, and after a while when a sixteenth came.
const ROWS_MIN: u64 = 20_000;
const IMAGE_INTERVAL: Duration = Duration::from_secs(60);
/// Between two attempts to write one that must be there.
const MISSING_INTERVAL: Duration = Duration::from_secs(1);
/// An image of so many rows takes long enough that rows would wait for it.
const ASIDE_FROM: u64 = 20_000;
/// After what could not be tidied up, how long to leave it.
const TIDY_DELAY: Duration = Duration::from_secs(60);
/// At the end, so many rows, or a fiftieth of all, are worth an image.
const END_ROWS_MIN: u64 = 1_000;
/// So are so many values that were put in order since.
const END_WAITING_MIN: usize = 10_000;

pub(crate) struct Behind {
    pub(crate) projection: Projection,
    pub(crate) runtime: tokio::runtime::Handle,
    /// What is true of the rows that are on disk.
    pub(crate) facts: Facts,
    /// Since writing failed: nothing is written until the store was opened anew.
    pub(crate) broken: Option<Broken>,
    images: BTreeMap<Tenant, Tried>,
    /// When rows that nobody needs may be removed, and their room be given back.
    tidy: Instant,
    /// Who writes an image just now.
    writing: Option<JoinHandle<()>>,
}

/// An image that may be written: its rows are on disk.
struct Due {
    projection: Projection,
    runtime: tokio::runtime::Handle,
    tenant: Tenant,
    image: Image,
    /// How often images were forgotten before it was taken.
    forgotten: u64,
}

/// When an image was written or tried to be.
#[derive(Clone, Copy)]
struct Tried {
    when: Instant,
    /// How many rows there were.
    rows: u64,
    /// How often images were forgotten before.
    forgotten: u64,
    /// How many values were not in order: whoever opens it has to sort them.
    waiting: usize,
}

impl Behind {
    pub(crate) fn new(projection: Projection, runtime: tokio::runtime::Handle, facts: Facts) -> Self {
        let (images, tidy) = (BTreeMap::new(), Instant::now());
        Self { projection, runtime, facts, broken: None, images, tidy, writing: None }
    }

    /// Writes until told to stop, or until only another process can.
    pub(crate) fn run(mut self, stopped: &Receiver<()>) -> Result<(), Error> {
        let mut rest = WRITE_INTERVAL;
        loop {
            let ends = !matches!(stopped.recv_timeout(rest), Err(RecvTimeoutError::Timeout));
            let before = self.facts.position;
            if !ends {
                self.mend()?;
            }
            self.write_rows();
            rest = rest_after(self.facts.position != before, self.projection.state().tail.is_long());
            self.write_images(ends);
            if ends {
                return Ok(());
            }
            self.thin(stopped);
            self.reclaim(stopped);
        }
    }

    fn write_rows(&mut self) {
        if self.broken.is_some_and(|broken| broken.is_waiting()) {
            return;
        }
        let before = self.facts.position;
        let written = write_all(&self.projection, &mut self.facts);
        if self.facts.position != before {
            self.goes_on();
        }
        match written {
            Ok(()) => self.is_whole(),
            Err(doubt) => self.breaks(&doubt),
        }
    }

    /// Thins history if that was asked for, or goes on where somebody was stopped who did.
    fn thin(&mut self, stopped: &Receiver<()>) {
        let inner = self.projection.inner.clone();
        let floor = inner.thin_to.load(Ordering::Acquire).max(self.facts.floor);
        let is_due = floor > self.facts.floor || self.facts.thinning_from.is_some();
        let is_stored = self.facts.position.is_some_and(|position| position.sequence >= floor);
        if !is_due || !is_stored || !inner.images.is_used() || !self.may_tidy() {
            return;
        }
        let tenants: Vec<Tenant> = self.projection.state().tenants.keys().cloned().collect();
        for tenant in &tenants {
            // Of what is thinned only an image that is as new as the floor can tell; most are.
            let newest = self.projection.with(tenant, Directory::applied).unwrap_or_default();
            if inner.images.applied(tenant) < floor.min(newest) {
                self.end_writing();
                if let Some(due) = self.take_image(tenant) {
                    due.write();
                }
            }
            if inner.images.applied(tenant) < floor.min(newest) {
                return;
            }
        }
        let raised = self.projection.raise_floor(&mut self.facts, floor);
        let (projection, from) = (self.projection.clone(), self.facts.thinning_from);
        let mut goes_on = || self.goes_on_tidying(stopped);
        let from_to = (from.unwrap_or(floor), floor);
        let removed = raised.and_then(|()| projection.remove_spare(from_to, &mut goes_on));
        let told = match removed {
            Ok(true) if self.broken.is_none() => {
                self.facts.thinning_from = None;
                self.tell_facts()
            }
            removed => removed.map(drop),
        };
        if let Err(doubt) = told {
            self.facts.thinning_from = from;
            tracing::error!(error = %doubt, "history cannot be thinned; trying again later");
            self.leaves_it(&doubt);
        }
    }

    /// Gives back the room of rows that were removed, unless told to stop: then the next start goes on.
    fn reclaim(&mut self, stopped: &Receiver<()>) {
        if !self.facts.reclaims || !self.may_tidy() {
            return;
        }
        let (inner, dropped) = (self.projection.inner.clone(), self.facts.dropped.clone());
        let reclaimed = inner.store.reclaim(&mut || self.goes_on_tidying(stopped));
        // A tenant that was dropped meanwhile has left more.
        let told = match reclaimed {
            Ok(true) if self.broken.is_none() && self.facts.dropped == dropped => {
                self.facts.reclaims = false;
                self.tell_facts()
            }
            Ok(all) => {
                // There was no room for it, if nobody stopped it.
                self.tidy = if all { self.tidy } else { Instant::now() + TIDY_DELAY };
                Ok(())
            }
            Err(doubt) => Err(doubt),
        };
        if let Err(doubt) = told {
            self.facts.reclaims = true;
            tracing::error!(error = %doubt, "the room of removed rows is not given back; trying again later");
            self.leaves_it(&doubt);
        }
    }

    /// Writes what came meanwhile; whether to go on with what nobody waits for.
    fn goes_on_tidying(&mut self, stopped: &Receiver<()>) -> bool {
        self.write_rows();
        matches!(stopped.try_recv(), Err(TryRecvError::Empty))
    }

    /// Rows that come next would write other facts if these were lost.
    fn tell_facts(&self) -> Result<(), Doubt> {
        let inner = &self.projection.inner;
        let tell = || inner.store.write(&BTreeMap::new(), &self.facts).and_then(|()| inner.store.flush());
        inner.stall.during(tell)
    }

    fn may_tidy(&self) -> bool {
        self.broken.is_none() && Instant::now() >= self.tidy
    }

    /// What nobody waits for could not be done.
    fn leaves_it(&mut self, doubt: &Doubt) {
        self.tidy = Instant::now() + TIDY_DELAY;
        self.breaks(doubt);
    }

    /// Writes the images that are due: reading what came after one takes time at the next start.
    fn write_images(&mut self, ends: bool) {
        if !self.projection.inner.images.is_used() {
            return;
        }
        if ends {
            self.end_writing();
        } else if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        // Where rows have no room an image has none.
        if self.broken.is_some() {
            return;
        }
        let rows = |(tenant, directory): (&Tenant, &Directory)| {
            (tenant.clone(), directory.rows_applied(), directory.waiting())
        };
        let tenants: Vec<(Tenant, u64, usize)> = self.projection.state().tenants.iter().map(rows).collect();
        for (tenant, rows, waiting) in tenants {
            let images = &self.projection.inner.images;
            let forgotten = images.forgotten(&tenant);
            let begin = || Tried { when: Instant::now(), rows: images.rows(&tenant), forgotten, waiting: 0 };
            let tried = self.images.entry(tenant.clone()).or_insert_with(begin);
            if tried.forgotten != forgotten {
                *tried = begin();
            }
            let since = rows.saturating_sub(tried.rows);
            let is_due = if ends {
                is_worth_it_at_end(since, rows, tried.waiting, waiting)
            } else {
                let is_time = tried.when.elapsed() >= IMAGE_INTERVAL;
                since >= ROWS_MIN.max(if is_time { rows / 16 } else { 2 * tried.rows })
            };
            // Of thinned history nothing but an image can tell.
            let is_missing = self.facts.floor > 0 && images.rows(&tenant) == 0;
            if is_due || (is_missing && (ends || tried.when.elapsed() >= MISSING_INTERVAL)) {
                *tried = Tried { when: Instant::now(), rows, forgotten, waiting };
                let Some(due) = self.take_image(&tenant) else { continue };
                if ends || rows < ASIDE_FROM {
                    due.write();
                    continue;
                }
                self.write_aside(due);
                return;
            }
        }
    }

    /// Waits for whoever writes an image.
    fn end_writing(&mut self) {
        if let Some(writing) = self.writing.take()
            && writing.join().is_err()
        {
            tracing::error!("who wrote an image of the projection panicked; the next start reads rows");
        }
    }

    /// Writes an image on a thread of its own.
    fn write_aside(&mut self, due: Due) {
        let named = std::thread::Builder::new().name("projection-image".to_string());
        match named.spawn(move || due.write()) {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => tracing::error!(%error, "no thread can be started to write an image"),
        }
    }

    /// An image that may be written; nothing when it may not be now.
    fn take_image(&mut self, tenant: &Tenant) -> Option<Due> {
        let inner = self.projection.inner.clone();
        let forgotten = inner.images.forgotten(tenant);
        let taken = {
            let state = self.projection.state();
            state.tenants.get(tenant).map(|directory| (Image::of(directory), state.corrections))
        };
        let (image, corrections) = taken?;
        // No image may know more than the rows that are on disk.
        self.write_rows();
        if self.facts.position.is_none_or(|position| position.sequence < image.applied()) {
            return None;
        }
        if let Err(doubt) = inner.stall.during(|| inner.store.sync()) {
            self.breaks(&doubt);
            return None;
        }
        // What is written is confirmed, and with it the times in the image, unless one was belied meanwhile.
        if self.projection.state().corrections != corrections {
            return None;
        }
        let (projection, runtime) = (self.projection.clone(), self.runtime.clone());
        Some(Due { projection, runtime, tenant: tenant.clone(), image, forgotten })
    }
}

impl Due {
    /// Writes the image. That it cannot be is said, and no more: the next start reads rows instead.
    fn write(self) {
        let Self { projection, runtime, tenant, image, forgotten } = self;
        let (inner, begun) = (&projection.inner, Instant::now());
        let key = runtime.block_on(inner.reader.keyring.tenant_key(&tenant));
        let indexes = inner.reader.indexes.fingerprint();
        let written = key
            .map_err(std::io::Error::other)
            .and_then(|key| inner.images.write(&tenant, &image, indexes, &key, forgotten));
        match written {
            Ok(()) => {
                let (rows, duration_ms) = (image.rows(), begun.elapsed().as_millis());
                tracing::debug!(%tenant, rows, duration_ms, "an image of the projection is written");
            }
            Err(error) => {
                tracing::error!(%tenant, %error, "an image of the projection cannot be written; the next start reads its rows");
            }
        }
    }
}

/// How long to rest after rows were written or not: not at all while much waits, unless nothing can be written, since the
/// disk is full or the log does not confirm what was shown from its acknowledgement.
fn rest_after(wrote: bool, much_waits: bool) -> Duration {
    if wrote && much_waits { Duration::ZERO } else { WRITE_INTERVAL }
}

/// Whether a last image saves the next start enough: rows that came since, or values that were put in order since.
fn is_worth_it_at_end(since: u64, rows: u64, waited: usize, waiting: usize) -> bool {
    since >= END_ROWS_MIN.max(rows / 50) || waited > waiting + END_WAITING_MIN
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::row::Row;
    use crate::state::Told;
    use crate::{Storage, writer};

    fn row(sequence: u64, bytes: usize) -> Row {
        let key = proto::subject::key_of_id(proto::ResourceId::new(uuid::Uuid::from_u128(sequence.into())));
        Row { sequence, time: jiff::Timestamp::UNIX_EPOCH, key, payload: vec![0; bytes].into() }
    }

    #[tokio::test]
    async fn the_room_of_removed_rows_is_given_back_when_that_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let projection = writer::tests::projection_in(Storage::Folder(folder.path().to_path_buf())).await;
        let inner = projection.inner.clone();
        let corp: Tenant = "corp".parse().unwrap();
        let rows = BTreeMap::from([(corp.clone(), (1..60).map(|sequence| row(sequence, 100_000)).collect())]);
        let event = proto::EventId::new(uuid::Uuid::from_u128(1));
        let position = proto::Position { sequence: 59, event };
        let facts = Facts::default().with(&rows, &BTreeMap::new(), position);
        inner.store.write(&rows, &facts).unwrap();
        inner.store.remove(&corp, &(1..50).collect::<Vec<_>>()).unwrap();
        let segments = || std::fs::read_dir(folder.path().join("segments")).unwrap().count();
        let mut behind = Behind::new(projection, tokio::runtime::Handle::current(), facts);
        let before = segments();
        let (_stop, stopped) = mpsc::channel();
        behind.reclaim(&stopped);
        assert_eq!(segments(), before, "nothing is due");
        behind.facts.reclaims = true;
        behind.reclaim(&stopped);
        assert!(segments() < before && behind.broken.is_none());
        assert!(!behind.facts.reclaims && !inner.store.facts().unwrap().reclaims);
        for sequence in 50..60 {
            assert!(inner.store.get(&corp, sequence).unwrap().is_some(), "{sequence}");
        }
    }

    #[tokio::test]
    async fn whoever_is_told_to_stop_leaves_the_room_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let projection = writer::tests::projection_in(Storage::Folder(folder.path().to_path_buf())).await;
        let inner = projection.inner.clone();
        let corp: Tenant = "corp".parse().unwrap();
        let rows =
            BTreeMap::from([(corp.clone(), (1..6_000).map(|sequence| row(sequence, 1_000)).collect())]);
        let event = proto::EventId::new(uuid::Uuid::from_u128(1));
        let position = proto::Position { sequence: 5_999, event };
        let facts = Facts::default().with(&rows, &BTreeMap::new(), position);
        inner.store.write(&rows, &facts).unwrap();
        let removed: Vec<u64> = (1..4_500).filter(|sequence| sequence % 3 != 0).collect();
        inner.store.remove(&corp, &removed).unwrap();
        let segments = || std::fs::read_dir(folder.path().join("segments")).unwrap().count();
        let before = segments();
        let mut behind = Behind::new(projection, tokio::runtime::Handle::current(), facts);
        behind.facts.reclaims = true;
        let (stop, stopped) = mpsc::channel();
        drop(stop);
        behind.reclaim(&stopped);
        assert!(behind.facts.reclaims && segments() >= before && behind.tidy > Instant::now());
        let (_stop, stopped) = mpsc::channel();
        behind.tidy = Instant::now();
        behind.reclaim(&stopped);
        assert!(!behind.facts.reclaims && segments() < before);
        for sequence in 1..6_000 {
            let is_there = inner.store.get(&corp, sequence).unwrap().is_some();
            assert_eq!(is_there, removed.binary_search(&sequence).is_err(), "{sequence}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_is_killed_while_history_is_thinned_goes_on_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let projection = writer::tests::projection_in(Storage::Folder(folder.path().to_path_buf())).await;
        let (inner, corp) = (projection.inner.clone(), "corp".parse::<Tenant>().unwrap());
        // Somebody who changes again and again.
        let told = (1..40).map(|sequence| {
            let (added, removed) = (Vec::new(), Vec::new());
            let kind = match sequence {
                1 => proto::Kind::Created { members_added: added },
                _ => proto::Kind::Updated { members_added: added, members_removed: removed },
            };
            let told = writer::tests::told(&corp, sequence, kind, Vec::new());
            let Told::New { mut read, broker, own } = told else { unreachable!("it is new") };
            read.event.resource_id = proto::ResourceId::new(uuid::Uuid::from_u128(1));
            Told::New { read, broker, own }
        });
        projection.state_mut().hear(told.collect(), true).unwrap();
        let runtime = tokio::runtime::Handle::current();
        let mut facts = Facts::default();
        write_all(&projection, &mut facts).unwrap();
        let there =
            || (1..40).filter(|at| inner.store.get(&corp, *at).unwrap().is_some()).collect::<Vec<_>>();
        projection.raise_floor(&mut facts, 30).unwrap();
        assert_eq!(there().len(), 39);
        // It was killed; this is what the next one finds.
        let mut behind = Behind::new(projection, runtime, inner.store.facts().unwrap());
        let behind = tokio::task::spawn_blocking(move || {
            let (stop, stopped) = mpsc::channel();
            drop(stop);
            behind.thin(&stopped);
            assert_eq!(
                (behind.facts.floor, behind.facts.thinning_from),
                (30, Some(0)),
                "it was told to stop"
            );
            let (_stop, stopped) = mpsc::channel();
            behind.thin(&stopped);
            behind
        });
        let behind = behind.await.unwrap();
        assert_eq!(there(), [vec![1], (30..40).collect()].concat());
        let facts = inner.store.facts().unwrap();
        assert_eq!((facts.floor, facts.thinning_from, facts.reclaims), (30, None, true));
        assert_eq!(behind.facts, facts);
    }

    #[tokio::test]
    async fn thinned_history_has_its_room_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let projection = writer::tests::projection_in(Storage::Folder(folder.path().to_path_buf())).await;
        let inner = projection.inner.clone();
        let event = proto::EventId::new(uuid::Uuid::from_u128(1));
        let position = proto::Position { sequence: 5, event };
        let facts = Facts::default().with(&BTreeMap::new(), &BTreeMap::new(), position);
        let mut behind = Behind::new(projection, tokio::runtime::Handle::current(), facts);
        let (_stop, stopped) = mpsc::channel();
        behind.thin(&stopped);
        assert!(!behind.facts.reclaims, "nothing was thinned");
        inner.thin_to.store(3, Ordering::Release);
        behind.thin(&stopped);
        assert_eq!((behind.facts.floor, behind.facts.reclaims, behind.projection.floor()), (3, true, 3));
    }

    #[test]
    fn who_cannot_write_rests_however_much_waits() {
        assert_eq!(rest_after(true, true), Duration::ZERO);
        for (wrote, much_waits) in [(false, true), (true, false), (false, false)] {
            assert_eq!(rest_after(wrote, much_waits), WRITE_INTERVAL);
        }
    }

    #[test]
    fn the_last_image_saves_the_next_start_rows_or_sorting() {
        let million = 1_000_000;
        assert!(!is_worth_it_at_end(19_999, million, 0, 0));
        assert!(is_worth_it_at_end(20_000, million, 0, 0));
        assert!(!is_worth_it_at_end(999, 2_000, 0, 0));
        assert!(is_worth_it_at_end(1_000, 2_000, 0, 0));
        // A history whose last image was taken shortly before its end was in order.
        assert!(is_worth_it_at_end(0, million, 6_000_000, 0));
        assert!(!is_worth_it_at_end(0, million, 6_000_000, 6_000_000));
        assert!(!is_worth_it_at_end(0, million, END_WAITING_MIN, 0));
    }
}
