//! The compared form of text whose case does not matter.
//!
//! Keys of the log are made from it, so it must never change: the crates that hold the Unicode tables are pinned to
//! exact versions, and a test holds the digest of the whole table.

use unicode_normalization::UnicodeNormalization;

/// Full case folding between two compatibility normalisations: `Straße` and `STRASSE` are one, and so are full-width
/// and plain letters. Nothing is trimmed.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let normal: String = text.nfkc().collect();
    let folded = caseless::default_case_fold_str(&normal);
    folded.nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn names_that_differ_in_case_or_width_are_one() {
        assert_eq!(fold("BJensen"), fold("bjensen"));
        assert_eq!(fold("Straße"), fold("STRASSE"));
        assert_eq!(fold("Ａda"), fold("ada"));
        assert_eq!(fold("e\u{301}"), fold("\u{c9}"));
        assert_ne!(fold("ada"), fold("ada "));
    }

    #[test]
    fn folding_twice_is_folding_once() {
        for code in 0..=0x10_FFFF {
            if let Some(letter) = char::from_u32(code) {
                let once = fold(&letter.to_string());
                assert_eq!(fold(&once), once, "U+{code:04X}");
            }
        }
    }

    /// If this fails, keys that stand in logs no longer name the people they were made for: put the table back.
    #[test]
    fn the_table_never_changes() {
        let mut digest = Sha256::new();
        for code in 0..=0x10_FFFF {
            if let Some(letter) = char::from_u32(code) {
                digest.update(fold(&letter.to_string()).as_bytes());
                digest.update([0]);
            }
        }
        let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "4d824a60f8dddbaa76952ce98ab8948c14b3d0f284d04e45d917e3ec72f2dd0a");
    }
}
