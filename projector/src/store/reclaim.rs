//! Room of rows that were removed is given back: what is left in segments of which most was removed is moved to the end, and
//! they go. A few at a time, since until then it stands there twice, and whoever removes rows may do so for want of room.

use std::collections::{BTreeMap, BTreeSet};

use proto::Tenant;

use super::Doubt;
use super::folder::{Folder, entry_of, unwritten};
use super::room;
use super::segments::SEGMENT_BYTES;
use crate::row::Row;

/// Rows that are moved from one segment to another together, and their bytes, about.
const MOVED_MAX: usize = if cfg!(test) { 50 } else { 1000 };
const MOVED_BYTES_MAX: usize = 16 << 20;
/// Places that are counted before others are written.
const COUNTED: usize = 1 << 16;
/// What is moved before anything is given back: as much as a segment holds, or such a part of everything.
const ROUND_PART: u64 = 16;

/// Whoever does this asks now and then whether to go on.
type GoesOn<'a> = &'a mut dyn FnMut() -> bool;

impl Folder {
    /// Moves what is left in segments of which most was removed, and removes them. Rows may be written whenever it asks
    /// whether it is to go on. Returns whether all of them are gone.
    pub(super) fn reclaim(&self, goes_on: GoesOn<'_>) -> Result<bool, Doubt> {
        self.settle(&mut self.unsettled())?;
        let (last, mut damaged) = (self.segments.last(), BTreeSet::new());
        loop {
            let Some(used) = self.used(goes_on)? else { return Ok(false) };
            let mut spare = self.segments.spare(&used, last).map_err(unwritten)?;
            spare.retain(|(segment, _)| !damaged.contains(segment));
            if spare.is_empty() {
                return Ok(true);
            }
            let (round, bytes) = first_of(&spare, used.values().sum());
            if bytes > 0 && !self.has_room_for(bytes) {
                return Ok(false);
            }
            let Some(kept) = self.move_all_out(&round, goes_on)? else { return Ok(false) };
            self.give_back(&round.difference(&kept).copied().collect())?;
            damaged.extend(kept);
        }
    }

    /// How many bytes of each segment rows still have; nothing when it is not to go on.
    fn used(&self, goes_on: GoesOn<'_>) -> Result<Option<BTreeMap<u32, u64>>, Doubt> {
        let mut used: BTreeMap<u32, u64> = BTreeMap::new();
        for tenant in self.tenants() {
            for (number, entry) in self.tree(&tenant)?.iter().enumerate() {
                let (_, place) = entry_of(entry?)?;
                *used.entry(place.segment).or_default() += u64::from(place.length);
                if number % COUNTED == COUNTED - 1 && !goes_on() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(used))
    }

    /// Whether so much can be moved, and the store still be written afterwards.
    fn has_room_for(&self, bytes: u64) -> bool {
        let (folder, needed) = (self.segments.folder(), bytes + room::BYTES);
        let free = eventlog::server::free_bytes(folder);
        if free < needed {
            tracing::warn!(
                folder = %folder.display(),
                free_mb = free >> 20,
                needed_mb = needed >> 20,
                "there is no room to give back the room of rows that were removed; trying again later"
            );
        }
        free >= needed
    }

    /// Moves all that is in these segments. Returns those that must stay, because a row of them cannot be read; nothing when
    /// it is not to go on.
    fn move_all_out(
        &self,
        round: &BTreeSet<u32>,
        goes_on: GoesOn<'_>,
    ) -> Result<Option<BTreeSet<u32>>, Doubt> {
        let mut damaged = BTreeSet::new();
        for tenant in self.tenants() {
            if !self.move_out(&tenant, round, &mut damaged, goes_on)? {
                return Ok(None);
            }
        }
        Ok(Some(damaged))
    }

    /// Gives a tenant's rows that stand in these segments another place. Returns whether it came to its end.
    fn move_out(
        &self,
        tenant: &Tenant,
        round: &BTreeSet<u32>,
        damaged: &mut BTreeSet<u32>,
        goes_on: GoesOn<'_>,
    ) -> Result<bool, Doubt> {
        let (mut window, tree) = (self.segments.window(), self.tree(tenant)?);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for (number, entry) in tree.iter().enumerate() {
            let (sequence, place) = entry_of(entry?)?;
            // sled goes on with what it read at once, also when that was removed in between.
            if round.contains(&place.segment) && tree.contains_key(sequence.to_be_bytes())? {
                match window.read(place, sequence).ok().and_then(|bytes| Row::from_bytes(sequence, &bytes)) {
                    Some(row) => {
                        bytes += row.payload.len();
                        rows.push(row);
                    }
                    None => {
                        tracing::error!(%tenant, sequence, "a row is damaged in the projection, so the room around it is not given back");
                        damaged.insert(place.segment);
                    }
                }
            }
            let is_much = rows.len() >= MOVED_MAX || bytes >= MOVED_BYTES_MAX;
            if is_much || number % COUNTED == COUNTED - 1 {
                self.move_rows(tenant, &mut rows)?;
                bytes = 0;
                if !goes_on() {
                    return Ok(false);
                }
            }
        }
        self.move_rows(tenant, &mut rows)?;
        Ok(true)
    }

    fn move_rows(&self, tenant: &Tenant, rows: &mut Vec<Row>) -> Result<(), Doubt> {
        let mut unsettled = self.unsettled();
        let places = self.segments.append(rows.iter()).map_err(unwritten)?;
        let moved = rows.drain(..).map(|row| row.sequence).zip(places);
        unsettled.places.entry(tenant.clone()).or_default().extend(moved);
        self.settle(&mut unsettled)
    }

    /// Removes segments, once it is on disk where their rows are now.
    fn give_back(&self, segments: &BTreeSet<u32>) -> Result<(), Doubt> {
        self.told(|| {
            self.db.flush()?;
            for segment in segments {
                self.lengths.remove(segment.to_be_bytes())?;
            }
            Ok(())
        })?;
        self.sync()?;
        self.segments.remove(segments).map_err(unwritten)?;
        metrics::counter!("rollcall_projection_segments_reclaimed_total").increment(segments.len() as u64);
        Ok(())
    }
}

/// Those of which least is used, one at least, and how many bytes that is.
fn first_of(spare: &[(u32, u64)], all: u64) -> (BTreeSet<u32>, u64) {
    let bytes_max = u64::from(SEGMENT_BYTES).max(all / ROUND_PART);
    let mut in_order = spare.to_vec();
    in_order.sort_by_key(|(_, used)| *used);
    let (mut round, mut bytes) = (BTreeSet::new(), 0);
    for (segment, used) in in_order {
        // What is not used at all is given back whether there is room or not.
        let is_other = bytes == 0 && used > 0;
        if !round.is_empty() && (is_other || bytes + used > bytes_max) {
            break;
        }
        round.insert(segment);
        bytes += used;
    }
    (round, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spare: &[(u32, u64)], all: u64, expected: &[u32], bytes: u64) {
        assert_eq!(first_of(spare, all), (expected.iter().copied().collect(), bytes));
    }

    #[test]
    fn a_round_takes_the_emptiest_and_no_more_than_a_segment_or_a_sixteenth() {
        let segment = u64::from(SEGMENT_BYTES);
        check(&[(1, segment / 2 - 1), (2, 0), (3, 100), (4, 0)], segment, &[2, 4], 0);
        check(&[(1, segment / 2 - 1), (3, 100)], segment, &[1, 3], segment / 2 + 99);
        let thirds = [(1, segment / 3), (2, segment / 3), (3, segment / 3 - 1), (4, segment / 3)];
        check(&thirds, segment, &[1, 2, 3], segment / 3 * 3 - 1);
        check(&thirds, segment * 32, &[1, 2, 3, 4], segment / 3 * 4 - 1);
        check(&[(7, segment * 2)], segment, &[7], segment * 2);
    }
}
