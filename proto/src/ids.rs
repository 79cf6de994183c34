//! Names of things: tenants, resources, events, positions, versions, keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct InvalidId {
    what: &'static str,
    text: String,
}

impl InvalidId {
    pub(crate) fn new(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, text: text.into() }
    }
}

/// A tenant's name: lower-case letters, digits and hyphens, 1 to 63, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(String);

impl Tenant {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tenant {
    /// The tenant of a message that names none.
    pub(crate) fn nobody() -> Self {
        Self("nobody".to_string())
    }
}

impl FromStr for Tenant {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(|byte| letter(byte) || byte == b'-')
            && text.bytes().next().is_some_and(letter);
        if valid {
            Ok(Self(text.to_string()))
        } else {
            Err(InvalidId::new("tenant name (lower-case letters, digits, hyphens)", text))
        }
    }
}

impl TryFrom<String> for Tenant {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! uuid_id {
    ($name:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The id that this UUID is.
            pub fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            pub fn uuid(&self) -> Uuid {
                self.0
            }

            /// The id that these 16 bytes are.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
                Uuid::from_slice(bytes)
                    .map(Self)
                    .map_err(|_| InvalidId::new($what, format!("{} bytes", bytes.len())))
            }

            /// The 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Only the form with hyphens and lower-case letters, so that one resource has one spelling.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match Uuid::try_parse(text) {
                    Ok(uuid) if uuid.hyphenated().to_string() == text => Ok(Self(uuid)),
                    Ok(_) | Err(_) => Err(InvalidId::new($what, text)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }
    };
}

uuid_id!(ResourceId, "resource id", "A resource's id, a UUIDv7; given by this service, never reused.");
uuid_id!(EventId, "event id", "An event's id, a UUIDv7; also the broker's message id.");

/// A place in a log: the sequence, and the id of the event that stands there, so that another timeline is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Position {
    /// The stream's sequence.
    pub sequence: u64,
    /// The event at that sequence.
    pub event: EventId,
}

/// `meta.version` and the ETag: the event that last changed what a client reads of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    sequence: u64,
    /// The last four bytes of the event's id, which are random.
    tail: u32,
}

impl Version {
    /// The version that the event at this position makes.
    pub fn new(position: Position) -> Self {
        let [.., a, b, c, d] = *position.event.as_bytes();
        Self { sequence: position.sequence, tail: u32::from_be_bytes([a, b, c, d]) }
    }

    /// The version that [`Version::sequence`] and [`Version::tail`] told of.
    pub fn from_parts(sequence: u64, tail: u32) -> Self {
        Self { sequence, tail }
    }

    /// The sequence of the event.
    pub fn sequence(self) -> u64 {
        self.sequence
    }

    /// What tells events apart that stood at this sequence in different histories.
    pub fn tail(self) -> u32 {
        self.tail
    }

    /// Appends the opaque part of its entity tag: `42-1f3a57cc`.
    pub fn put_opaque(self, out: &mut Vec<u8>) {
        let mut digits = [b'0'; 20];
        let (mut rest, mut begin) = (self.sequence, digits.len() - 1);
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            (rest, begin) = (rest / 10, place);
            if rest == 0 {
                break;
            }
        }
        out.extend_from_slice(digits.get(begin..).unwrap_or_default());
        out.push(b'-');
        for shift in (0..8).rev() {
            let digit = self.tail >> (4 * shift) & 0xf;
            out.extend(char::from_digit(digit, 16).and_then(|digit| u8::try_from(digit).ok()));
        }
    }

    /// Whether a header's entity tag means this version. Weak comparison: `W/` makes no difference.
    pub fn is(self, tag: &str) -> bool {
        let opaque = tag.trim().trim_start_matches("W/").trim_matches('"');
        opaque == format!("{}-{:08x}", self.sequence, self.tail)
    }
}

impl FromStr for Version {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let opaque = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?.strip_suffix('"')?;
            let (sequence, tail) = opaque.split_once('-')?;
            let read = Self { sequence: sequence.parse().ok()?, tail: u32::from_str_radix(tail, 16).ok()? };
            read.is(opaque).then_some(read)
        };
        parse().ok_or_else(|| InvalidId::new("version", text))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "W/\"{}-{:08x}\"", self.sequence, self.tail)
    }
}

/// Where a data key stands: a page and a slot in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef {
    /// The page.
    pub page: Uuid,
    /// The slot.
    pub slot: u8,
}

impl FromStr for KeyRef {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (page, slot) = text.split_once('.')?;
            Some(Self { page: Uuid::try_parse(page).ok()?, slot: slot.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidId::new("key reference", text))
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.page.simple(), self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_alike_however_it_is_written() {
        for (sequence, tail) in [(0, 0), (7, 0xf), (42, 0x1f3a_57cc), (100, u32::MAX), (u64::MAX, 0xa0)] {
            let version = Version::from_parts(sequence, tail);
            let mut opaque = b"W/\"".to_vec();
            version.put_opaque(&mut opaque);
            opaque.push(b'"');
            assert_eq!(String::from_utf8(opaque).unwrap(), version.to_string());
            assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        }
    }

    #[test]
    fn tenants_fit_into_subjects_and_paths() {
        for good in ["corp", "a", "0-x", &"a".repeat(63)] {
            assert!(good.parse::<Tenant>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "Corp", "a.b", "a*", "a b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Tenant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_resource_has_one_spelling() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(id.parse::<ResourceId>().unwrap().to_string(), id);
        assert!(id.to_uppercase().parse::<ResourceId>().is_err());
        assert!(id.replace('-', "").parse::<ResourceId>().is_err());
    }

    #[test]
    fn versions_compare_weakly() {
        let event = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let version = Version::new(Position { sequence: 7, event });
        assert_eq!(version.to_string(), "W/\"7-099a8057\"");
        assert!(version.is("W/\"7-099a8057\"") && version.is("\"7-099a8057\"") && version.is("7-099a8057"));
        assert!(!version.is("\"7-00000000\"") && !version.is("\"8-099a8057\""));
    }
}
