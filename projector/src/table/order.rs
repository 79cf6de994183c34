//! Numbers in an order that their owner knows: blocks of a few hundred, so that one more costs a short move.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use super::{Column, Input, Output};

/// Numbers in a block; a fuller one is split.
const BLOCK: usize = 512;

/// How what a number stands for begins: it sorts as the whole does, where it differs.
pub(crate) type Beginning = u128;

/// The order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    blocks: Vec<Block>,
    len: usize,
}

/// Some numbers, and how the last of them begins: the right block is found without looking at what numbers stand for.
#[derive(Clone, Debug)]
struct Block {
    last: Beginning,
    numbers: Arc<Vec<u32>>,
    /// The mark of each of them, once somebody looked for one here.
    marks: OnceLock<Arc<Vec<Mark>>>,
}

/// What most texts differ by: those that cannot be equal need not be looked at.
pub(crate) type Mark = u8;

pub(crate) fn mark(text: &[u8]) -> Mark {
    // FNV-1a, of which the upper bits depend on every byte.
    let hash =
        text.iter().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash >> 24) as Mark
}

impl Block {
    fn of(last: Beginning, numbers: Vec<u32>) -> Self {
        Self { last, numbers: Arc::new(numbers), marks: OnceLock::new() }
    }
}

/// A place in an order: a block and a number in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    block: usize,
    within: usize,
}

impl Order {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The order of these numbers, which must be in order.
    pub(crate) fn of_sorted(numbers: &[u32], beginning: impl Fn(u32) -> Beginning) -> Self {
        // Not quite full: the next ones should find room.
        let block =
            |chunk: &[u32]| Block::of(chunk.last().map_or(0, |last| beginning(*last)), chunk.to_vec());
        Self { blocks: numbers.chunks(BLOCK * 3 / 4).map(block).collect(), len: numbers.len() }
    }

    /// The place of the first number that is not `before`: one that begins with less than `wanted` is before, one that
    /// begins with more is not, others are looked at.
    pub(crate) fn place(&self, wanted: Beginning, before: impl Fn(u32) -> bool) -> Place {
        self.within(self.block(wanted, &before), before)
    }

    /// The first block that holds a number which is not `before`.
    fn block(&self, wanted: Beginning, before: impl Fn(u32) -> bool) -> usize {
        self.blocks.partition_point(|block| match block.last.cmp(&wanted) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => block.numbers.last().is_some_and(|number| before(*number)),
        })
    }

    /// The numbers that stand for exactly this text, in their order. Of the others few are looked at.
    pub(crate) fn equal<'a>(
        &self,
        wanted: &[u8],
        begins: Beginning,
        text: impl Fn(u32) -> &'a [u8],
    ) -> Vec<u32> {
        let first = self.block(begins, |number| text(number) < wanted);
        let (sought, mut found) = (mark(wanted), Vec::new());
        for block in self.blocks.get(first..).unwrap_or_default() {
            let marks = || Arc::new(block.numbers.iter().map(|number| mark(text(*number))).collect());
            let marks = block.marks.get_or_init(marks);
            for at in memchr::memchr_iter(sought, marks) {
                found.extend(block.numbers.get(at).copied().filter(|number| text(*number) == wanted));
            }
            // Behind a block that ends with the same text more can come.
            let ends = |number: &u32| text(*number) <= wanted;
            if block.last > begins || !block.numbers.last().is_some_and(ends) {
                break;
            }
        }
        found
    }

    /// Whether the numbers that stand for exactly this text may be more than so many: whole blocks are counted, and mostly the first
    /// one tells.
    pub(crate) fn may_be_more<'a>(
        &self,
        most: usize,
        wanted: &[u8],
        begins: Beginning,
        text: impl Fn(u32) -> &'a [u8],
    ) -> bool {
        let first = self.block(begins, |number| text(number) < wanted);
        let mut count = 0;
        for block in self.blocks.get(first..).unwrap_or_default() {
            count += block.numbers.len();
            if block.last > begins || block.numbers.last().is_none_or(|number| text(*number) > wanted) {
                break;
            }
            if count > most {
                return true;
            }
        }
        count > most
    }

    /// The place of the first number that is not `before`, whatever it begins with.
    pub(crate) fn place_by(&self, before: impl Fn(u32) -> bool) -> Place {
        let block =
            self.blocks.partition_point(|block| block.numbers.last().is_some_and(|number| before(*number)));
        self.within(block, before)
    }

    fn within(&self, block: usize, before: impl Fn(u32) -> bool) -> Place {
        let numbers = self.blocks.get(block);
        let within = numbers.map_or(0, |block| block.numbers.partition_point(|number| before(*number)));
        Place { block, within }
    }

    /// The place before all numbers.
    pub(crate) fn begin(&self) -> Place {
        Place::default()
    }

    /// The place behind the last number.
    pub(crate) fn end(&self) -> Place {
        Place { block: self.blocks.len(), within: 0 }
    }

    /// How many numbers stand between two places.
    pub(crate) fn between(&self, from: Place, to: Place) -> usize {
        if to <= from {
            return 0;
        }
        let blocks = self.blocks.get(from.block..to.block).unwrap_or_default();
        blocks.iter().map(|block| block.numbers.len()).sum::<usize>() + to.within - from.within
    }

    /// Puts a number where it belongs, with the mark of its text; `order` compares another number with it.
    pub(crate) fn insert(
        &mut self,
        number: u32,
        mark: Mark,
        beginning: impl Fn(u32) -> Beginning,
        order: impl Fn(u32) -> Ordering,
    ) {
        let begins = beginning(number);
        let mut place = self.place(begins, |other| order(other).is_lt());
        self.len += 1;
        if place.block == self.blocks.len() {
            // Behind all others: a full block is left full, since ascending numbers come often.
            match self.blocks.last() {
                Some(last) if last.numbers.len() < BLOCK => {
                    place = Place { block: place.block - 1, within: last.numbers.len() };
                }
                Some(_) | None => {
                    self.blocks.push(Block::of(begins, vec![number]));
                    return;
                }
            }
        }
        let Some(block) = self.blocks.get_mut(place.block) else { return };
        let numbers = Arc::make_mut(&mut block.numbers);
        if let Some(marks) = block.marks.get_mut() {
            Arc::make_mut(marks).insert(place.within.min(numbers.len()), mark);
        }
        if place.within >= numbers.len() {
            block.last = begins;
        }
        numbers.insert(place.within.min(numbers.len()), number);
        if numbers.len() > BLOCK {
            let upper = numbers.split_off(BLOCK / 2);
            let mut upper = Block::of(block.last, upper);
            if let Some(marks) = block.marks.get_mut() {
                upper.marks = Arc::new(Arc::make_mut(marks).split_off(BLOCK / 2)).into();
            }
            block.last = numbers.last().map_or(0, |last| beginning(*last));
            self.blocks.insert(place.block + 1, upper);
        }
    }

    /// Takes a number out; `order` compares another number with it, and only with itself says that both are equal.
    pub(crate) fn remove(&mut self, order: impl Fn(u32) -> Ordering) -> bool {
        let place = self.place_by(|other| order(other).is_lt());
        let Some(block) = self.blocks.get_mut(place.block) else { return false };
        if !block.numbers.get(place.within).is_some_and(|other| order(*other).is_eq()) {
            return false;
        }
        let numbers = Arc::make_mut(&mut block.numbers);
        numbers.remove(place.within);
        if let Some(marks) = block.marks.get_mut() {
            Arc::make_mut(marks).remove(place.within);
        }
        if numbers.is_empty() {
            self.blocks.remove(place.block);
        }
        self.len -= 1;
        true
    }

    /// Numbers from one place to another.
    pub(crate) fn range(&self, from: Place, to: Place) -> impl DoubleEndedIterator<Item = u32> {
        let last = to.block.min(self.blocks.len().saturating_sub(1));
        let blocks = if from > to { &[][..] } else { self.blocks.get(from.block..=last).unwrap_or_default() };
        blocks.iter().enumerate().flat_map(move |(index, block)| {
            let block_number = from.block + index;
            let begin = if index == 0 { from.within } else { 0 };
            let end = if block_number == to.block { to.within } else { block.numbers.len() };
            block.numbers.get(begin..end).unwrap_or_default().iter().copied()
        })
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.blocks.iter().flat_map(|block| block.numbers.iter().copied())
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let marks = |block: &Block| block.marks.get().map_or(0, |marks| marks.capacity());
        let bytes = |block: &Block| block.numbers.capacity() * size_of::<u32>() + marks(block) + 100;
        self.blocks.iter().map(bytes).sum()
    }

    pub(crate) fn write(&self, output: &mut Output<'_>) {
        output.put(self.len as u64);
        for block in &self.blocks {
            block.numbers.iter().for_each(|number| output.put(*number));
            output.spill();
        }
    }

    pub(crate) fn read(input: &mut Input<'_>, beginning: impl Fn(u32) -> Beginning) -> Option<Self> {
        let column = Column::<u32>::read(input)?;
        let mut numbers = Vec::with_capacity(column.len());
        numbers.extend(column.iter().copied());
        Some(Self::of_sorted(&numbers, beginning))
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::tests::there_and_back;
    use super::*;

    #[test]
    fn it_is_a_sorted_list() {
        // Some begin alike.
        let begins = |number: u32| Beginning::from(number / 1_000_000);
        let (mut order, mut model) = (Order::default(), Vec::new());
        let mut number = 1_u32;
        for step in 0..5_000 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = if step < 1_000 { step * 100_000 } else { number };
            if let Err(at) = model.binary_search(&value) {
                model.insert(at, value);
                order.insert(value, 0, begins, |other| other.cmp(&value));
            }
            if step % 3 == 0 {
                let gone = model.remove(number as usize % model.len());
                assert!(order.remove(|other| other.cmp(&gone)));
                assert!(!order.remove(|other| other.cmp(&gone)));
            }
        }
        assert!(order.iter().eq(model.iter().copied()));
        assert_eq!(order.len(), model.len());
        for (low, high) in [(0, u32::MAX), (1 << 20, 1 << 30), (1 << 30, 1 << 20), (7, 7)] {
            let (from, to) =
                (order.place(begins(low), |other| other < low), order.place_by(|other| other < high));
            assert_eq!(
                order.range(order.place_by(|other| other < low), to).count(),
                order.range(from, to).count()
            );
            let expected: Vec<u32> =
                model.iter().copied().filter(|value| (low..high).contains(value)).collect();
            assert!(order.range(from, to).eq(expected.iter().copied()), "{low} {high}");
            assert!(order.range(from, to).rev().eq(expected.iter().rev().copied()));
            assert_eq!(order.between(from, to), expected.len());
        }
        assert_eq!(order.range(order.begin(), order.end()).count(), model.len());
        let read = there_and_back(|output| order.write(output), |input| Order::read(input, begins)).unwrap();
        assert!(read.iter().eq(model.iter().copied()));
    }
}
