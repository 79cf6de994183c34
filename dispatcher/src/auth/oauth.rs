//! OAuth 2.0 client credentials (RFC 6749, section 4.4): an access token for our own credentials.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use url::form_urlencoded::{self, Serializer};

use super::assertion::{self, SigningKey};
use super::{Source, Unproven, basic};
use crate::Secret;
use crate::connector::{NoAnswer, Transport};

/// How long a token lives whose endpoint does not say.
const LIVES: Duration = Duration::from_secs(300);
/// One that lives longer is asked for again once a day.
const LIVES_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What says that an assertion is one (RFC 7523).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The errors of RFC 6749 and RFC 8707 that name no secret; others are told by their status.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
];

/// Where tokens are asked for, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth {
    /// The token endpoint.
    pub token_url: Url,
    /// Who we are there.
    pub client_id: String,
    /// How we prove it.
    pub client: ClientAuth,
    /// What the token shall allow.
    pub scope: Option<String>,
    /// Whom it is for, as some servers ask.
    pub audience: Option<String>,
    /// Whom it is for, after RFC 8707.
    pub resource: Option<String>,
}

/// How we prove who we are at the token endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    SecretBasic(Source),
    /// `client_secret_post`.
    SecretPost(Source),
    /// `private_key_jwt`.
    PrivateKey {
        /// A PEM file: RSA for RS256, P-256 for ES256.
        key: PathBuf,
        /// By what name the server knows the key.
        key_id: Option<String>,
        /// Whom the assertion is for, when that is not the token endpoint.
        audience: Option<String>,
    },
    /// `tls_client_auth`: the certificate of the connection.
    Certificate,
}

/// A token.
pub(super) struct Token {
    pub(super) text: Secret,
    pub(super) lives: Duration,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<Secret>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    error: Option<String>,
}

impl OAuth {
    pub(super) fn mistakes(&self, has_certificate: bool) -> Vec<String> {
        let mut found = Vec::new();
        if !matches!(self.token_url.scheme(), "http" | "https") {
            found.push("token_url: must be http or https".to_string());
        }
        if self.client_id.is_empty() {
            found.push("client_id: is empty".to_string());
        }
        match &self.client {
            ClientAuth::SecretBasic(secret) | ClientAuth::SecretPost(secret) => match secret.read() {
                Err(error) => found.push(format!("client_secret: {error}")),
                Ok(secret) if secret.expose().is_empty() => {
                    found.push("client_secret: is empty".to_string());
                }
                Ok(_) => {}
            },
            ClientAuth::PrivateKey { key, .. } => {
                if let Err(error) = SigningKey::read(key) {
                    found.push(format!("key_file: {error}"));
                }
            }
            ClientAuth::Certificate if !has_certificate => {
                found.push("client_certificate: is needed by tls_client_auth".to_string());
            }
            ClientAuth::Certificate => {}
        }
        found
    }

    /// Asks for a token.
    pub(super) async fn ask(&self, transport: &dyn Transport) -> Result<Token, Unproven> {
        let answer = transport.send(self.request()?).await.map_err(|error| match error {
            NoAnswer::Unauthenticated(refusal) => refusal,
            NoAnswer::Timeout | NoAnswer::Unreachable | NoAnswer::Broken => Unproven::Unreachable,
        })?;
        let status = answer.status();
        // Its own sentences are not told: they can name anything.
        let read: Option<Answer> = serde_json::from_slice(answer.body()).ok();
        if !status.is_success() {
            let named = read.and_then(|answer| answer.error).unwrap_or_default();
            if named == "invalid_client" || (named.is_empty() && status == StatusCode::UNAUTHORIZED) {
                return Err(Unproven::InvalidClient);
            }
            let known = ERRORS.into_iter().find(|known| *known == named);
            return Err(known.map_or(Unproven::Answers(status.as_u16()), Unproven::Refused));
        }
        let read = read.ok_or(Unproven::NoToken)?;
        let is_bearer = read.token_type.is_none_or(|name| name.eq_ignore_ascii_case("bearer"));
        let text = read.access_token.filter(|text| is_bearer && !text.expose().is_empty());
        // Some servers write the number as a text.
        let seconds = read.expires_in.and_then(|value| match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        });
        let lives = seconds.map_or(LIVES, Duration::from_secs).min(LIVES_MAX);
        Ok(Token { text: text.ok_or(Unproven::NoToken)?, lives })
    }

    fn request(&self) -> Result<Request<Bytes>, Unproven> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let asked = [("scope", &self.scope), ("audience", &self.audience), ("resource", &self.resource)];
        for (name, value) in asked {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.token_url.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        match &self.client {
            ClientAuth::SecretBasic(secret) => {
                let (user, secret) = (encoded(&self.client_id), encoded(secret.read_now()?.expose()));
                let mut value =
                    http::HeaderValue::try_from(basic(&user, &secret)).map_err(|_| Unproven::Unsendable)?;
                value.set_sensitive(true);
                request = request.header(header::AUTHORIZATION, value);
            }
            ClientAuth::SecretPost(secret) => {
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_secret", secret.read_now()?.expose());
            }
            ClientAuth::PrivateKey { key, key_id, audience } => {
                let audience = audience.as_deref().unwrap_or(self.token_url.as_str());
                let key = SigningKey::read(key).map_err(|error| {
                    tracing::error!(error, "a signing key cannot be read");
                    Unproven::Unreadable
                })?;
                let signed = assertion::sign(&key, key_id.as_deref(), &self.client_id, audience)?;
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_assertion_type", ASSERTION_TYPE);
                form.append_pair("client_assertion", &signed);
            }
            ClientAuth::Certificate => drop(form.append_pair("client_id", &self.client_id)),
        }
        request.body(Bytes::from(form.finish())).map_err(|_| Unproven::Unsendable)
    }
}

/// RFC 6749, section 2.3.1: form encoding comes before base64.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
