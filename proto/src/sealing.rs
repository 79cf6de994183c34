//! Data keys, and how they are wrapped: master key → tenant key → data key.
//!
//! What is sealed is sealed by XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): HChaCha20 makes a key of its own of the key
//! and the nonce's first 16 bytes, ChaCha20-Poly1305 of RFC 8439 does the rest.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use ring::aead;
use zeroize::Zeroize;

use crate::wire::keys as wire;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 24;

/// What sealing adds to a text.
const TAG_BYTES: usize = 16;

/// A nonce; never used twice under one key, which chance makes sure of at this size.
pub type Nonce = [u8; NONCE_BYTES];

/// The bytes do not open under this key: another key, another envelope, or damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes do not open under this key")]
pub struct Unopened;

/// A key: of one resource's events, of a tenant, or the master key.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey([u8; KEY_BYTES]);

impl DataKey {
    /// The key that these bytes are.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The key that 64 hexadecimal digits are.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// Seals a text; whoever opens it must show the same associated data.
    pub fn seal(&self, nonce: &Nonce, plain: &[u8], associated: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(plain.len() + TAG_BYTES);
        text.extend_from_slice(plain);
        self.seal_in_place(nonce, &mut text, associated);
        text
    }

    /// Opens what [`DataKey::seal`] made.
    pub fn open(&self, nonce: &[u8], sealed: &[u8], associated: &[u8]) -> Result<Vec<u8>, Unopened> {
        let nonce: Nonce = nonce.try_into().map_err(|_| Unopened)?;
        let mut text = sealed.to_vec();
        self.open_in_place(&nonce, &mut text, associated)?;
        Ok(text)
    }

    /// The same as [`DataKey::seal`] where the text stands.
    pub fn seal_in_place(&self, nonce: &Nonce, text: &mut Vec<u8>, associated: &[u8]) {
        let sealed = self.cipher(nonce).and_then(|(cipher, nonce)| {
            let associated = aead::Aad::from(associated);
            cipher.seal_in_place_append_tag(nonce, associated, text).map_err(|_| Unopened)
        });
        // The cipher refuses only texts beyond 256 GiB, which no message can hold; nothing may pass for sealed that is not.
        if sealed.is_err() {
            text.clear();
        }
    }

    /// The same as [`DataKey::open`] where the text stands; what does not open is left as it may be.
    pub fn open_in_place(
        &self,
        nonce: &Nonce,
        sealed: &mut Vec<u8>,
        associated: &[u8],
    ) -> Result<(), Unopened> {
        let (cipher, nonce) = self.cipher(nonce)?;
        let opened = cipher.open_in_place(nonce, aead::Aad::from(associated), sealed);
        let length = opened.map_err(|_| Unopened)?.len();
        sealed.truncate(length);
        Ok(())
    }

    /// The cipher of one text, and what is left of its nonce.
    fn cipher(&self, nonce: &Nonce) -> Result<(aead::LessSafeKey, aead::Nonce), Unopened> {
        let (first, last) = nonce.split_first_chunk::<16>().ok_or(Unopened)?;
        let mut key = chacha20::hchacha::<chacha20::R20>(&self.0.into(), &(*first).into());
        let unbound = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &key).map_err(|_| Unopened);
        key.zeroize();
        let mut rest = [0; aead::NONCE_LEN];
        let (_, end) = rest.split_at_mut_checked(aead::NONCE_LEN - last.len()).ok_or(Unopened)?;
        end.copy_from_slice(last);
        Ok((aead::LessSafeKey::new(unbound?), aead::Nonce::assume_unique_for_key(rest)))
    }
}

impl Drop for DataKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Writes a tenant's key under the master key.
pub fn wrap_tenant_key(key: &DataKey, master: &DataKey, nonce: &Nonce, tenant: &str) -> Bytes {
    let wrapped = master.seal(nonce, &key.0, tenant.as_bytes());
    wire::TenantKey { nonce: nonce.to_vec().into(), wrapped: wrapped.into() }.encode_to_vec().into()
}

/// Reads a tenant's key.
pub fn unwrap_tenant_key(bytes: &[u8], master: &DataKey, tenant: &str) -> Result<DataKey, Unopened> {
    let wrapped = wire::TenantKey::decode(bytes).map_err(|_| Unopened)?;
    key(master.open(&wrapped.nonce, &wrapped.wrapped, tenant.as_bytes())?)
}

/// Writes a page of data keys under a tenant's key.
pub fn wrap_page(keys: &[(DataKey, Nonce)], tenant_key: &DataKey, page: &str) -> Bytes {
    let keys = keys
        .iter()
        .enumerate()
        .map(|(slot, (key, nonce))| wire::WrappedKey {
            nonce: nonce.to_vec().into(),
            wrapped: tenant_key.seal(nonce, &key.0, place(page, slot).as_bytes()).into(),
        })
        .collect();
    wire::Page { keys }.encode_to_vec().into()
}

/// Reads a page; the place of an erased key is empty.
pub fn unwrap_page(bytes: &[u8], tenant_key: &DataKey, page: &str) -> Result<Vec<Option<DataKey>>, Unopened> {
    let wrapped = wire::Page::decode(bytes).map_err(|_| Unopened)?;
    wrapped
        .keys
        .iter()
        .enumerate()
        .map(|(slot, wrapped)| {
            if wrapped.wrapped.is_empty() {
                return Ok(None);
            }
            key(tenant_key.open(&wrapped.nonce, &wrapped.wrapped, place(page, slot).as_bytes())?).map(Some)
        })
        .collect()
}

fn place(page: &str, slot: usize) -> String {
    format!("{page}.{slot}")
}

fn key(bytes: Vec<u8>) -> Result<DataKey, Unopened> {
    bytes.try_into().map(DataKey).map_err(|_| Unopened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_and_the_same_envelope_open() {
        let key = DataKey::new([7; 32]);
        let sealed = key.seal(&[1; 24], b"text", b"envelope");
        assert_eq!(key.open(&[1; 24], &sealed, b"envelope").unwrap(), b"text");
        assert!(key.open(&[1; 24], &sealed, b"other").is_err());
        assert!(key.open(&[2; 24], &sealed, b"envelope").is_err());
        assert!(DataKey::new([8; 32]).open(&[1; 24], &sealed, b"envelope").is_err());
        assert_eq!(format!("{key:?}"), "***");
        let mut text = b"text".to_vec();
        key.seal_in_place(&[1; 24], &mut text, b"envelope");
        assert_eq!(text, sealed);
        assert!(key.open_in_place(&[1; 24], &mut text.clone(), b"other").is_err());
        key.open_in_place(&[1; 24], &mut text, b"envelope").unwrap();
        assert_eq!(text, b"text");
    }

    /// Appendix A.3.1 of the draft.
    #[test]
    fn it_is_the_cipher_that_others_know_by_its_name() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let key = DataKey::new(std::array::from_fn(|place| 0x80 + place as u8));
        let nonce: Nonce = std::array::from_fn(|place| 0x40 + place as u8);
        let associated = hex("50515253c0c1c2c3c4c5c6c7");
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let sealed = [
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb",
            "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452",
            "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9",
            "21f9664c97637da9768812f615c68b13b52e",
            "c0875924c1c7987947deafd8780acf49",
        ];
        assert_eq!(key.seal(&nonce, text, &associated), hex(&sealed.concat()));
        assert_eq!(key.open(&nonce, &hex(&sealed.concat()), &associated).unwrap(), text);
    }

    #[test]
    fn what_is_too_short_or_damaged_does_not_open() {
        let (key, nonce) = (DataKey::new([7; 32]), [1; 24]);
        let sealed = key.seal(&nonce, b"", b"");
        assert_eq!((sealed.len(), key.open(&nonce, &sealed, b"").unwrap().len()), (TAG_BYTES, 0));
        assert!(key.open(&nonce, &sealed[1..], b"").is_err() && key.open(&nonce, b"", b"").is_err());
        assert!(key.open(&nonce[1..], &sealed, b"").is_err());
        for place in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[place] ^= 1;
            assert!(key.open(&nonce, &damaged, b"").is_err(), "{place}");
        }
    }

    #[test]
    fn pages_wrap_and_unwrap() {
        let (master, tenant) = (DataKey::new([1; 32]), DataKey::new([2; 32]));
        let bytes = wrap_tenant_key(&tenant, &master, &[9; 24], "corp");
        assert_eq!(unwrap_tenant_key(&bytes, &master, "corp").unwrap(), tenant);
        assert!(unwrap_tenant_key(&bytes, &master, "other").is_err());
        let keys: Vec<(DataKey, Nonce)> = (0..4).map(|n| (DataKey::new([n; 32]), [n; 24])).collect();
        let page = wrap_page(&keys, &tenant, "page");
        let read = unwrap_page(&page, &tenant, "page").unwrap();
        assert_eq!(read[3].as_ref(), Some(&keys[3].0));
        assert!(unwrap_page(&page, &tenant, "another").is_err());
    }
}
