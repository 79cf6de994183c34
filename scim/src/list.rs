//! Questions for many resources and their answers: RFC 7644 §3.4.2 and §3.4.3, cursors after RFC 9865.

use std::fmt;
use std::io::Write;

use serde_json::{Value, json};

use crate::validate::each_name_once;
use crate::{Error, Object, ScimType, Speech, message};

/// The URN of the message of a `.search`.
const SEARCH_REQUEST: &str = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";
/// The URN of its answer.
const LIST_RESPONSE: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
/// Room for an answer without its resources, and for one of them, as they mostly are.
const HEAD_BYTES: usize = 256;
const RESOURCE_BYTES: usize = 4096;

/// What a client asks, from the parameters of a GET or the body of a `.search`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Comma-separated.
    pub attributes: Option<String>,
    /// Comma-separated.
    pub excluded_attributes: Option<String>,
    /// The filter's text.
    pub filter: Option<String>,
    /// The attribute to sort by.
    pub sort_by: Option<String>,
    /// The other way round.
    pub descending: bool,
    /// The first wanted result, counted from 1.
    pub start_index: usize,
    /// How many at most; nothing means as many as the service likes.
    pub count: Option<usize>,
    /// The wanted page; empty for the first. Nothing means paging by index.
    pub cursor: Option<String>,
}

impl Question {
    /// Reads the parameters of a GET.
    pub fn of_parameters<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Error> {
        // A parameter without a value says nothing, but an empty cursor asks for the first page.
        let given = |name: &str| parameter(name).filter(|text| !text.trim().is_empty());
        let number = |name: &str| match given(name) {
            None => Ok(None),
            Some(text) => text
                .trim()
                .parse::<i64>()
                .map(Some)
                .map_err(|_| Error::value(format!("{name} must be a whole number, not {text:?}"))),
        };
        let text = |name: &str| parameter(name).map(str::to_string);
        Self {
            attributes: text("attributes"),
            excluded_attributes: text("excludedAttributes"),
            filter: text("filter"),
            sort_by: text("sortBy"),
            cursor: text("cursor"),
            ..Self::default()
        }
        .clamped(given("sortOrder"), number("startIndex")?, number("count")?)
    }

    /// Reads the body of a `.search`.
    pub fn of_body(body: &Value, speech: Speech<'_>) -> Result<Self, Error> {
        let body = body.as_object().ok_or_else(|| Error::syntax("the body must be a JSON object"))?;
        each_name_once(body)?;
        let member = |wanted: &str| {
            body.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
        };
        let member = |wanted: &str| member(wanted).filter(|value| !value.is_null());
        message::is(SEARCH_REQUEST, member("schemas"), speech)?;
        let text = |name: &str| match member(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Error::value(format!("{name} must be a string"))),
        };
        let names = |name: &str| match member(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| name.as_str())
                .collect::<Option<Vec<&str>>>()
                .map(|names| Some(names.join(",")))
                .ok_or_else(|| Error::value(format!("{name} must hold strings"))),
            Some(_) => Err(Error::value(format!("{name} must be an array of names"))),
        };
        let number = |name: &str| match member(name) {
            None => Ok(None),
            Some(value) => {
                value.as_i64().map(Some).ok_or_else(|| Error::value(format!("{name} must be a whole number")))
            }
        };
        Self {
            attributes: names("attributes")?,
            excluded_attributes: names("excludedAttributes")?,
            filter: text("filter")?,
            sort_by: text("sortBy")?,
            cursor: text("cursor")?,
            ..Self::default()
        }
        .clamped(text("sortOrder")?.as_deref(), number("startIndex")?, number("count")?)
    }

    /// RFC 7644 §3.4.2.4: a `startIndex` below 1 is 1, a `count` below 0 is 0.
    fn clamped(
        self,
        sort_order: Option<&str>,
        start_index: Option<i64>,
        count: Option<i64>,
    ) -> Result<Self, Error> {
        let descending = match sort_order.map(|order| order.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "ascending") => false,
            Some("descending") => true,
            Some(_) => return Err(Error::value("sortOrder must be ascending or descending")),
        };
        let clamp = |number: i64, least: i64| usize::try_from(number.max(least)).unwrap_or(usize::MAX);
        Ok(Self {
            descending,
            start_index: clamp(start_index.unwrap_or(1), 1),
            count: count.map(|count| clamp(count, 0)),
            sort_by: self.sort_by.filter(|path| !path.trim().is_empty()),
            filter: self.filter.filter(|filter| !filter.trim().is_empty()),
            ..self
        })
    }
}

/// Where a page stands in its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By index: the place of its first resource, counted from 1.
    Index(usize),
    /// By cursor: where the next page begins; nothing on the last one.
    Cursor(Option<String>),
}

/// The ListResponse message.
pub fn response(total: usize, place: Place, resources: Vec<Object>) -> Value {
    let mut message = envelope(total, place, resources.len());
    message.insert("Resources".to_string(), resources.into_iter().map(Value::Object).collect());
    Value::Object(message)
}

/// The ListResponse message as text, of resources that are texts already: appended one after the other, each by a call.
/// Several that are longer together than `bytes_max` are `tooMany`; one alone may be of any length.
pub fn response_text(
    total: usize,
    place: Place,
    count: usize,
    bytes_max: usize,
    mut resource: impl FnMut(usize, &mut Vec<u8>),
) -> Result<Vec<u8>, Error> {
    let mut text = Vec::with_capacity(if count == 0 { HEAD_BYTES } else { HEAD_BYTES + RESOURCE_BYTES });
    head(total, &place, count, &mut text);
    text.extend_from_slice(b",\"Resources\":[");
    for index in 0..count {
        if index > 0 {
            text.push(b',');
        }
        let before = text.len();
        resource(index, &mut text);
        if text.len() > bytes_max && count > 1 {
            let detail = format!(
                "{count} resources are longer than the {bytes_max} bytes that an answer may have; ask for fewer with count, or \
                 leave out what is long, as with excludedAttributes=members"
            );
            return Err(Error::new(ScimType::TooMany, detail));
        }
        if index == 0 {
            // The others will be about as long. What is too short for them is copied as a whole.
            let first = text.len() - before;
            let others = (first + first / 8 + 64).saturating_mul(count - 1).saturating_add(2);
            text.reserve(others.min(bytes_max));
        }
    }
    text.extend_from_slice(b"]}");
    Ok(text)
}

/// The same as text, without the brace that closes it.
fn head(total: usize, place: &Place, count: usize, text: &mut Vec<u8>) {
    let (cursor, first) = match place {
        Place::Index(first) => (None, Some(first)),
        Place::Cursor(next) => (next.as_ref(), None),
    };
    let mut member = |name: &str, value: &dyn fmt::Display| {
        let before = if text.is_empty() { '{' } else { ',' };
        // Writing to memory cannot fail.
        let _ = write!(text, "{before}\"{name}\":{value}");
    };
    member("itemsPerPage", &count);
    if let Some(cursor) = cursor {
        member("nextCursor", &Value::from(cursor.as_str()));
    }
    member("schemas", &format_args!("[\"{LIST_RESPONSE}\"]"));
    if let Some(first) = first {
        member("startIndex", first);
    }
    member("totalResults", &total);
}

/// The message without its resources.
fn envelope(total: usize, place: Place, count: usize) -> Object {
    let mut message = Object::new();
    let schemas = json!([LIST_RESPONSE]);
    message.insert("schemas".to_string(), schemas);
    message.insert("totalResults".to_string(), total.into());
    message.insert("itemsPerPage".to_string(), count.into());
    match place {
        Place::Index(first) => message.insert("startIndex".to_string(), first.into()),
        Place::Cursor(Some(next)) => message.insert("nextCursor".to_string(), next.into()),
        Place::Cursor(None) => None,
    };
    message
}

/// The errors of RFC 9865 §2.1.
pub fn bad_cursor(scim_type: ScimType) -> Error {
    let detail = match scim_type {
        ScimType::ExpiredCursor => "the cursor is too old; begin again without one",
        ScimType::InvalidCount => "count must stay the same from page to page",
        ScimType::InvalidFilter
        | ScimType::TooMany
        | ScimType::Uniqueness
        | ScimType::Mutability
        | ScimType::InvalidSyntax
        | ScimType::InvalidPath
        | ScimType::NoTarget
        | ScimType::InvalidValue
        | ScimType::InvalidVers
        | ScimType::Sensitive
        | ScimType::InvalidCursor => "the cursor belongs to no such question",
    };
    Error::new(scim_type, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use crate::Dialect::Rfc as RFC;

    #[test]
    fn both_forms_of_a_message_say_the_same() {
        let resource = |number: usize| json!({"id": number.to_string()}).as_object().unwrap().clone();
        for (place, count) in
            [(Place::Index(3), 2), (Place::Cursor(Some("x\"y".to_string())), 1), (Place::Cursor(None), 0)]
        {
            let tree = response(9, place.clone(), (0..count).map(resource).collect());
            let write = |number: usize, text: &mut Vec<u8>| {
                text.extend_from_slice(Value::Object(resource(number)).to_string().as_bytes());
            };
            let text = response_text(9, place.clone(), count, usize::MAX, write).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), tree);
            let mut begin = Vec::new();
            head(9, &place, count, &mut begin);
            begin.push(b'}');
            assert_eq!(
                String::from_utf8(begin).unwrap(),
                Value::Object(envelope(9, place, count)).to_string()
            );
        }
    }

    #[test]
    fn several_that_are_too_long_together_are_refused() {
        let answer = |count: usize, bytes: usize| {
            let write = |_: usize, text: &mut Vec<u8>| text.resize(text.len() + bytes, b'7');
            response_text(9, Place::Index(1), count, 1_000, write).map(|text| text.len())
        };
        assert!(answer(2, 300).is_ok());
        assert!(answer(1, 5_000).is_ok(), "one can be had");
        for (count, bytes) in [(2, 600), (2, 5_000), (usize::MAX, 600)] {
            assert_eq!(answer(count, bytes).unwrap_err().scim_type, Some(ScimType::TooMany));
        }
    }

    #[test]
    fn numbers_are_clamped_and_words_refused() {
        let parse = |start: &'static str, count: &'static str| {
            Question::of_parameters(|name| match name {
                "startIndex" => Some(start),
                "count" => Some(count),
                _ => None,
            })
        };
        let found = parse("-3", "-1").unwrap();
        assert_eq!((found.start_index, found.count), (1, Some(0)));
        let found = parse("7", "9000").unwrap();
        assert_eq!((found.start_index, found.count), (7, Some(9000)));
        assert!(parse("one", "1").is_err());
        let found = Question::of_parameters(|_| None).unwrap();
        assert_eq!((found.start_index, found.count), (1, None));
    }

    #[test]
    fn an_empty_parameter_is_none() {
        let found = |name: &str| (!name.ends_with("ttributes")).then_some("");
        let found = Question::of_parameters(found).unwrap();
        let cursor = Some(String::new());
        assert_eq!(found, Question { cursor: cursor.clone(), ..Question::of_parameters(|_| None).unwrap() });
        let empty =
            json!({"schemas": [SEARCH_REQUEST], "filter": " ", "sortOrder": "", "sortBy": "", "cursor": ""});
        let absent = Question::of_body(&json!({"schemas": [SEARCH_REQUEST]}), RFC.into()).unwrap();
        assert_eq!(Question::of_body(&empty, RFC.into()).unwrap(), Question { cursor, ..absent });
    }

    #[test]
    fn a_search_is_read_from_its_body() {
        let body = json!({"schemas": [SEARCH_REQUEST], "attributes": ["userName", "emails.value"], "sortby": "userName",
                          "sortOrder": "DESCENDING", "count": 5, "filter": null, "cursor": ""});
        let question = Question::of_body(&body, RFC.into()).unwrap();
        assert_eq!(question.attributes.as_deref(), Some("userName,emails.value"));
        assert_eq!((question.sort_by.as_deref(), question.descending), (Some("userName"), true));
        assert_eq!((question.count, question.cursor.as_deref(), question.filter), (Some(5), Some(""), None));
        for wrong in [
            json!({"filter": "userName pr"}),
            json!({"schemas": [SEARCH_REQUEST], "count": "5"}),
            json!({"schemas": [SEARCH_REQUEST], "filter": 5}),
            json!({"schemas": [SEARCH_REQUEST], "sortOrder": "upwards"}),
            json!([]),
        ] {
            assert!(Question::of_body(&wrong, RFC.into()).is_err(), "{wrong}");
        }
        for unnamed in [
            json!({"count": 5}),
            json!({"schemas": [], "count": 5}),
            json!({"schemas": SEARCH_REQUEST, "count": 5}),
        ] {
            assert_eq!(
                Question::of_body(&unnamed, Dialect::Lenient.into()).unwrap().count,
                Some(5),
                "{unnamed}"
            );
            assert!(Question::of_body(&unnamed, RFC.into()).is_err(), "{unnamed}");
        }
    }
}
