//! A signed assertion of who we are (RFC 7523), for `private_key_jwt`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eventlog::{clock, file};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::Unproven;

/// How long an assertion may be used, in seconds; no server asks for more than a minute.
const LIVES_S: i64 = 60;

/// A key that signs.
pub(super) enum SigningKey {
    /// RS256.
    Rsa(Box<RsaKeyPair>),
    /// ES256.
    P256(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// Reads a PEM file; the error names the file and nothing of what it holds.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text =
            file::bytes(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Self::from_pem(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn from_pem(text: &[u8]) -> Result<Self, &'static str> {
        const UNKNOWN: &str = "is neither an RSA key (2048 bits or more) nor a P-256 key";
        let key = PrivateKeyDer::from_pem_slice(text).map_err(|_| "holds no private key in PEM")?;
        match key {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der())
                .map(|key| Self::Rsa(Box::new(key)))
                .map_err(|_| UNKNOWN),
            PrivateKeyDer::Pkcs8(key) => {
                let bytes = key.secret_pkcs8_der();
                if let Ok(key) = RsaKeyPair::from_pkcs8(bytes) {
                    return Ok(Self::Rsa(Box::new(key)));
                }
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes, &SystemRandom::new())
                    .map(|key| Self::P256(Box::new(key)))
                    .map_err(|_| UNKNOWN)
            }
            PrivateKeyDer::Sec1(_) => {
                Err("is in the form SEC1; write it as PKCS#8: openssl pkcs8 -topk8 -nocrypt")
            }
            _ => Err(UNKNOWN),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, Unproven> {
        let random = SystemRandom::new();
        let failed = |_| Unproven::Unreadable;
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Self::P256(key) => Ok(key.sign(&random, text).map_err(failed)?.as_ref().to_vec()),
        }
    }
}

/// An assertion that may be used once, and not for long.
pub(super) fn sign(
    key: &SigningKey,
    key_id: Option<&str>,
    client_id: &str,
    audience: &str,
) -> Result<String, Unproven> {
    let mut head = json!({"alg": key.algorithm(), "typ": "JWT"});
    if let (Some(key_id), Some(head)) = (key_id, head.as_object_mut()) {
        head.insert("kid".to_string(), key_id.into());
    }
    let now = clock::now().as_second();
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": clock::new_uuid().to_string(),
        "iat": now,
        "exp": now + LIVES_S,
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(head), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes())?);
    Ok(format!("{text}.{signature}"))
}
