//! Cursors of RFC 9865: a place in a list, sealed, so that a client can neither read nor forge one. Nothing is kept on
//! the server; any gateway of the house continues what another began.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use eventlog::clock;
use jiff::Timestamp;
use projector::Place;
use proto::sealing::{DataKey, NONCE_BYTES};
use proto::subject::SubjectSecret;
use scim::ScimType;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a cursor says.
#[derive(Deserialize, Serialize)]
struct Content {
    place: Place,
    count: usize,
    /// How far the gateway was that gave the page.
    #[serde(default)]
    seen: u64,
    /// Seconds since the epoch.
    expires: i64,
}

/// Makes and reads cursors.
pub(crate) struct Cursors {
    key: DataKey,
    timeout: Duration,
}

impl Cursors {
    pub(crate) fn new(secret: &SubjectSecret, timeout: Duration) -> Self {
        let key = Sha256::new().chain_update(b"rollcall cursors").chain_update(secret.as_bytes()).finalize();
        Self { key: DataKey::new(key.into()), timeout }
    }

    /// A cursor that continues this question after this place.
    pub(crate) fn seal(
        &self,
        question: &str,
        place: &Place,
        count: usize,
        seen: u64,
        now: Timestamp,
    ) -> Result<String, eventlog::Error> {
        let expires = now.as_second().saturating_add_unsigned(self.timeout.as_secs());
        let content = Content { place: place.clone(), count, seen, expires };
        let plain = serde_json::to_vec(&content).unwrap_or_default();
        let nonce = clock::random::<NONCE_BYTES>()?;
        let mut bytes = nonce.to_vec();
        bytes.extend(self.key.seal(&nonce, &plain, question.as_bytes()));
        Ok(BASE64URL_NOPAD.encode(&bytes))
    }

    /// The place that a cursor continues after, and how far the log was known then. Forged, foreign and damaged ones are told apart from nothing.
    pub(crate) fn open(
        &self,
        question: &str,
        cursor: &str,
        count: usize,
        now: Timestamp,
    ) -> Result<(Place, u64), ScimType> {
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).map_err(|_| ScimType::InvalidCursor)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or(ScimType::InvalidCursor)?;
        let plain = self.key.open(nonce, sealed, question.as_bytes()).map_err(|_| ScimType::InvalidCursor)?;
        let content: Content = serde_json::from_slice(&plain).map_err(|_| ScimType::InvalidCursor)?;
        if content.expires < now.as_second() {
            return Err(ScimType::ExpiredCursor);
        }
        if content.count != count {
            return Err(ScimType::InvalidCount);
        }
        Ok((content.place, content.seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scim::SortKey;

    #[test]
    fn a_cursor_continues_its_own_question_only_and_not_for_ever() {
        let cursors = Cursors::new(&SubjectSecret::new([5; 32]), Duration::from_secs(60));
        let place: Place = serde_json::from_str(r#"{"key": null, "created": 7}"#).unwrap();
        let now = clock::now();
        let cursor = cursors.seal("corp", &place, 10, 7, now).unwrap();
        assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        assert_eq!(cursors.open("corp", &cursor, 10, now).map(|(_, seen)| seen), Ok(7));
        let refused =
            |question, cursor: &str, count, now| cursors.open(question, cursor, count, now).unwrap_err();
        assert_eq!(refused("other", &cursor, 10, now), ScimType::InvalidCursor);
        assert_eq!(refused("corp", &cursor[1..], 10, now), ScimType::InvalidCursor);
        assert_eq!(refused("corp", "", 10, now), ScimType::InvalidCursor);
        assert_eq!(refused("corp", &cursor, 11, now), ScimType::InvalidCount);
        let later = now + jiff::SignedDuration::from_secs(61);
        assert_eq!(refused("corp", &cursor, 10, later), ScimType::ExpiredCursor);
    }

    /// With every kind of key, and with none: what is read as another key is another place in the list.
    #[test]
    fn a_place_is_opened_as_it_was_sealed() {
        let cursors = Cursors::new(&SubjectSecret::new([5; 32]), Duration::from_secs(60));
        let keys = [
            serde_json::to_string(&SortKey::of_text(None)).unwrap(),
            serde_json::to_string(&SortKey::of_text(Some("ada".to_string()))).unwrap(),
            serde_json::to_string(&SortKey::of_instant(clock::now())).unwrap(),
            r#"{"Number":0.30000000000000004}"#.to_string(),
            "null".to_string(),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == key), Some(index), "{key} is written twice");
            let place: Place = serde_json::from_str(&format!(r#"{{"key": {key}, "created": 7}}"#)).unwrap();
            let cursor = cursors.seal("corp", &place, 10, 7, clock::now()).unwrap();
            let (opened, _) = cursors.open("corp", &cursor, 10, clock::now()).unwrap();
            assert_eq!(serde_json::to_string(&opened).unwrap(), format!(r#"{{"key":{key},"created":7}}"#));
        }
    }
}
