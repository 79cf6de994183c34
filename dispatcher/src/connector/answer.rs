//! The class of an answer, after the app's profile. Pure: time is an argument.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use scim::Object;
use serde_json::Value;

use super::Outcome;
use crate::drift::named;
use crate::profile::Answers;

/// Bytes of an answer to a write that are looked at.
const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest rest that an app is given because it asks for it; then it is asked again.
const REST_MAX: Duration = Duration::from_secs(3_600);
/// A number above this is a time since 1970 and no waiting time.
const EPOCH_SECONDS_MIN: u64 = 1_000_000_000;
/// Where apps say when their window ends.
const RESETS: [&str; 3] = ["x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset"];
/// Where they say what is left of it.
const REMAINING: [&str; 3] = ["x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining"];

/// The class of an answer to a request that had this body.
pub(super) fn class(
    answers: &Answers,
    response: &Response<Bytes>,
    sent: Option<&Object>,
    now: Timestamp,
) -> Outcome {
    let status = response.status().as_u16();
    let after = rest(response, now);
    if is_throttle(answers, response) {
        return Outcome::Throttled { status, after };
    }
    let body = json_body(response);
    let text = |name: &str| {
        body.as_ref().and_then(|body| body.get(name)).and_then(Value::as_str).unwrap_or_default()
    };
    let keyword: String = text("scimType").chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    if answers.taken.contains(&status) || (matches!(status, 400..=499) && keyword == "uniqueness") {
        return Outcome::Taken { status };
    }
    match status {
        // No app says so: what stands before it shows a page for people, or sends us elsewhere.
        200..=299 if is_page(response) => {
            let error = format!("{status} with a page");
            Outcome::Unavailable { after, error, unheard: false }
        }
        300..=399 => {
            let error = format!("the app answers {status}");
            Outcome::Unavailable { after, error, unheard: false }
        }
        200..=299 => {
            let remote_id = body.as_ref().and_then(Value::as_object).and_then(id);
            Outcome::Done { remote_id, status }
        }
        401 => Outcome::Stranger { status, after },
        404 | 410 => Outcome::Missing,
        412 => Outcome::Retry { status },
        413 => Outcome::TooLarge { status },
        // 502 and 504 are what stands before the app says, whatever the app does, and 408 can be.
        408 | 425 | 502..=504 => {
            let unheard = !matches!(status, 425 | 503);
            Outcome::Unavailable { after, error: format!("the app answers {status}"), unheard }
        }
        500..=599 => Outcome::Retry { status },
        _ if keyword == "tooMany" => Outcome::TooLarge { status },
        _ => {
            let error = reason(status, &keyword, text("detail"), sent);
            if keyword == "noTarget" {
                Outcome::NoTarget { status, error }
            } else {
                Outcome::Refused { status, error }
            }
        }
    }
}

/// Whether the app says that we are too fast.
pub(super) fn is_throttle(answers: &Answers, response: &Response<Bytes>) -> bool {
    let status = response.status().as_u16();
    let says = |name: &str| header(response, name);
    let by_header = || says("retry-after").is_some() || REMAINING.iter().any(|name| says(name) == Some("0"));
    answers.throttled.contains(&status) || (answers.throttled_with_header.contains(&status) && by_header())
}

/// The id of what an app shows. Some count, and write a number. A text that would lead elsewhere as a step of a path is none.
pub(super) fn id(shown: &Object) -> Option<String> {
    match named(shown, "id")? {
        Value::String(id) if !matches!(id.as_str(), "" | "." | "..") => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether an answer is a page for people rather than a document.
pub(super) fn is_page(response: &Response<Bytes>) -> bool {
    response.body().iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

/// The status, the keyword and which of the attributes we sent are named; an app's own sentence can name a person.
fn reason(status: u16, keyword: &str, detail: &str, sent: Option<&Object>) -> String {
    let mut words: Vec<&str> = detail.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    words.sort_unstable();
    let names = sent.into_iter().flat_map(attribute_names);
    let mut named: Vec<&str> = names.filter(|name| words.binary_search(name).is_ok()).collect();
    named.sort_unstable();
    named.dedup();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    let keyword = if keyword.is_empty() { String::new() } else { format!(" {keyword}") };
    format!("{status}{keyword}{named}")
}

/// The names of what was sent: of a resource, or within the operations of a PATCH.
fn attribute_names(sent: &Object) -> Vec<&str> {
    let mut names: Vec<&str> = sent.keys().map(String::as_str).collect();
    for operation in sent.get("Operations").and_then(Value::as_array).into_iter().flatten() {
        names.extend(
            operation.get("path").and_then(Value::as_str).and_then(|path| path.split(['.', '[']).next()),
        );
        let values = operation.get("value").and_then(Value::as_object);
        names.extend(values.into_iter().flat_map(Object::keys).map(String::as_str));
    }
    names.retain(|name| !matches!(*name, "schemas" | "Operations" | "id"));
    names
}

/// How long the app wants to be left alone: `Retry-After` in seconds or as a date, or the end of its window.
pub(super) fn rest(response: &Response<Bytes>, now: Timestamp) -> Option<Duration> {
    let until = |epoch: Duration| {
        let passed = u64::try_from(now.as_second()).unwrap_or_default();
        epoch.saturating_sub(Duration::from_secs(passed))
    };
    if let Some(text) = header(response, "retry-after") {
        let seconds = text.parse().ok().map(Duration::from_secs);
        let date = || httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok().map(until);
        return seconds.or_else(date).map(|rest| rest.min(REST_MAX));
    }
    // Without an error the window's end says nothing, nor while the window has room: many show it in every answer.
    let has_room = |name: &&str| header(response, name).is_some_and(|left| left != "0");
    if !matches!(response.status().as_u16(), 403 | 429 | 503) || REMAINING.iter().any(has_room) {
        return None;
    }
    let reset: u64 = RESETS.iter().find_map(|name| header(response, name)?.parse().ok())?;
    let reset = Duration::from_secs(reset);
    let rest = if reset.as_secs() >= EPOCH_SECONDS_MIN { until(reset) } else { reset };
    Some(rest.min(REST_MAX))
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok().map(str::trim)
}

pub(super) fn json_body(response: &Response<Bytes>) -> Option<Value> {
    let bytes = response.body();
    if bytes.len() > JSON_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use serde_json::json;

    fn answer(status: u16, headers: &[(&str, &str)], body: Value) -> Response<Bytes> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Bytes::from(body.to_string())).unwrap()
    }

    fn now() -> Timestamp {
        "1994-11-06T08:49:00Z".parse().unwrap()
    }

    #[track_caller]
    fn check(status: u16, headers: &[(&str, &str)], body: Value, expected: Outcome) {
        let sent = json!({"userName": "ada", "emails": []}).as_object().unwrap().clone();
        let found = class(&Answers::default(), &answer(status, headers, body), Some(&sent), now());
        assert_eq!(found, expected);
    }

    fn seconds(count: u64) -> Option<Duration> {
        Some(Duration::from_secs(count))
    }

    /// Row by row, the table of error classes.
    #[test]
    fn each_answer_has_its_class() {
        let refused = |status, error: &str| Outcome::Refused { status, error: error.to_string() };
        check(201, &[], json!({"id": "7"}), Outcome::Done { remote_id: Some("7".to_string()), status: 201 });
        check(204, &[], Value::Null, Outcome::Done { remote_id: None, status: 204 });
        for id in [json!(""), json!(".."), json!(null), json!({})] {
            check(201, &[], json!({"id": id}), Outcome::Done { remote_id: None, status: 201 });
        }
        check(201, &[], json!({"id": 7}), Outcome::Done { remote_id: Some("7".to_string()), status: 201 });
        for status in [404, 410] {
            check(status, &[], Value::Null, Outcome::Missing);
        }
        check(409, &[], json!({"scimType": "uniqueness"}), Outcome::Taken { status: 409 });
        check(400, &[], json!({"scimType": "uniqueness"}), Outcome::Taken { status: 400 });
        check(
            400,
            &[],
            json!({"scimType": "invalidValue", "detail": "emails of Ada Lovelace are odd"}),
            refused(400, "400 invalidValue (emails)"),
        );
        check(
            400,
            &[],
            json!({"scimType": "noTarget"}),
            Outcome::NoTarget { status: 400, error: "400 noTarget".to_string() },
        );
        check(401, &[], Value::Null, Outcome::Stranger { status: 401, after: None });
        check(403, &[], Value::Null, refused(403, "403"));
        check(
            403,
            &[("Retry-After", "60")],
            Value::Null,
            Outcome::Throttled { status: 403, after: seconds(60) },
        );
        check(
            403,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "784111770")],
            Value::Null,
            Outcome::Throttled { status: 403, after: seconds(3_600) },
        );
        check(412, &[], Value::Null, Outcome::Retry { status: 412 });
        check(413, &[], Value::Null, Outcome::TooLarge { status: 413 });
        check(400, &[], json!({"scimType": "tooMany"}), Outcome::TooLarge { status: 400 });
        check(429, &[], Value::Null, Outcome::Throttled { status: 429, after: None });
        check(500, &[], Value::Null, Outcome::Retry { status: 500 });
        check(
            503,
            &[("Retry-After", "5")],
            Value::Null,
            Outcome::Unavailable {
                after: seconds(5),
                error: "the app answers 503".to_string(),
                unheard: false,
            },
        );
        for (status, unheard) in
            [(302, false), (307, false), (408, true), (425, false), (502, true), (504, true)]
        {
            let error = format!("the app answers {status}");
            check(status, &[], Value::Null, Outcome::Unavailable { after: None, error, unheard });
        }
    }

    #[test]
    fn a_page_for_people_is_no_success() {
        let page = |body: &'static str| {
            let response = Response::builder().status(200).body(Bytes::from_static(body.as_bytes())).unwrap();
            class(&Answers::default(), &response, None, now())
        };
        assert_eq!(
            page("\r\n<!doctype html><title>Back soon</title>"),
            Outcome::Unavailable { after: None, error: "200 with a page".to_string(), unheard: false }
        );
        for body in ["", "OK", "{}", "{\"id\": \"<\"}"] {
            assert!(matches!(page(body), Outcome::Done { status: 200, .. }), "{body}");
        }
    }

    #[test]
    fn every_way_to_say_when() {
        let after = |headers: &[(&str, &str)], now: &str| {
            rest(&answer(429, headers, Value::Null), now.parse().unwrap()).map(|rest| rest.as_secs())
        };
        let then = "1994-11-06T08:49:00Z";
        assert_eq!(after(&[("Retry-After", "120")], then), Some(120));
        assert_eq!(after(&[("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")], then), Some(37));
        assert_eq!(after(&[("Retry-After", "Sunday, 06-Nov-94 08:49:37 GMT")], then), Some(37));
        assert_eq!(after(&[("Retry-After", "Sun, 06 Nov 1994 08:48:00 GMT")], then), Some(0));
        assert_eq!(after(&[("Retry-After", "999999")], then), Some(3_600), "not for days");
        assert_eq!(after(&[("Retry-After", "soon")], then), None);
        assert_eq!(after(&[("x-ratelimit-reset", "1800000030")], "2027-01-15T08:00:00Z"), Some(30));
        assert_eq!(after(&[("ratelimit-reset", "12")], then), Some(12));
        assert_eq!(after(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "12")], then), Some(12));
        assert_eq!(after(&[("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "3000")], then), None);
    }

    #[test]
    fn a_profile_says_what_an_answer_means() {
        let profile =
            Profile::parse("[answers]\nthrottled = [420]\ntaken = [409, 422]\n[type.User]").unwrap();
        let class = |status| class(&profile.answers, &answer(status, &[], Value::Null), None, now());
        assert_eq!(class(420), Outcome::Throttled { status: 420, after: None });
        assert_eq!(class(422), Outcome::Taken { status: 422 });
        assert_eq!(class(429), Outcome::Refused { status: 429, error: "429".to_string() });
    }
}
