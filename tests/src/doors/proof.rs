//! What a token endpoint takes for proof of who asks.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;
use url::form_urlencoded;

/// Our name at every token endpoint.
pub const CLIENT_ID: &str = "rollcall:corp";
/// How long an assertion may live, in seconds.
const ASSERTION_MAX_S: u64 = 60;

/// What a token endpoint takes for proof.
#[derive(Clone, Debug)]
pub enum Proof {
    /// `client_secret_basic`.
    Basic(String),
    /// `client_secret_post`.
    Post(String),
    /// `private_key_jwt` by the owner of this public P-256 key.
    Key(Vec<u8>),
    /// The connection's certificate: whoever is connected has one.
    Certificate,
}

impl Proof {
    /// Whether a request proves it. An assertion may be used once.
    pub(super) fn holds(
        &self,
        url: &str,
        headers: &HeaderMap,
        form: &str,
        used: &mut BTreeSet<String>,
    ) -> bool {
        let field = |name: &str| {
            let mut fields = form_urlencoded::parse(form.as_bytes());
            fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        let is_asked_for = field("grant_type") == "client_credentials";
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_ours = field("client_id") == CLIENT_ID && shown.is_empty();
        is_asked_for
            && match self {
                Self::Basic(secret) => {
                    let encoded =
                        |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                    let pair = format!("{}:{}", encoded(CLIENT_ID), encoded(secret));
                    shown == format!("Basic {}", STANDARD.encode(pair)) && field("client_secret").is_empty()
                }
                Self::Post(secret) => is_ours && field("client_secret") == *secret,
                Self::Certificate => is_ours && field("client_secret").is_empty(),
                Self::Key(public) => is_ours && is_signed(public, &field("client_assertion"), url, used),
            }
    }
}

fn is_signed(public: &[u8], assertion: &str, url: &str, used: &mut BTreeSet<String>) -> bool {
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let Some((text, signature)) = assertion.rsplit_once('.') else { return false };
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
    if key.verify(text.as_bytes(), &decoded(signature)).is_err() {
        return false;
    }
    let claims = text.split_once('.').map(|(_, claims)| decoded(claims)).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "a server that is not ours has its own clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let lives = claims["exp"].as_u64().is_some_and(|end| end > now && end <= now + ASSERTION_MAX_S);
    claims["iss"] == CLIENT_ID
        && claims["sub"] == CLIENT_ID
        && claims["aud"] == url
        && lives
        && claims["jti"].as_str().is_some_and(|id| used.insert(id.to_string()))
}
