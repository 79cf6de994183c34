//! How many values there are: by column and resource type.

use super::values::ColumnNumber;

#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Vec<Vec<u32>>);

impl Counts {
    /// One more, or one less.
    pub(super) fn count(&mut self, column: ColumnNumber, kind: u8, more: bool) {
        let (column, kind) = (usize::from(column), usize::from(kind));
        if self.0.len() <= column {
            self.0.resize_with(column + 1, Vec::new);
        }
        let Some(kinds) = self.0.get_mut(column) else { return };
        kinds.resize(kinds.len().max(kind + 1), 0);
        if let Some(count) = kinds.get_mut(kind) {
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    pub(super) fn get(&self, column: ColumnNumber, kind: u8) -> u32 {
        let count = self.0.get(usize::from(column)).and_then(|kinds| kinds.get(usize::from(kind)));
        count.copied().unwrap_or_default()
    }
}
