//! What one can compare of two answers: how many items they have, and a digest of them.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The count and the digest of items, in their order: SHA-256 over the canonical JSON of each (sorted names, no spaces),
/// followed by a newline.
#[derive(Clone, Default)]
pub(crate) struct Sum {
    count: u64,
    hash: Sha256,
}

impl Sum {
    pub(crate) fn of(items: &[Value]) -> Self {
        let mut sum = Self::default();
        for item in items {
            sum.add(item);
        }
        sum
    }

    pub(crate) fn add(&mut self, item: &Value) {
        self.count += 1;
        // Objects are sorted, so the text is canonical.
        self.hash.update(item.to_string().as_bytes());
        self.hash.update(b"\n");
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The digest as lower-case hexadecimal digits.
    pub(crate) fn digest(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.hash.clone().finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_sorted_and_every_item_ends_a_line() {
        let text: Value = serde_json::from_str(r#"{"b": "ü", "a": [1, 2.5, null]}"#).unwrap();
        let sum = Sum::of(&[text, json!("x")]);
        let expected = Sha256::digest("{\"a\":[1,2.5,null],\"b\":\"ü\"}\n\"x\"\n".as_bytes());
        assert_eq!((sum.count(), sum.digest()), (2, data_encoding::HEXLOWER.encode(&expected)));
    }

    #[test]
    fn nothing_has_the_digest_of_nothing_and_order_counts() {
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Sum::default().digest(), nothing);
        assert_ne!(Sum::of(&[json!(1), json!(2)]).digest(), Sum::of(&[json!(2), json!(1)]).digest());
        assert_ne!(Sum::of(&[json!(12)]).digest(), Sum::of(&[json!(1), json!(2)]).digest());
    }
}
