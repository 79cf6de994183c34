//! A column of small values, addressed by their number.

use std::sync::Arc;

use super::{Input, Output};

/// Values in a piece.
const PIECE: usize = 1 << 13;

/// A value of a fixed number of bytes.
pub(crate) trait Plain: Copy {
    /// How many.
    const BYTES: usize;
    /// Appends them.
    fn put(self, bytes: &mut Vec<u8>);
    /// Reads them from the front of a slice; nothing when there are too few.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! plain_number {
    ($($number:ty),*) => {$(
        impl Plain for $number {
            const BYTES: usize = size_of::<Self>();

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*head))
            }
        }
    )*};
}

plain_number!(u8, u16, u32, u64, i64);

impl<const N: usize> Plain for [u8; N] {
    const BYTES: usize = N;

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*head)
    }
}

/// Makes a struct of plain values plain.
macro_rules! plain_struct {
    ($name:ident { $($field:ident : $kind:ty),* $(,)? }) => {
        impl $crate::table::Plain for $name {
            const BYTES: usize = 0 $(+ <$kind as $crate::table::Plain>::BYTES)*;

            fn put(self, bytes: &mut Vec<u8>) {
                $(self.$field.put(bytes);)*
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                $(let $field = <$kind as $crate::table::Plain>::take(bytes)?;)*
                Some(Self { $($field),* })
            }
        }
    };
}
pub(crate) use plain_struct;

/// The column.
#[derive(Clone, Debug)]
pub(crate) struct Column<T> {
    pieces: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }
}

impl<T: Copy> Column<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, number: u32) -> Option<T> {
        self.at(number).copied()
    }

    pub(crate) fn at(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.pieces.get(number / PIECE)?.get(number % PIECE)
    }

    pub(crate) fn at_mut(&mut self, number: u32) -> Option<&mut T> {
        let number = number as usize;
        Arc::make_mut(self.pieces.get_mut(number / PIECE)?).get_mut(number % PIECE)
    }

    /// Appends a value and returns its number.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let number = self.len;
        if number.is_multiple_of(PIECE) {
            // The first piece grows as it needs, so that a small directory is small.
            let piece = if number == 0 { Vec::new() } else { Vec::with_capacity(PIECE) };
            self.pieces.push(Arc::new(piece));
        }
        if let Some(piece) = self.pieces.last_mut() {
            Arc::make_mut(piece).push(value);
        }
        self.len += 1;
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// Appends values.
    pub(crate) fn extend(&mut self, values: impl IntoIterator<Item = T>) {
        let mut values = values.into_iter();
        while let Some(value) = values.next() {
            self.push(value);
            let room = PIECE - (self.len - 1) % PIECE - 1;
            if let Some(piece) = self.pieces.last_mut() {
                let before = piece.len();
                Arc::make_mut(piece).extend(values.by_ref().take(room));
                self.len += piece.len() - before;
            }
        }
    }

    /// Changes many values, each told its place among the numbers.
    pub(crate) fn each_mut(&mut self, numbers: &[u32], mut change: impl FnMut(u32, &mut T)) {
        if numbers.len() < self.pieces.len() {
            let one = |(place, number): (u32, &u32)| {
                self.at_mut(*number).into_iter().for_each(|value| change(place, value))
            };
            return (0..).zip(numbers).for_each(one);
        }
        // Making a piece one's own costs as much as changing a value of it.
        let mut pieces: Vec<&mut Vec<T>> = self.pieces.iter_mut().map(Arc::make_mut).collect();
        for (place, number) in (0..).zip(numbers) {
            let number = *number as usize;
            if let Some(value) =
                pieces.get_mut(number / PIECE).and_then(|piece| piece.get_mut(number % PIECE))
            {
                change(place, value);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// Values from a number on, with their numbers.
    pub(crate) fn from(&self, first: u32) -> impl Iterator<Item = (u32, &T)> {
        let (piece, within) = (first as usize / PIECE, first as usize % PIECE);
        let pieces = self.pieces.get(piece..).unwrap_or_default();
        (first..).zip(pieces.iter().flat_map(|piece| piece.iter()).skip(within))
    }

    /// The first number whose value is not `before`; those that are come first.
    pub(crate) fn partition_point(&self, before: impl Fn(&T) -> bool) -> u32 {
        let piece = self.pieces.partition_point(|piece| piece.last().is_some_and(&before));
        let within = self.pieces.get(piece).map_or(0, |piece| piece.partition_point(&before));
        u32::try_from((piece * PIECE + within).min(self.len)).unwrap_or(u32::MAX)
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.capacity() * size_of::<T>()).sum()
    }
}

impl<T: Plain> Column<T> {
    /// Writes the number of values, then the values.
    pub(crate) fn write(&self, output: &mut Output<'_>) {
        output.put(self.len as u64);
        for piece in &self.pieces {
            for value in piece.iter() {
                value.put(&mut output.bytes);
            }
            output.spill();
        }
    }

    /// Reads what [`Column::write`] wrote.
    pub(crate) fn read(input: &mut Input<'_>) -> Option<Self> {
        let len = input.count()?;
        let mut pieces = Vec::new();
        let mut left = len;
        while left > 0 {
            let count = left.min(PIECE);
            let mut bytes = input.need(count * T::BYTES)?;
            let mut piece = Vec::with_capacity(PIECE);
            for _ in 0..count {
                piece.push(T::take(&mut bytes)?);
            }
            pieces.push(Arc::new(piece));
            left -= count;
        }
        Some(Self { pieces, len })
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::tests::there_and_back;
    use super::*;

    #[test]
    fn values_are_found_again_and_copies_stand_still() {
        let mut column = Column::default();
        let count = PIECE as u32 * 2 + 10;
        for value in 0..count {
            assert_eq!(column.push(u64::from(value) * 2), value);
        }
        let copy = column.clone();
        *column.at_mut(7).unwrap() = 1;
        assert_eq!((column.get(7), copy.get(7)), (Some(1), Some(14)));
        assert_eq!(column.get(count), None);
        let mut extended = Column::default();
        for (from, to) in [(0, 0), (0, 3), (3, PIECE as u32 + 5), (PIECE as u32 + 5, count)] {
            extended.extend((from..to).map(|value| u64::from(value) * 2));
            assert_eq!(extended.len(), to as usize);
        }
        assert!(extended.iter().eq(copy.iter()));
        extended.each_mut(&[5], |_, value| *value = 1);
        assert_eq!((extended.get(5), copy.get(5)), (Some(1), Some(10)));
        extended.each_mut(&[count - 1, 0, count, 9_000], |place, value| *value = place.into());
        assert_eq!([count - 1, 0, 9_000, 1].map(|number| extended.get(number)), [0, 1, 3, 2].map(Some));
        assert_eq!(copy.partition_point(|value| *value < 20_001), 10_001);
        assert_eq!(copy.partition_point(|value| *value < 1_000_000), count);
        assert_eq!(copy.from(PIECE as u32 + 1).next(), Some((PIECE as u32 + 1, &(PIECE as u64 * 2 + 2))));
        assert_eq!(copy.from(count).next(), None);
        let read = there_and_back(|output| column.write(output), Column::<u64>::read).unwrap();
        assert!(read.iter().eq(column.iter()));
        let shorter =
            there_and_back(|output| (column.len as u64).put(&mut output.bytes), Column::<u64>::read);
        assert!(shorter.is_none());
    }
}
