//! A text that is in every resource that satisfies a filter, so that most of the others need not be read at all.

use super::{Filter, Op};
use crate::Type;

/// Shorter ones are in nearly every text.
const BYTES_MIN: usize = 3;

impl Filter {
    /// A text, in small letters, that stands somewhere in the JSON of every resource that satisfies the filter, if in small
    /// or in capital letters; nothing when there is none, or none that can be looked for. It says nothing of JSON
    /// that holds escapes or letters beyond ASCII, whose other forms can be the same letter.
    pub fn needle(&self) -> Option<String> {
        match self {
            Self::And(filters) => filters.iter().filter_map(Self::needle).max_by_key(String::len),
            Self::Values { filter, .. } => filter.needle(),
            Self::Compare { op: Op::Eq | Op::Co | Op::Sw | Op::Ew, value, rule: Some(rule), .. }
                if rule.kind == Type::String =>
            {
                let text = value.as_str().filter(|text| text.len() >= BYTES_MIN)?;
                let is_plain =
                    |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && byte != b'"' && byte != b'\\';
                text.bytes().all(is_plain).then(|| text.to_ascii_lowercase())
            }
            Self::Compare { .. } | Self::Or(_) | Self::Not(_) | Self::Present(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, FilterLimits, Registry};

    #[test]
    fn it_is_what_every_match_must_hold() {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let needle = |text: &str| {
            let filter = Filter::parse(text, &FilterLimits::default(), Dialect::Rfc, &registry, user);
            filter.unwrap().needle()
        };
        for (filter, expected) in [
            (r#"title co "The Bees""#, Some("the bees")),
            (r#"title sw "abc" and nickName ew "longer""#, Some("longer")),
            (r#"title eq "abc" and not (nickName eq "longer")"#, Some("abc")),
            (r#"emails[type eq "work" and value co "@X.test"]"#, Some("@x.test")),
            (r#"title eq "abc" or title eq "def""#, None),
            (r#"title ne "abc""#, None),
            (r#"title gt "abc""#, None),
            (r#"title co "ab""#, None),
            (r#"title co "stra\u00dfe""#, None),
            (r#"title co "a\"bc""#, None),
            (r#"title co "a\\bc""#, None),
            (r#"title co "a\tbc""#, None),
            (r#"meta.created eq "2026-01-01T00:00:00Z""#, None),
            ("active eq true", None),
            ("title pr", None),
        ] {
            assert_eq!(needle(filter).as_deref(), expected, "{filter}");
        }
    }
}
