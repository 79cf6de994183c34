//! Subjects: the only place that builds or reads them. No personal data stands in a subject.

use std::fmt;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::{InvalidId, ResourceId, Tenant};

/// Subjects of the stream IDENTITY.
pub const IDENTITY: &str = "identity.>";
/// Subjects of the stream PROVISIONING.
pub const PROVISIONING: &str = "provisioning.>";
/// Subjects of the stream CONTROL.
pub const CONTROL: &str = "control.>";

/// Bytes of the keyed hash that stand in a key.
const HASH_BYTES: usize = 16;

/// What turns names into keys. Made once; with another one, every name would be free again.
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectSecret([u8; 32]);

impl SubjectSecret {
    /// The secret that these bytes are.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What may be shown of it: 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::new().chain_update(b"rollcall subject secret").chain_update(self.0).finalize();
        let hex = HEXLOWER.encode(&digest);
        hex.get(..16).unwrap_or_default().to_string()
    }
}

impl fmt::Debug for SubjectSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Letters of the longest key.
const KEY_MAX: usize = 32;

/// The last part of a subject of IDENTITY, the boundary of consistency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    length: u8,
    letters: [u8; KEY_MAX],
}

/// A key without its letters.
pub type PackedKey = [u8; 17];

impl Key {
    /// Letters and digits only, no more than fit.
    fn of(text: &str) -> Self {
        let mut letters = [0; KEY_MAX];
        letters.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Self { length: u8::try_from(text.len().min(KEY_MAX)).unwrap_or_default(), letters }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let letters = self.letters.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(letters).unwrap_or_default()
    }

    /// Reads a key.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let valid = matches!(text.len(), 26 | KEY_MAX)
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if valid { Ok(Self::of(text)) } else { Err(InvalidId::new("subject key", text)) }
    }

    /// The key in 17 bytes; nothing for a text that neither [`key_of_value`] nor [`key_of_id`] could have made.
    pub fn pack(&self) -> Option<PackedKey> {
        let mut packed = [0; 17];
        let (form, bytes) = packed.split_first_mut()?;
        let mut letters = self.letters;
        let letters = letters.get_mut(..usize::from(self.length))?;
        let decoded = if letters.len() == 26 {
            letters.make_ascii_uppercase();
            BASE32_NOPAD.decode_mut(letters, bytes).is_ok()
        } else {
            *form = 1;
            HEXLOWER.decode_mut(letters, bytes).is_ok()
        };
        decoded.then_some(packed)
    }

    /// The key that was packed.
    pub fn unpack(packed: &PackedKey) -> Self {
        let (form, bytes) = (packed[0], &packed[1..]);
        let mut key = Self { length: if form == 0 { 26 } else { 32 }, letters: [0; KEY_MAX] };
        if let Some(letters) = key.letters.get_mut(..usize::from(key.length)) {
            if form == 0 {
                BASE32_NOPAD.encode_mut(bytes, letters);
                letters.make_ascii_lowercase();
            } else {
                HEXLOWER.encode_mut(bytes, letters);
            }
        }
        key
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.as_str())
    }
}

/// The key of a unique value: a keyed hash of its compared form.
pub fn key_of_value(secret: &SubjectSecret, tenant: &Tenant, resource_type: &str, value: &str) -> Key {
    hashed(secret, &[tenant.as_str(), "\0", resource_type, "\0", &scim::fold(value)])
}

/// The key of a further unique value, in the form in which it is compared; never the key of a main one, because no
/// tenant's name is empty.
pub fn key_of_claim(
    secret: &SubjectSecret,
    tenant: &Tenant,
    resource_type: &str,
    attribute: &str,
    compared: &str,
) -> Key {
    hashed(secret, &["\0", tenant.as_str(), "\0", resource_type, "\0", attribute, "\0", compared])
}

/// The key of what a request makes, of a type that has no unique attribute: the same request has the same keys, one for each
/// turn in which it makes something. Never the key of a value, because no tenant's name begins with a zero.
pub fn key_of_request(
    secret: &SubjectSecret,
    tenant: &Tenant,
    resource_type: &str,
    request: &str,
    turn: u8,
) -> Key {
    let turn = turn.to_string();
    hashed(secret, &["\0\0", tenant.as_str(), "\0", resource_type, "\0", &turn, "\0", request])
}

fn hashed(secret: &SubjectSecret, parts: &[&str]) -> Key {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(&secret.0) else {
        // HMAC takes keys of any length.
        return Key::of("");
    };
    let hash = parts.iter().fold(mac, |mac, part| mac.chain_update(part.as_bytes())).finalize().into_bytes();
    let short = hash.get(..HASH_BYTES).unwrap_or_default();
    Key::of(&BASE32_NOPAD.encode(short).to_ascii_lowercase())
}

/// The key of a resource whose type has no unique attribute.
pub fn key_of_id(id: ResourceId) -> Key {
    let mut letters = uuid::Uuid::encode_buffer();
    Key::of(id.uuid().simple().encode_lower(&mut letters))
}

/// A subject of IDENTITY.
pub fn identity(tenant: &Tenant, resource_type: &str, key: &Key) -> String {
    format!("identity.{tenant}.{resource_type}.{}", key.as_str())
}

/// Reads a subject of IDENTITY.
pub fn parse_identity(subject: &str) -> Result<(Tenant, String, Key), InvalidId> {
    let invalid = || InvalidId::new("subject of IDENTITY", subject);
    match subject.split('.').collect::<Vec<_>>().as_slice() {
        ["identity", tenant, resource_type, key] => {
            Ok((tenant.parse()?, (*resource_type).to_string(), Key::parse(key)?))
        }
        _ => Err(invalid()),
    }
}

/// A subject of PROVISIONING.
pub fn provisioning(tenant: &Tenant, app: &str, resource_type: &str, id: ResourceId) -> String {
    format!("provisioning.{tenant}.{app}.{resource_type}.{}", id.uuid().simple())
}

/// Reads a subject of PROVISIONING.
pub fn parse_provisioning(subject: &str) -> Result<(Tenant, String, String, ResourceId), InvalidId> {
    let invalid = || InvalidId::new("subject of PROVISIONING", subject);
    match subject.split('.').collect::<Vec<_>>().as_slice() {
        ["provisioning", tenant, app, resource_type, id] => {
            let id = uuid::Uuid::try_parse(id).map_err(|_| invalid())?;
            let id = ResourceId::new(id);
            Ok((tenant.parse()?, (*app).to_string(), (*resource_type).to_string(), id))
        }
        _ => Err(invalid()),
    }
}

/// Every subject of one app in PROVISIONING.
pub fn provisioning_of_app(tenant: &Tenant, app: &str) -> String {
    format!("provisioning.{tenant}.{app}.>")
}

/// The subjects of one resource at every app in PROVISIONING.
pub fn provisioning_of_resource(tenant: &Tenant, resource_type: &str, id: ResourceId) -> String {
    format!("provisioning.{tenant}.*.{resource_type}.{}", id.uuid().simple())
}

/// The name of the tenant whose subject it is, in any of the streams; empty where there is none.
pub fn tenant_of(subject: &str) -> &str {
    subject.split('.').nth(1).unwrap_or_default()
}

/// Whether a subject is one of those that a pattern means: `*` is any one word, `>` all that follow.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(word)) if wanted == word => {}
            (_, _) => return false,
        }
    }
    words.next().is_none()
}

/// A subject of CONTROL.
pub fn control(tenant: &Tenant, kind: &str) -> String {
    format!("control.{tenant}.{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_subjects() {
        assert!(matches("a.*.c", "a.b.c") && matches("a.>", "a.b.c") && matches("a.b", "a.b"));
        assert!(!matches("a.*", "a.b.c") && !matches("a.b.c", "a.b") && !matches("a.>", "a"));
    }

    #[test]
    fn keys_are_packed_and_unpacked() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let corp = "corp".parse().unwrap();
        for key in [key_of_id(id), key_of_value(&SubjectSecret::new([3; 32]), &corp, "User", "ada")] {
            assert_eq!(Key::unpack(&key.pack().unwrap()), key);
        }
        for strange in ["a".repeat(25) + "1", "z".repeat(32)] {
            assert_eq!(Key::parse(&strange).unwrap().pack(), None, "{strange}");
        }
    }

    #[test]
    fn a_key_names_nobody_and_ignores_case() {
        let secret = SubjectSecret::new([3; 32]);
        let (corp, other) = ("corp".parse().unwrap(), "other".parse().unwrap());
        let key = key_of_value(&secret, &corp, "User", "Ada@Example.test");
        assert_eq!(key, key_of_value(&secret, &corp, "User", "ada@example.TEST"));
        assert_ne!(key, key_of_value(&secret, &other, "User", "ada@example.test"));
        assert_ne!(key, key_of_value(&SubjectSecret::new([4; 32]), &corp, "User", "ada@example.test"));
        assert_eq!(key.as_str().len(), 26);
        let subject = identity(&corp, "User", &key);
        assert_eq!(parse_identity(&subject).unwrap(), (corp, "User".to_string(), key));
        assert!(parse_identity("identity.corp.User").is_err());
        assert!(parse_identity("identity.corp.User.*").is_err());
        assert_eq!(format!("{secret:?}"), "***");
    }

    /// Keys stand in logs for ever.
    #[test]
    fn keys_never_change() {
        let key = key_of_value(&SubjectSecret::new([3; 32]), &"corp".parse().unwrap(), "User", "Straße");
        assert_eq!(key.as_str(), "iajvvgfgru3t7x2s5erhvootqq");
        assert_eq!(SubjectSecret::new([3; 32]).fingerprint(), "b2037f0069e8b49d");
        let corp = "corp".parse().unwrap();
        let claim = key_of_claim(&SubjectSecret::new([3; 32]), &corp, "User", "urn:x:y:number", "17");
        assert_eq!(claim.as_str(), "qohg4czmhia5iyqojmkiruwo5e");
    }
}
