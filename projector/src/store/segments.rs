//! Rows' bytes, in files that only grow. A tree that held them would read and write whole pages of rows for each of them;
//! so it is told only where they stand, and stays small enough to be in memory.
//!
//! A record is a checksum, the row's sequence and its bytes. Nothing else knows where one begins: what no place names is
//! no row, however whole it looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};

use crate::row::Row;

/// From so many bytes on a segment is not continued.
pub(super) const SEGMENT_BYTES: u32 = if cfg!(test) { 1 << 20 } else { 256 << 20 };
/// What stands before a row: checksum and sequence.
const HEAD: usize = 12;
/// How a segment's name ends.
const ENDING: &str = "rows";
/// How much is read at once of records that follow one another.
const WINDOW_MIN: u32 = 16 << 10;
const WINDOW_MAX: u32 = 512 << 10;

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    offset: u32,
    pub(super) length: u32,
}

impl Place {
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let numbers = [self.segment, self.offset, self.length];
        for (four, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            four.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk::<4>()?;
        let (offset, rest) = rest.split_first_chunk::<4>()?;
        let [segment, offset, length] = [*segment, *offset, rest.try_into().ok()?].map(u32::from_be_bytes);
        Some(Self { segment, offset, length })
    }
}

/// Why a record was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// Its segment was given back: the record stands elsewhere by now, if it is still wanted.
    #[error("its segment is gone")]
    Gone,
    #[error("{0}")]
    Failed(#[from] io::Error),
    #[error("it is damaged")]
    Damaged,
}

/// Segments in use.
pub(super) struct Segments {
    folder: PathBuf,
    files: RwLock<BTreeMap<u32, Arc<File>>>,
    end: Mutex<End>,
}

/// Where the next record goes.
struct End {
    segment: u32,
    length: u32,
    /// Segments that were written and are not surely on disk.
    unsynced: BTreeSet<u32>,
}

impl Segments {
    /// Opens those of these lengths, and removes all others. Whoever finds one shorter has lost rows.
    pub(super) fn open(folder: &Path, lengths: &BTreeMap<u32, u32>) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut files = BTreeMap::new();
        for (number, length) in lengths {
            let path = path(folder, *number);
            let of_it = |reason: String| io::Error::other(format!("{}: {reason}", path.display()));
            let opened = File::options().read(true).write(true).open(&path);
            let file = opened.map_err(|error| of_it(error.to_string()))?;
            if file.metadata()?.len() < u64::from(*length) {
                return Err(of_it("it is shorter than it was".to_string()));
            }
            files.insert(*number, Arc::new(file));
        }
        for entry in std::fs::read_dir(folder)? {
            let found = entry?.path();
            let is_known = files.keys().any(|number| path(folder, *number) == found);
            if !is_known && found.extension().is_some_and(|ending| ending == ENDING) {
                std::fs::remove_file(found)?;
            }
        }
        let (segment, length) =
            lengths.last_key_value().map_or((0, SEGMENT_BYTES), |(n, length)| (*n, *length));
        let end = End { segment, length, unsynced: BTreeSet::new() };
        Ok(Self { folder: folder.to_path_buf(), files: RwLock::new(files), end: Mutex::new(end) })
    }

    /// Writes rows behind all others. They are there for whoever knows their places, and not yet surely on disk.
    pub(super) fn append<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> io::Result<Vec<Place>> {
        let (mut end, mut bytes, mut places) = (self.end(), Vec::new(), Vec::new());
        for row in rows {
            if end.length as usize + bytes.len() >= SEGMENT_BYTES as usize {
                self.write(&mut end, &mut bytes)?;
                self.begin(&mut end)?;
            }
            let start = bytes.len();
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&row.sequence.to_be_bytes());
            row.put(&mut bytes);
            let checksum = checksum(bytes.get(start + 4..).unwrap_or_default());
            bytes.iter_mut().skip(start).zip(checksum).for_each(|(byte, sum)| *byte = sum);
            let number = |number: usize| u32::try_from(number).map_err(io::Error::other);
            let (offset, length) = (end.length + number(start)?, number(bytes.len() - start)?);
            places.push(Place { segment: end.segment, offset, length });
        }
        self.write(&mut end, &mut bytes)?;
        Ok(places)
    }

    /// Writes what is gathered, or nothing of it.
    fn write(&self, end: &mut End, bytes: &mut Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let file = self.file(end.segment).ok_or_else(|| io::Error::other("the last segment is gone"))?;
        end.unsynced.insert(end.segment);
        if let Err(error) = file.write_all_at(bytes, end.length.into()) {
            // A part of it must not take the room that is missing.
            let _ = file.set_len(end.length.into());
            return Err(error);
        }
        end.length += u32::try_from(bytes.len()).map_err(io::Error::other)?;
        bytes.clear();
        Ok(())
    }

    fn begin(&self, end: &mut End) -> io::Result<()> {
        let number = end.segment + 1;
        let path = path(&self.folder, number);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(file));
        (end.segment, end.length) = (number, 0);
        end.unsynced.insert(number);
        Ok(())
    }

    /// Has all that was written on disk; says how long segments are that have grown.
    pub(super) fn sync(&self) -> io::Result<BTreeMap<u32, u32>> {
        let mut end = self.end();
        let mut lengths = BTreeMap::new();
        for number in &end.unsynced {
            let Some(file) = self.file(*number) else { continue };
            file.sync_data()?;
            let length = if *number == end.segment {
                end.length
            } else {
                u32::try_from(file.metadata()?.len()).map_err(io::Error::other)?
            };
            lengths.insert(*number, length);
        }
        if !lengths.is_empty() {
            // A file is there when its folder says so.
            File::open(&self.folder)?.sync_all()?;
        }
        end.unsynced.clear();
        Ok(lengths)
    }

    /// A row's bytes.
    pub(super) fn read(&self, place: Place, sequence: u64) -> Result<Bytes, Unread> {
        let mut bytes = vec![0; place.length as usize];
        self.file(place.segment).ok_or(Unread::Gone)?.read_exact_at(&mut bytes, place.offset.into())?;
        let bytes = Bytes::from(bytes);
        checked(&bytes, sequence)?;
        Ok(bytes.slice(HEAD..))
    }

    /// Reads records in the order in which they stand, mostly.
    pub(super) fn window(&self) -> Window<'_> {
        Window { segments: self, segment: 0, start: 0, bytes: Bytes::new() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The one that is written now.
    pub(super) fn last(&self) -> u32 {
        self.end().segment
    }

    /// Those before one of which less than half is used, by the bytes that are used of each, and how many these are.
    pub(super) fn spare(&self, used: &BTreeMap<u32, u64>, before: u32) -> io::Result<Vec<(u32, u64)>> {
        let mut spare = Vec::new();
        for (number, file) in &*self.files.read().unwrap_or_else(PoisonError::into_inner) {
            let used = used.get(number).copied().unwrap_or_default();
            if *number < before && used * 2 < file.metadata()?.len() {
                spare.push((*number, used));
            }
        }
        Ok(spare)
    }

    /// Removes segments. Nothing may name a place in them any more.
    pub(super) fn remove(&self, numbers: &BTreeSet<u32>) -> io::Result<()> {
        self.files
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|number, _| !numbers.contains(number));
        numbers.iter().try_for_each(|number| std::fs::remove_file(path(&self.folder, *number)))
    }

    fn file(&self, number: u32) -> Option<Arc<File>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a segment in memory.
pub(super) struct Window<'a> {
    segments: &'a Segments,
    segment: u32,
    start: u32,
    bytes: Bytes,
}

impl Window<'_> {
    /// A row's bytes, for which more is read than is asked for when records follow one another. They are a part of what was
    /// read, which stays in memory for as long as one of its rows does.
    pub(super) fn read(&mut self, place: Place, sequence: u64) -> Result<Bytes, Unread> {
        if self.held(place).is_none() {
            self.fetch(place)?;
        }
        let record = self.held(place).ok_or(Unread::Damaged)?;
        checked(&record, sequence)?;
        Ok(record.slice(HEAD..))
    }

    fn held(&self, place: Place) -> Option<Bytes> {
        let start = place.offset.checked_sub(self.start).filter(|_| place.segment == self.segment)? as usize;
        let record = self.bytes.get(start..start + place.length as usize)?;
        Some(self.bytes.slice_ref(record))
    }

    fn fetch(&mut self, place: Place) -> Result<(), Unread> {
        let file = self.segments.file(place.segment).ok_or(Unread::Gone)?;
        let before = u32::try_from(self.bytes.len()).unwrap_or(WINDOW_MAX);
        let goes_on = place.segment == self.segment
            && place.offset.checked_sub(self.start).is_some_and(|ahead| ahead <= 2 * before.max(WINDOW_MIN));
        let wanted = if goes_on { (before * 2).min(WINDOW_MAX) } else { WINDOW_MIN };
        // The room of what nobody has any more is used again.
        let mut bytes: BytesMut = std::mem::take(&mut self.bytes).try_into_mut().unwrap_or_default();
        bytes.resize(wanted.max(place.length) as usize, 0);
        (self.segment, self.start) = (place.segment, place.offset);
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, u64::from(place.offset) + length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(length);
        self.bytes = bytes.freeze();
        Ok(())
    }
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.{ENDING}"))
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32fast::hash(bytes).to_be_bytes()
}

/// Refuses a record that is not the row's, or not as it was written.
fn checked(record: &[u8], sequence: u64) -> Result<(), Unread> {
    let Some((sum, rest)) = record.split_first_chunk::<4>() else { return Err(Unread::Damaged) };
    let is_whole = rest.starts_with(&sequence.to_be_bytes()) && checksum(rest) == *sum;
    is_whole.then_some(()).ok_or(Unread::Damaged)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proto::ResourceId;
    use proto::subject::key_of_id;

    use super::*;

    fn row(sequence: u64, bytes: usize) -> Row {
        let payload: Vec<u8> = (0..bytes as u64).map(|at| (at * (at + sequence)) as u8).collect();
        let key = key_of_id(ResourceId::new(uuid::Uuid::from_u128(sequence.into())));
        Row { sequence, time: Timestamp::UNIX_EPOCH, key, payload: payload.into() }
    }

    #[track_caller]
    fn check(segments: &Segments, rows: &[Row], places: &[Place]) {
        let mut window = segments.window();
        for (row, place) in rows.iter().zip(places) {
            assert_eq!(segments.read(*place, row.sequence).unwrap(), row.to_bytes());
            assert_eq!(window.read(*place, row.sequence).unwrap(), row.to_bytes());
        }
    }

    #[test]
    fn a_place_has_twelve_bytes() {
        let place = Place { segment: 1, offset: 2 << 16, length: 3 << 8 };
        assert_eq!(place.to_bytes(), [0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 3, 0]);
        assert_eq!(Place::from_bytes(&place.to_bytes()), Some(place));
        for bytes in [&[0; 11][..], &[0; 13], &[]] {
            assert_eq!(Place::from_bytes(bytes), None);
        }
    }

    #[test]
    fn records_stand_in_segments_and_are_there_when_these_are_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Segments::open(folder.path(), &BTreeMap::new()).unwrap();
        let rows: Vec<Row> = (1..60).map(|number| row(number, 60_000 / (1 + number as usize % 3))).collect();
        let places: Vec<Place> =
            rows.chunks(7).flat_map(|rows| segments.append(rows.iter()).unwrap()).collect();
        check(&segments, &rows, &places);
        let lengths = segments.sync().unwrap();
        assert!(lengths.len() > 1 && segments.sync().unwrap().is_empty());
        let beyond = segments.append([row(99, 10)].iter()).unwrap()[0];
        drop(segments);
        std::fs::write(folder.path().join("00000099.rows"), b"of nobody").unwrap();
        let segments = Segments::open(folder.path(), &lengths).unwrap();
        check(&segments, &rows, &places);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), lengths.len());
        // What was not known to be on disk gives its place to what comes next.
        assert_eq!(segments.append([row(100, 10)].iter()).unwrap()[0], beyond);
        assert!(matches!(segments.read(beyond, 99), Err(Unread::Damaged)));
    }

    #[test]
    fn what_is_lost_or_damaged_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Segments::open(folder.path(), &BTreeMap::new()).unwrap();
        let rows: Vec<Row> = (1..10).map(|number| row(number, 1_000)).collect();
        let places = segments.append(rows.iter()).unwrap();
        let lengths = segments.sync().unwrap();
        let unread = |segments: &Segments, place: Place, sequence: u64| {
            let both = [segments.read(place, sequence), segments.window().read(place, sequence)];
            both.map(|read| read.unwrap_err().to_string())
        };
        assert_eq!(unread(&segments, places[3], 5), ["it is damaged"; 2]);
        let beside = Place { offset: places[3].offset + 1, ..places[3] };
        assert_eq!(unread(&segments, beside, 4), ["it is damaged"; 2]);
        assert_eq!(unread(&segments, Place { segment: 7, ..places[3] }, 4), ["its segment is gone"; 2]);
        let beyond = Place { length: 1 << 20, ..places[3] };
        assert!(segments.read(beyond, 4).is_err() && segments.window().read(beyond, 4).is_err());
        let path = folder.path().join("00000001.rows");
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 4, 11, 12, 40, places[3].length as usize - 1] {
            let mut bytes = whole.clone();
            bytes[places[3].offset as usize + at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(unread(&segments, places[3], 4), ["it is damaged"; 2], "{at}");
            assert!(segments.read(places[4], 5).is_ok());
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(Segments::open(folder.path(), &lengths).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(Segments::open(folder.path(), &lengths).is_err());
    }

    #[test]
    fn segments_of_which_little_is_used_are_spare_save_the_one_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Segments::open(folder.path(), &BTreeMap::new()).unwrap();
        for number in 1..5 {
            segments.append([row(number, SEGMENT_BYTES as usize)].iter()).unwrap();
        }
        let half = u64::from(SEGMENT_BYTES) / 2 + 100;
        let used = BTreeMap::from([(1, half), (2, half - 200)]);
        let spare = segments.spare(&used, segments.last()).unwrap();
        assert_eq!(spare, [(2, half - 200), (3, 0)]);
        segments.remove(&BTreeSet::from([2, 3])).unwrap();
        let place = Place { segment: 2, offset: 0, length: 100 };
        assert!(matches!(segments.read(place, 2), Err(Unread::Gone)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
