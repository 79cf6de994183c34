//! JSON as a client must write it: RFC 8259, and no name twice in one object, because nobody knows which one it means.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use crate::{Error, Object};

/// Reads a body. Nesting beyond 127 levels is refused, as is a number that no double can hold.
pub fn parse(bytes: &[u8]) -> Result<Value, Error> {
    // RFC 8259 §8.1 lets a reader pass over a byte order mark, which tools on Windows put before a file.
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Once.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    // The parser's own words can quote the body; the place is enough.
    read.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let twice =
            if error.to_string().starts_with(TWICE) { ": a name stands in one object twice" } else { "" };
        Error::syntax(format!("the body is not JSON: mistake at line {line}, column {column}{twice}"))
    })
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What a doubled name is reported as.
const TWICE: &str = "twice";

/// Reads any value, each name once.
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Object::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(Self)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serde_json_reads_is_read_the_same() {
        for text in [
            "null",
            "[1, -2, 3.5, 18446744073709551615, 1e3]",
            r#"{"a": {"b": [true, false, "x\u0000\ud83d\ude00"]}, "A": ""}"#,
            "[]",
            "\"\"",
        ] {
            let expected = serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parse(text.as_bytes()).unwrap(), expected);
            assert_eq!(parse(["\u{feff}", text].concat().as_bytes()).unwrap(), expected);
        }
    }

    #[test]
    fn what_nobody_can_mean_is_refused() {
        let deep = "[".repeat(200_000);
        for text in
            ["", "{", "[1] 2", r#"{"a": 1, "a": 2}"#, "1e999999", "\"\u{1}\"", "nul", "\u{feff}", &deep]
        {
            assert_eq!(parse(text.as_bytes()).unwrap_err().status, 400, "{text:.20}");
        }
        assert!(parse(br#"{"x": {"a": 1, "a": 1}}"#).unwrap_err().detail.contains("twice"));
        assert_eq!(parse(b"\"\xff\xfe\"").unwrap_err().status, 400);
    }
}
