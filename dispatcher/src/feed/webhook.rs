//! Posting with a signature, after Standard Webhooks, and what an answer means.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use sha2::Sha256;

use super::event::Told;
use crate::config::{FeedConfig, Secret};

/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";
/// The shortest key: a shorter one can be guessed by whoever hears a delivery, who can sign events of his own then.
const KEY_BYTES_MIN: usize = 16;
/// The longest rest that a subscriber may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

pub(super) struct Webhook {
    client: Client,
    url: String,
    /// Each of them signs.
    keys: Vec<Vec<u8>>,
}

/// What a subscriber said, without its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has the event.
    Taken,
    /// It does not want this event.
    Refused { why: String },
    /// It cannot take any at the moment.
    Later { after: Option<Duration>, why: String },
    /// It failed: with all events, or with this one. What it takes meanwhile will tell.
    Failed { why: String },
    /// It wants no more.
    Gone,
}

impl Webhook {
    pub(super) fn new(config: &FeedConfig) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(Duration::from_millis(config.timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let secrets = std::iter::once(&config.secret).chain(&config.previous_secret);
        Ok(Self { client, url: config.url.to_string(), keys: secrets.map(key).collect() })
    }

    /// Posts one event.
    pub(super) async fn post(&self, told: &Told, now: Timestamp) -> Answer {
        let timestamp = now.as_second();
        let request = self
            .client
            .post(&self.url)
            .header("Content-Type", "application/cloudevents+json")
            .header("webhook-id", &told.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signatures(&self.keys, &told.id, timestamp, &told.text))
            .body(told.text.clone());
        match request.send().await {
            Ok(response) => {
                let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                meaning(response.status(), after.and_then(|text| retry_after(text, now)))
            }
            Err(error) if error.is_connect() => {
                Answer::Later { after: None, why: "the subscriber cannot be reached".to_string() }
            }
            Err(error) => {
                let why = if error.is_timeout() { "no answer in time" } else { "the connection failed" };
                Answer::Failed { why: why.to_string() }
            }
        }
    }
}

/// A refusal is about the event; everything else is about the subscriber, who then rests as a whole. Whose failure is which of
/// these, an answer does not say, unless it asks for a rest.
fn meaning(status: StatusCode, after: Option<Duration>) -> Answer {
    let why = format!("the subscriber answers {}", status.as_u16());
    match status {
        StatusCode::GONE => Answer::Gone,
        // Our signature, a proxy's, the time, the rate: another event would fare no better.
        StatusCode::UNAUTHORIZED
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => Answer::Later { after, why },
        status if status.is_success() => Answer::Taken,
        status if status.is_client_error() => Answer::Refused { why },
        status if status.is_server_error() && after.is_none() => Answer::Failed { why },
        // A redirect is not followed: a signed event goes where the operator said.
        _ => Answer::Later { after, why },
    }
}

/// How long to rest: in seconds, or until a date (RFC 9110 §10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let rest = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(date.duration_since(now)).unwrap_or_default()
        }
    };
    Some(rest.min(RETRY_AFTER_MAX))
}

/// The bytes of a secret: base64 after the prefix; any other text as it is.
fn key(secret: &Secret) -> Vec<u8> {
    let text = secret.expose();
    let text = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
    STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())
}

/// What is wrong with a secret, without telling it.
pub(crate) fn secret_mistake(secret: &Secret) -> Option<&'static str> {
    let text = secret.expose();
    match text.strip_prefix(SECRET_PREFIX) {
        _ if text.is_empty() => Some("is empty"),
        Some(rest) if STANDARD.decode(rest).map_or(true, |key| key.is_empty()) => {
            Some("must be base64 after whsec_; make one with `echo whsec_$(openssl rand -base64 32)`")
        }
        Some(_) | None if key(secret).len() < KEY_BYTES_MIN => Some(
            "is shorter than 16 bytes, and can be guessed; make one with `echo whsec_$(openssl rand -base64 32)`",
        ),
        Some(_) | None => None,
    }
}

/// One for each key, with a space between: a subscriber is content with any that it can verify.
fn signatures(keys: &[Vec<u8>], id: &str, timestamp: i64, text: &str) -> String {
    let signed: Vec<String> = keys.iter().map(|key| signature(key, id, timestamp, text)).collect();
    signed.join(" ")
}

fn signature(key: &[u8], id: &str, timestamp: i64, text: &str) -> String {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    let mac = mac.chain_update(format!("{id}.{timestamp}.").as_bytes()).chain_update(text.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIFIED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn signed(secrets: &[&str]) -> String {
        let keys: Vec<Vec<u8>> = secrets.iter().map(|text| key(&Secret::new(*text))).collect();
        signatures(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#)
    }

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_signature_is_the_standard_one() {
        assert_eq!(signed(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]), SPECIFIED);
    }

    #[test]
    fn while_a_secret_is_exchanged_both_sign() {
        let both = signed(&["whsec_bmV3LXNlY3JldC1uZXctc2VjcmV0", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
        let parts: Vec<&str> = both.split(' ').collect();
        assert_eq!((parts.len(), parts[1]), (2, SPECIFIED));
        assert_ne!(parts[0], SPECIFIED);
    }

    #[test]
    fn a_secret_that_is_none_is_noticed() {
        assert_eq!(secret_mistake(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")), None);
        assert_eq!(secret_mistake(&Secret::new("any other text that is long")), None);
        assert!(secret_mistake(&Secret::new("too short a one")).is_some());
        assert!(secret_mistake(&Secret::new("whsec_dG9vIHNob3J0")).is_some());
        assert!(secret_mistake(&Secret::new("")).is_some());
        assert!(secret_mistake(&Secret::new("whsec_not base64")).is_some());
        assert!(secret_mistake(&Secret::new("whsec_")).is_some());
    }

    #[test]
    fn an_answer_is_about_the_event_or_about_the_subscriber() {
        let meaning = |status| meaning(StatusCode::from_u16(status).unwrap(), None);
        for status in [200, 202, 204] {
            assert_eq!(meaning(status), Answer::Taken);
        }
        for status in [400, 403, 404, 409, 413, 422] {
            assert!(matches!(meaning(status), Answer::Refused { .. }), "{status}");
        }
        for status in [301, 401, 407, 408, 425, 429] {
            assert!(matches!(meaning(status), Answer::Later { .. }), "{status}");
        }
        for status in [500, 502, 503, 504] {
            assert!(matches!(meaning(status), Answer::Failed { .. }), "{status}");
        }
        let asks_for_rest = super::meaning(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::ZERO));
        assert!(matches!(asks_for_rest, Answer::Later { .. }));
        assert_eq!(meaning(410), Answer::Gone);
    }

    #[test]
    fn a_rest_is_asked_for_in_seconds_or_until_a_date() {
        let now = "2026-11-01T08:00:00Z".parse().unwrap();
        let rest = |text| retry_after(text, now).map(|rest| rest.as_secs());
        assert_eq!(rest("120"), Some(120));
        assert_eq!(rest("Sun, 01 Nov 2026 08:02:00 GMT"), Some(120));
        assert_eq!(rest("Sun, 01 Nov 2026 07:00:00 GMT"), Some(0));
        assert_eq!(rest("999999"), Some(3_600));
        assert_eq!(rest("soon"), None);
    }
}
