//! Lists and their paging: RFC 7644 §3.4.2.

use serde_json::{Value, json};

use crate::{Error, Object};

/// The part of a list that a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// The first wanted result, counted from 1.
    pub start_index: usize,
    /// How many at most.
    pub count: usize,
}

impl Paging {
    /// Reads `startIndex` and `count`: less than 1 is 1, less than 0 is 0, never more than `count_max`.
    pub fn parse(start_index: Option<&str>, count: Option<&str>, count_max: usize) -> Result<Self, Error> {
        let number = |name: &str, text: Option<&str>| match text {
            None => Ok(None),
            Some(text) => text
                .trim()
                .parse::<i64>()
                .map(Some)
                .map_err(|_| Error::value(format!("{name} must be a whole number, not {text:?}"))),
        };
        let start_index = number("startIndex", start_index)?.unwrap_or(1).max(1);
        let count = match number("count", count)? {
            None => count_max,
            Some(count) => usize::try_from(count.max(0)).unwrap_or(count_max).min(count_max),
        };
        Ok(Self { start_index: usize::try_from(start_index).unwrap_or(usize::MAX), count })
    }
}

/// The ListResponse message.
pub fn response(total: usize, start_index: usize, resources: Vec<Object>) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": total,
        "startIndex": start_index,
        "itemsPerPage": resources.len(),
        "Resources": resources,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_clamped_and_words_refused() {
        let parse = |start, count| Paging::parse(start, count, 200);
        assert_eq!(parse(None, None).unwrap(), Paging { start_index: 1, count: 200 });
        assert_eq!(parse(Some("-3"), Some("-1")).unwrap(), Paging { start_index: 1, count: 0 });
        assert_eq!(parse(Some("7"), Some("9000")).unwrap(), Paging { start_index: 7, count: 200 });
        assert!(parse(Some("one"), None).is_err());
    }
}
