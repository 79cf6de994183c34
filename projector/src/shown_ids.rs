//! `externalId` as it is shown, by source, in one piece of memory. A map of texts is four pieces, none of which is in the
//! processor's cache when somebody comes.

use std::collections::BTreeMap;

use crate::splice::escaped;

/// Each source and its text, with their lengths before them.
#[derive(Debug, Default)]
pub(crate) struct ShownIds(Box<[u8]>);

impl ShownIds {
    pub(crate) fn of(external_ids: &BTreeMap<String, String>) -> Self {
        let mut bytes = Vec::new();
        let mut put = |text: &[u8]| {
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(text);
        };
        for (source, id) in external_ids {
            let mut text = Vec::with_capacity(id.len());
            escaped(id.as_bytes(), &mut text);
            put(source.as_bytes());
            put(&text);
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
