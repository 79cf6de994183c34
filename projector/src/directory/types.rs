//! The resources of one type, in the order of their creation.

use super::edges::Slot;
use crate::table::Column;

/// Slots in a span, whose living are counted.
const SPAN: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct TypeList {
    /// Everyone that ever was of the type.
    pub(super) slots: Column<Slot>,
    /// How many of each span exist now.
    alive: Vec<u32>,
    total: usize,
}

impl TypeList {
    pub(super) fn push(&mut self, slot: Slot) {
        if self.slots.len().is_multiple_of(SPAN) {
            self.alive.push(0);
        }
        self.slots.push(slot);
        if let Some(alive) = self.alive.last_mut() {
            *alive += 1;
        }
        self.total += 1;
    }

    pub(super) fn end(&mut self, slot: Slot) {
        let index = self.slots.partition_point(|other| *other < slot) as usize;
        if let Some(alive) = self.alive.get_mut(index / SPAN) {
            *alive -= 1;
            self.total -= 1;
        }
    }

    /// How many exist now.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Everyone that ever was, from this slot on.
    pub(crate) fn from(&self, first: Slot) -> impl Iterator<Item = Slot> {
        let index = self.slots.partition_point(|other| *other < first);
        self.slots.from(index).map(|(_, slot)| *slot)
    }

    /// The first slot that can be the one after `count` that exist now, and how many of these are still to be passed.
    pub(crate) fn skip(&self, count: usize) -> (Slot, usize) {
        let (mut left, mut span) = (count, 0);
        for alive in &self.alive {
            let alive = *alive as usize;
            if left < alive {
                break;
            }
            left -= alive;
            span += 1;
        }
        let first = u32::try_from(span * SPAN).ok().and_then(|index| self.slots.get(index));
        (first.unwrap_or(Slot::MAX), left)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.bytes() + self.alive.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_spans_are_passed_at_once() {
        let mut list = TypeList::default();
        (0..5_000).for_each(|number| list.push(number * 2));
        (0..2_000).for_each(|number| list.end(number * 2));
        assert_eq!(list.total(), 3_000);
        let (first, left) = list.skip(10);
        let after = list.from(first).filter(|slot| *slot >= 4_000).nth(left);
        assert_eq!(after, Some(4_020));
        assert_eq!(list.skip(3_000), (Slot::MAX, 0));
        assert_eq!(list.from(9_999).next(), None);
        assert_eq!(list.from(4_001).next(), Some(4_002));
    }
}
