//! Texts, one behind the other.

use std::sync::Arc;

use super::{Input, Output, plain_struct};

/// Bytes in a piece; no text crosses from one to the next.
const PIECE: usize = 1 << 20;
/// A place is a multiple of this, so that 32 bits reach far enough.
const UNIT: usize = 4;
/// Bytes of a text that are kept; who finds fewer bytes than a text had knows only how it begins.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;
/// What is kept of a longer text has so many bytes at least: no letter is cut in two.
pub(crate) const CUT_BYTES_MIN: usize = TEXT_BYTES_MAX - 3;

/// Where a text stands: the place in two halves, so that six bytes are enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    low: u16,
    high: u16,
    len: u16,
}

plain_struct!(Text { low: u16, high: u16, len: u16 });

impl Text {
    fn new(at: u32, len: u16) -> Self {
        let [low, low_too, high, high_too] = at.to_le_bytes();
        Self { low: u16::from_le_bytes([low, low_too]), high: u16::from_le_bytes([high, high_too]), len }
    }

    fn at(self) -> usize {
        (usize::from(self.high) << 16 | usize::from(self.low)) * UNIT
    }

    pub(crate) fn len(self) -> usize {
        usize::from(self.len)
    }
}

/// What is kept of a text.
pub(crate) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

/// The texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    pieces: Vec<Arc<Vec<u8>>>,
}

impl Texts {
    /// Keeps a text, or how it begins.
    pub(crate) fn push(&mut self, text: &str) -> Text {
        let bytes = cut(text).as_bytes();
        let padded = bytes.len().next_multiple_of(UNIT);
        if self.pieces.last().is_none_or(|piece| piece.len() + padded > PIECE) {
            let capacity = if self.pieces.is_empty() { 0 } else { PIECE };
            self.pieces.push(Arc::new(Vec::with_capacity(capacity)));
        }
        let before = (self.pieces.len() - 1) * PIECE;
        let Some(piece) = self.pieces.last_mut() else { return Text::default() };
        let piece = Arc::make_mut(piece);
        let at = u32::try_from((before + piece.len()) / UNIT).unwrap_or(u32::MAX);
        piece.extend_from_slice(bytes);
        piece.resize(piece.len().next_multiple_of(UNIT), 0);
        Text::new(at, u16::try_from(bytes.len()).unwrap_or_default())
    }

    pub(crate) fn get(&self, text: Text) -> &[u8] {
        let at = text.at();
        let piece = self.pieces.get(at / PIECE).map(|piece| piece.as_slice()).unwrap_or_default();
        piece.get(at % PIECE..at % PIECE + text.len()).unwrap_or_default()
    }

    /// Leaves nothing of a text.
    pub(crate) fn wipe(&mut self, text: Text) {
        let at = text.at();
        if let Some(piece) = self.pieces.get_mut(at / PIECE)
            && let Some(bytes) = Arc::make_mut(piece).get_mut(at % PIECE..at % PIECE + text.len())
        {
            bytes.fill(0);
        }
    }

    /// About how much memory they take.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.capacity()).sum()
    }

    pub(crate) fn write(&self, output: &mut Output<'_>) {
        output.put(self.pieces.len() as u64);
        for piece in &self.pieces {
            output.put(piece.len() as u64);
            output.bytes.extend_from_slice(piece);
            output.spill();
        }
    }

    pub(crate) fn read(input: &mut Input<'_>) -> Option<Self> {
        let mut pieces = Vec::new();
        for _ in 0..input.count()? {
            let len = input.count().filter(|len| *len <= PIECE)?;
            let mut kept = Vec::with_capacity(PIECE);
            kept.extend_from_slice(input.need(len)?);
            pieces.push(Arc::new(kept));
        }
        Some(Self { pieces })
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::tests::there_and_back;
    use super::*;

    #[test]
    fn texts_are_found_again_until_they_are_wiped() {
        let mut texts = Texts::default();
        let long = "x".repeat(TEXT_BYTES_MAX + 5);
        let kept: Vec<Text> = (0..600).map(|_| texts.push(&long)).collect();
        let short = texts.push("ada");
        assert!(kept.iter().all(|text| texts.get(*text) == &long.as_bytes()[..TEXT_BYTES_MAX]));
        let read = there_and_back(|output| texts.write(output), Texts::read).unwrap();
        assert_eq!(read.get(short), b"ada");
        let letters = texts.push(&"é".repeat(TEXT_BYTES_MAX).replacen('é', "x", 1));
        assert_eq!(std::str::from_utf8(texts.get(letters)).unwrap().len(), TEXT_BYTES_MAX - 1);
        texts.wipe(short);
        assert_eq!(texts.get(short), [0; 3]);
        assert_eq!((texts.push("").at(), texts.push("").len()), (letters.at() + TEXT_BYTES_MAX, 0));
        assert_eq!(Text::new(0x0403_0201, 7).at(), 0x0403_0201 * UNIT);
    }
}
