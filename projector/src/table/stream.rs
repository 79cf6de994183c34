//! Columns as a stream of bytes, in pieces: neither the writer nor the reader holds all of it.

use super::Plain;

/// Bytes in a piece; the last is smaller, none much larger.
pub(crate) const STREAM_PIECE: usize = 1 << 20;

/// Where a column is written to.
pub(crate) struct Output<'a> {
    pub(crate) bytes: Vec<u8>,
    /// Takes a piece over; what it leaves is written over.
    full: &'a mut dyn FnMut(&mut Vec<u8>) -> std::io::Result<()>,
    result: std::io::Result<()>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(full: &'a mut dyn FnMut(&mut Vec<u8>) -> std::io::Result<()>) -> Self {
        Self { bytes: Vec::with_capacity(2 * STREAM_PIECE), full, result: Ok(()) }
    }

    pub(crate) fn put(&mut self, value: impl Plain) {
        value.put(&mut self.bytes);
    }

    /// Hands on what has come together; called now and then.
    pub(crate) fn spill(&mut self) {
        if self.bytes.len() >= STREAM_PIECE {
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        if self.result.is_ok() {
            self.result = (self.full)(&mut self.bytes);
        }
        self.bytes.clear();
    }

    /// Hands on the rest.
    pub(crate) fn finish(mut self) -> std::io::Result<()> {
        self.hand_on();
        self.result
    }
}

/// Where a column is read from.
pub(crate) struct Input<'a> {
    bytes: Vec<u8>,
    at: usize,
    /// Appends the next piece; nothing when there is none.
    more: &'a mut dyn FnMut(&mut Vec<u8>) -> Option<()>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(more: &'a mut dyn FnMut(&mut Vec<u8>) -> Option<()>) -> Self {
        Self { bytes: Vec::new(), at: 0, more }
    }

    /// The next bytes; nothing when there are not so many.
    pub(crate) fn need(&mut self, count: usize) -> Option<&[u8]> {
        while self.bytes.len() - self.at < count {
            self.bytes.drain(..self.at);
            self.at = 0;
            (self.more)(&mut self.bytes)?;
        }
        let from = self.at;
        self.at += count;
        self.bytes.get(from..self.at)
    }

    pub(crate) fn take<T: Plain>(&mut self) -> Option<T> {
        T::take(&mut self.need(T::BYTES)?)
    }

    /// How many of something come, each of so many bytes; nothing when it cannot be.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.take::<u64>()?).ok()
    }

    /// Whether everything was read.
    pub(crate) fn is_finished(&mut self) -> bool {
        self.need(1).is_none()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What was written, and what reads it.
    pub(crate) fn there_and_back<T>(
        write: impl FnOnce(&mut Output<'_>),
        read: impl FnOnce(&mut Input<'_>) -> Option<T>,
    ) -> Option<T> {
        let mut pieces = Vec::new();
        let mut full = |bytes: &mut Vec<u8>| {
            pieces.push(std::mem::take(bytes));
            Ok(())
        };
        let mut output = Output::new(&mut full);
        write(&mut output);
        output.finish().unwrap();
        let mut pieces = pieces.into_iter();
        let mut more = |bytes: &mut Vec<u8>| {
            bytes.extend(pieces.next()?);
            Some(())
        };
        let mut input = Input::new(&mut more);
        read(&mut input).filter(|_| input.is_finished())
    }

    #[test]
    fn values_cross_from_piece_to_piece() {
        let write = |output: &mut Output<'_>| {
            for number in 0..1_000_000_u32 {
                output.put(number);
                output.spill();
            }
        };
        let read = |input: &mut Input<'_>| {
            input.need(3)?;
            input.need(5)?;
            (2..1_000_000_u32).try_for_each(|number| (input.take() == Some(number)).then_some(()))
        };
        assert_eq!(there_and_back(write, read), Some(()));
        assert_eq!(there_and_back(|output| output.put(1_u32), |input| input.need(5).map(|_| ())), None);
    }
}
