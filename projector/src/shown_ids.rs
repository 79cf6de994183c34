//! `externalId` as it is shown, by source, in one piece of memory. A map of texts is four pieces, none of which is in the
//! processor's cache when somebody comes.

use std::collections::BTreeMap;

use crate::splice::escaped;

/// Each source and its text, with their lengths before them.
#[derive(Debug, Default)]
pub(crate) struct ShownIds(Box<[u8]>);

impl ShownIds {
    pub(crate) fn of(external_ids: &BTreeMap<String, String>) -> Self {
        // Enough where nothing has to be escaped.
        let length = |(source, id): (&String, &String)| 2 * LENGTH + source.len() + id.len();
        let mut bytes = Vec::with_capacity(external_ids.iter().map(length).sum());
        for (source, id) in external_ids {
            put(&mut bytes, |bytes| bytes.extend_from_slice(source.as_bytes()));
            put(&mut bytes, |bytes| escaped(id.as_bytes(), bytes));
        }
        Self(bytes.into())
    }

    /// The text of a source, as it stands between the quotes of JSON.
    pub(crate) fn get(&self, source: &str) -> Option<&[u8]> {
        let mut rest = &*self.0;
        let mut take = || {
            let (length, behind) = rest.split_first_chunk()?;
            let (text, behind) =
                behind.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            rest = behind;
            Some(text)
        };
        while let (Some(known), Some(text)) = (take(), take()) {
            if known == source.as_bytes() {
                return Some(text);
            }
        }
        None
    }
}

/// Bytes of a length.
const LENGTH: usize = size_of::<u32>();

/// Appends a text with its length before it.
fn put(bytes: &mut Vec<u8>, text: impl FnOnce(&mut Vec<u8>)) {
    let begin = bytes.len() + LENGTH;
    bytes.extend_from_slice(&[0; LENGTH]);
    text(bytes);
    let length = u32::try_from(bytes.len() - begin).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(before) = bytes.get_mut(begin - LENGTH..begin) {
        before.copy_from_slice(&length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_their_source() {
        let ids = [("hr", "7"), ("", "x"), ("okta", "a\"b"), ("nobody", "")];
        let ids = ids.map(|(source, id)| (source.to_string(), id.to_string()));
        let shown = ShownIds::of(&BTreeMap::from(ids));
        let found = |source| shown.get(source).map(|text| std::str::from_utf8(text).unwrap());
        assert_eq!(["hr", "", "okta", "nobody"].map(found), [Some("7"), Some("x"), Some("a\\\"b"), Some("")]);
        assert_eq!((found("hr7"), ShownIds::default().get("hr")), (None, None));
    }
}
