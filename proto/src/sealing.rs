//! Data keys, and how they are wrapped: master key → tenant key → data key.

use std::fmt;

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, AeadInOut, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use prost::Message;
use zeroize::Zeroize;

use crate::wire::keys as wire;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 24;

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
        let cipher = XChaCha20Poly1305::new(&self.0.into());
        // The cipher refuses only texts beyond 256 GiB, which no message can hold.
        cipher.encrypt(&(*nonce).into(), Payload { msg: plain, aad: associated }).unwrap_or_default()
    }

    /// Opens what [`DataKey::seal`] made.
    pub fn open(&self, nonce: &[u8], sealed: &[u8], associated: &[u8]) -> Result<Vec<u8>, Unopened> {
        let nonce: Nonce = nonce.try_into().map_err(|_| Unopened)?;
        let cipher = XChaCha20Poly1305::new(&self.0.into());
        cipher.decrypt(&nonce.into(), Payload { msg: sealed, aad: associated }).map_err(|_| Unopened)
    }

    /// The same as [`DataKey::seal`] where the text stands.
    pub fn seal_in_place(&self, nonce: &Nonce, text: &mut Vec<u8>, associated: &[u8]) {
        let cipher = XChaCha20Poly1305::new(&self.0.into());
        if cipher.encrypt_in_place(&(*nonce).into(), associated, text).is_err() {
            // As above; nothing may pass for sealed that is not.
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
        let cipher = XChaCha20Poly1305::new(&self.0.into());
        cipher.decrypt_in_place(&(*nonce).into(), associated, sealed).map_err(|_| Unopened)
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
