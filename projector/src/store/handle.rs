//! A folder in use, which can be closed and opened anew underneath its readers: sled keeps the first error of its disk and
//! writes nothing from then on, also when there is room again. Whoever reads meanwhile is told so, and reads the log.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::guarded::guarded;
use super::{Doubt, Facts, Unopened, Unusable, room};

/// How long whoever reads may take to let go of it, and it to end.
const CLOSE_MAX: Duration = Duration::from_secs(30);
/// How long its folder may stay locked after that.
const BUSY_MAX: Duration = Duration::from_secs(5);
const BUSY_DELAY: Duration = Duration::from_millis(20);

pub(crate) struct Handle {
    path: PathBuf,
    cache_bytes: u64,
    /// Nothing while it is closed.
    held: RwLock<Option<Arc<Held>>>,
    /// Ends when the last who used it let go of it.
    gone: Mutex<Receiver<()>>,
    /// Whether something could not be written since it was opened.
    failed: AtomicBool,
}

/// What was opened. What is first here goes first.
struct Held {
    folder: Folder,
    _gone: Sender<()>,
}

impl Handle {
    /// Opens the folder, or says why it cannot be used or trusted.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<(Self, Facts), Unopened> {
        let (folder, facts) = Folder::open(path, cache_bytes)?;
        let (held, gone) = Held::of(folder);
        let handle = Self {
            path: path.to_path_buf(),
            cache_bytes,
            held: RwLock::new(Some(held)),
            gone: Mutex::new(gone),
            failed: AtomicBool::new(false),
        };
        Ok((handle, facts))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is open and all that was to be written was.
    pub(super) fn is_whole(&self) -> bool {
        !self.failed.load(Ordering::Acquire) && self.held().is_some()
    }

    /// Reads. Damaged files make sled panic as well as fail.
    pub(super) fn read<T>(&self, ask: impl FnOnce(&Folder) -> Result<T, Doubt>) -> Result<T, Doubt> {
        let refused = |reason: &str| Doubt(format!("the store {reason}, until it can be opened anew"));
        let held = self.held().ok_or_else(|| refused("is closed"))?;
        if held.folder.is_lost() {
            return Err(refused("is not asked any more"));
        }
        guarded(|| ask(&held.folder)).unwrap_or_else(|| Err(Doubt("the store cannot be used".to_string())))
    }

    /// Writes. Once this failed, nothing is to be written before it was opened anew.
    pub(super) fn write<T>(&self, change: impl FnOnce(&Folder) -> Result<T, Doubt>) -> Result<T, Doubt> {
        let written = self.read(change);
        if written.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        written
    }

    /// Closes it if need be and opens it again, once there is room. What was flushed is there then, and of what was written
    /// since a beginning.
    pub(super) fn reopen(&self) -> Result<Facts, Unusable> {
        self.wake();
        room::find(&self.path)
            .map_err(|error| Unusable::NoRoom(Doubt(format!("there is no room: {error}"))))?;
        if self.held().is_some_and(|held| held.folder.is_lost()) {
            let reason = "the store failed in a way after which it cannot be closed";
            return Err(Unusable::Never(Doubt(reason.to_string())));
        }
        self.close()?;
        let begun = Instant::now();
        loop {
            match Folder::open(&self.path, self.cache_bytes) {
                Ok((folder, facts)) => {
                    let (held, gone) = Held::of(folder);
                    *self.gone.lock().unwrap_or_else(PoisonError::into_inner) = gone;
                    self.failed.store(false, Ordering::Release);
                    *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
                    return Ok(facts);
                }
                Err(Unopened::Busy) if begun.elapsed() < BUSY_MAX => std::thread::park_timeout(BUSY_DELAY),
                Err(Unopened::Busy) => {
                    return Err(Unusable::Later(Doubt("its folder is open elsewhere".to_string())));
                }
                Err(Unopened::Doubt(doubt)) => return Err(Unusable::Later(doubt)),
            }
        }
    }

    /// Wakes whoever waits within sled for what will never be written: sled does not always do so when it fails.
    pub(super) fn wake(&self) {
        if let Some(held) = self.held()
            && held.folder.is_stuck()
        {
            held.folder.wake();
        }
    }

    fn held(&self) -> Option<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has everybody let go of it; nothing to do when it is closed.
    fn close(&self) -> Result<(), Unusable> {
        let Some(held) = self.held.write().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        // On a thread of its own, since nobody can tell how long sled takes.
        let closing = std::thread::Builder::new().name("projection-closing".to_string());
        closing.spawn(move || guarded(move || drop(held)).is_none()).map_err(|error| {
            Unusable::Later(Doubt(format!("no thread can be started to close it: {error}")))
        })?;
        match self.gone.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(CLOSE_MAX) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                Err(Unusable::Never(Doubt("it does not let itself be closed".to_string())))
            }
        }
    }
}

impl Held {
    fn of(folder: Folder) -> (Arc<Self>, Receiver<()>) {
        let (sender, gone) = mpsc::channel();
        (Arc::new(Self { folder, _gone: sender }), gone)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Some(held) = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if held.folder.is_lost() {
            // Closing it could take for ever; the process that is about to end lets go of the folder.
            std::mem::forget(held);
        } else if guarded(move || drop(held)).is_none() {
            tracing::warn!(
                "the projection's store could not be written when it was closed; what it lacks is read from the log at the next start"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::Write;
    use std::process::Command;

    use bytes::Bytes;
    use jiff::Timestamp;
    use proto::subject::key_of_id;
    use proto::{EventId, Position, ResourceId, Tenant};

    use super::*;
    use crate::row::Row;

    const CACHE_BYTES: u64 = 8 << 20;
    /// More than fits on the disk.
    const LARGE: usize = 50 << 20;
    const TENANTS: usize = 20_000;

    /// A small disk of its own, gone when this is dropped; nothing where only root may mount and we are not root.
    struct Disk(tempfile::TempDir);

    impl Disk {
        fn mount() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let mount = ["-t", "tmpfs", "-o", "size=48m", "tmpfs"];
            let mounted = Command::new("mount").args(mount).arg(folder.path()).output();
            let mounted = mounted.is_ok_and(|output| output.status.success());
            let user = Command::new("id").arg("-u").output().unwrap().stdout;
            assert!(mounted || user != b"0\n", "root may mount, so this must not be passed over");
            mounted.then_some(Self(folder))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn fill(&self) {
            let mut ballast = File::create(self.path("ballast")).unwrap();
            for size in [1024 * 1024, 4096, 1] {
                while ballast.write_all(&vec![0; size]).is_ok() {}
            }
        }

        /// So much of a full disk.
        fn leave(&self, bytes: u64) {
            let ballast = File::options().write(true).open(self.path("ballast")).unwrap();
            let length = ballast.metadata().unwrap().len();
            ballast.set_len(length.checked_sub(bytes).unwrap()).unwrap();
        }

        fn make_room(&self) {
            std::fs::remove_file(self.path("ballast")).unwrap();
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        }
    }

    fn corp() -> Tenant {
        "corp".parse().unwrap()
    }

    fn row(sequence: u64, bytes: usize) -> Row {
        let payload = (0..bytes as u64).map(|at| (at * (at + sequence)) as u8).collect::<Vec<_>>();
        let key = key_of_id(ResourceId::new(uuid::Uuid::from_u128(sequence.into())));
        Row { sequence, time: Timestamp::UNIX_EPOCH, key, payload: Bytes::from(payload) }
    }

    fn write(
        handle: &Handle,
        facts: &Facts,
        sequences: std::ops::Range<u64>,
        bytes: usize,
    ) -> Result<Facts, Doubt> {
        let event = EventId::new(uuid::Uuid::from_u128(sequences.end.into()));
        let position = Position { sequence: sequences.end - 1, event };
        let rows = BTreeMap::from([(corp(), sequences.map(|sequence| row(sequence, bytes)).collect())]);
        let facts = facts.with(&rows, &BTreeMap::new(), position);
        handle.write(|folder| folder.write(&rows, &facts))?;
        handle.write(Folder::flush)?;
        Ok(facts)
    }

    #[test]
    fn what_was_flushed_is_there_after_it_was_opened_anew_and_more_can_be_written() {
        let Some(disk) = Disk::mount() else { return };
        let (handle, mut facts) = Handle::open(&disk.path("rows"), CACHE_BYTES).unwrap();
        let mut next = 1;
        for round in 0..12 {
            disk.fill();
            let (mut to, mut begun) = (next, 0);
            while let Ok(written) = write(&handle, &facts, to..to + 20, 500 + 137 * round) {
                (facts, to, begun) = (written, to + 20, begun + 1);
                assert!(begun < 1_000, "there is room");
            }
            assert!(matches!(handle.reopen(), Err(Unusable::NoRoom(_))));
            // Who reads what was flushed is answered, or told to read elsewhere.
            let is_there = facts.position.is_some();
            assert!(!is_there || !matches!(handle.read(|folder| folder.get(&corp(), 1)), Ok(None)));
            disk.make_room();
            let found = handle.reopen().unwrap();
            let sequence = |facts: &Facts| facts.position.map(|position| position.sequence);
            assert!(sequence(&found) >= sequence(&facts), "{found:?} lost {facts:?}");
            for _ in 0..10 {
                facts = write(&handle, &facts, to..to + 20, 500 + 137 * round).unwrap();
                to += 20;
            }
            for sequence in 1..to {
                let found = handle.read(|folder| folder.get(&corp(), sequence)).unwrap().unwrap();
                assert_eq!(found.payload, row(sequence, found.payload.len()).payload, "{sequence}");
            }
            next = to;
        }
        drop(handle);
        let (handle, found) = Handle::open(&disk.path("rows"), CACHE_BYTES).unwrap();
        assert_eq!((&found, found.rows[&corp()]), (&facts, next - 1));
        let mut sequences = Vec::new();
        let each = |row: Row| {
            sequences.push(row.sequence);
            true
        };
        handle.read(|folder| folder.range(&corp(), 0, u64::MAX, each)).unwrap();
        assert_eq!(sequences, (1..next).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_cannot_be_closed_says_so_and_holds_nobody_up() {
        let Some(disk) = Disk::mount() else { return };
        let (handle, facts) = Handle::open(&disk.path("rows"), CACHE_BYTES).unwrap();
        let facts = write(&handle, &facts, 1..20, 100).unwrap();
        disk.fill();
        // sled gives so long a value a file of its own. It has no room, and sled does not keep that error.
        let tenants = (0..TENANTS).map(|number| (format!("tenant-{number}").parse().unwrap(), Vec::new()));
        let facts = facts.with(&tenants.collect(), &BTreeMap::new(), facts.position.unwrap());
        let written = handle.write(|folder| folder.write(&BTreeMap::new(), &facts));
        assert!(written.and_then(|()| handle.write(Folder::flush)).is_err());
        disk.make_room();
        assert!(matches!(handle.reopen(), Err(Unusable::Never(_))));
        assert!(handle.read(|folder| folder.get(&corp(), 7)).is_err());
        drop(handle);
    }

    #[test]
    fn what_only_the_segments_could_not_take_hinders_nobody() {
        let Some(disk) = Disk::mount() else { return };
        let (handle, facts) = Handle::open(&disk.path("rows"), CACHE_BYTES).unwrap();
        let facts = write(&handle, &facts, 1..20, 100).unwrap();
        let rows = BTreeMap::from([(corp(), vec![row(20, LARGE)])]);
        assert!(handle.write(|folder| folder.write(&rows, &facts)).is_err());
        assert!(!handle.is_whole());
        assert!(handle.read(|folder| folder.get(&corp(), 7)).unwrap().is_some());
        assert_eq!(handle.reopen().unwrap(), facts);
        let facts = write(&handle, &facts, 20..40, 100).unwrap();
        drop(handle);
        let (handle, found) = Handle::open(&disk.path("rows"), CACHE_BYTES).unwrap();
        assert_eq!(found, facts);
        for sequence in 1..40 {
            let found = handle.read(|folder| folder.get(&corp(), sequence)).unwrap().unwrap();
            assert_eq!(found.payload, row(sequence, 100).payload);
        }
    }

    #[test]
    fn room_of_rows_that_were_removed_is_given_back_and_the_others_stay() {
        const SIZE: usize = 8_000;
        let folder = tempfile::tempdir().unwrap();
        let (handle, mut facts) = Handle::open(folder.path(), CACHE_BYTES).unwrap();
        for start in (1..401).step_by(20) {
            facts = write(&handle, &facts, start..start + 20, SIZE).unwrap();
        }
        let bytes = || -> u64 {
            let segments = std::fs::read_dir(folder.path().join("segments")).unwrap();
            segments.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
        };
        assert!(bytes() > 400 * SIZE as u64);
        // Of the first half every fourth row is left.
        let removed: Vec<u64> = (1..200).filter(|sequence| sequence % 4 != 0).collect();
        handle.write(|folder| folder.remove(&corp(), &removed)).unwrap();
        handle.write(|folder| folder.reclaim(&mut || true)).unwrap();
        assert!(bytes() < 320 * SIZE as u64, "{}", bytes());
        let there = |handle: &Handle| {
            for sequence in 1..401 {
                let found = handle.read(|folder| folder.get(&corp(), sequence)).unwrap();
                let expected = (!removed.contains(&sequence)).then(|| row(sequence, SIZE).payload);
                assert_eq!(found.map(|row| row.payload), expected, "{sequence}");
            }
        };
        there(&handle);
        drop(handle);
        let (handle, found) = Handle::open(folder.path(), CACHE_BYTES).unwrap();
        assert_eq!(found, facts);
        there(&handle);
        write(&handle, &facts, 401..411, SIZE).unwrap();
        there(&handle);
        handle.write(|folder| folder.drop_before(&corp(), 405)).unwrap();
        handle.write(|folder| folder.reclaim(&mut || true)).unwrap();
        assert!(bytes() < 2 << 20, "{}", bytes());
    }

    #[test]
    fn room_that_cannot_be_given_back_since_there_is_none_is_given_back_later() {
        let Some(disk) = Disk::mount() else { return };
        let (handle, facts) = Handle::open(&disk.path("rows"), CACHE_BYTES).unwrap();
        let facts = write(&handle, &facts, 1..1_201, 8_000).unwrap();
        let removed: Vec<u64> = (1..1_000).filter(|sequence| sequence % 3 != 0).collect();
        handle.write(|folder| folder.remove(&corp(), &removed)).unwrap();
        handle.write(Folder::flush).unwrap();
        let segments = || std::fs::read_dir(disk.path("rows/segments")).unwrap().count();
        let there = |handle: &Handle| {
            for sequence in 1..1_201 {
                let found = handle.read(|folder| folder.get(&corp(), sequence)).unwrap();
                let expected =
                    removed.binary_search(&sequence).is_err().then(|| row(sequence, 8_000).payload);
                assert_eq!(found.map(|row| row.payload), expected, "{sequence}");
            }
        };
        let before = segments();
        for _ in 0..3 {
            disk.fill();
            let now = segments();
            assert!(!handle.write(|folder| folder.reclaim(&mut || true)).unwrap());
            assert!(handle.is_whole() && segments() <= now);
            disk.make_room();
            // Others take it while rows are moved.
            let mut fills = || {
                disk.fill();
                true
            };
            assert!(handle.write(|folder| folder.reclaim(&mut fills)).is_err());
            assert!(!handle.is_whole());
            disk.make_room();
            assert_eq!(handle.reopen().unwrap(), facts);
            there(&handle);
        }
        assert!(handle.write(|folder| folder.reclaim(&mut || true)).unwrap());
        there(&handle);
        drop(handle);
        let (handle, found) = Handle::open(&disk.path("rows"), CACHE_BYTES).unwrap();
        assert_eq!(found, facts);
        there(&handle);
        assert!(segments() < before);
    }

    /// Else whoever thins history for want of room would have none at all.
    #[test]
    fn room_is_given_back_bit_by_bit() {
        let Some(disk) = Disk::mount() else { return };
        let (handle, facts) = Handle::open(&disk.path("rows"), CACHE_BYTES).unwrap();
        write(&handle, &facts, 1..4_401, 8_000).unwrap();
        let removed: Vec<u64> = (1..4_200).filter(|sequence| sequence % 3 != 0).collect();
        handle.write(|folder| folder.remove(&corp(), &removed)).unwrap();
        handle.write(Folder::flush).unwrap();
        disk.fill();
        // What is left of them is more than what the disk has for them.
        let kept = (4_200 - removed.len()) * 8_000;
        disk.leave(kept as u64 - 1_000_000);
        assert!(handle.write(|folder| folder.reclaim(&mut || true)).unwrap());
        let segments = std::fs::read_dir(disk.path("rows/segments")).unwrap().count();
        assert!(segments < 18, "{segments}");
        for sequence in 1..4_401 {
            let found = handle.read(|folder| folder.get(&corp(), sequence)).unwrap();
            assert_eq!(found.is_some(), removed.binary_search(&sequence).is_err(), "{sequence}");
        }
    }

    #[test]
    fn a_damaged_row_keeps_its_segment_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (handle, facts) = Handle::open(folder.path(), CACHE_BYTES).unwrap();
        write(&handle, &facts, 1..401, 8_000).unwrap();
        let left = [10, 150, 390];
        let removed: Vec<u64> = (1..401).filter(|sequence| !left.contains(sequence)).collect();
        handle.write(|folder| folder.remove(&corp(), &removed)).unwrap();
        let segment = |number: u32| folder.path().join(format!("segments/{number:08}.rows"));
        let mut bytes = std::fs::read(segment(1)).unwrap();
        bytes[8_100 * 9 + 4_000] ^= 1;
        std::fs::write(segment(1), bytes).unwrap();
        handle.write(|folder| folder.reclaim(&mut || true)).unwrap();
        assert!(segment(1).exists() && !segment(2).exists());
        let found = left.map(|sequence| handle.read(|folder| folder.get(&corp(), sequence)).is_ok());
        assert_eq!(found, [false, true, true]);
    }

    #[test]
    fn whoever_asks_while_it_is_closed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (handle, facts) = Handle::open(folder.path(), CACHE_BYTES).unwrap();
        let facts = write(&handle, &facts, 1..20, 100).unwrap();
        handle.close().unwrap();
        assert!(!handle.is_whole() && handle.read(|folder| folder.get(&corp(), 7)).is_err());
        assert_eq!(handle.reopen().unwrap(), facts);
        assert!(handle.is_whole() && handle.read(|folder| folder.get(&corp(), 7)).unwrap().is_some());
    }
}
