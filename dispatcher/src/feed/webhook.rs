//! Posting with a signature, after Standard Webhooks.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::Client;
use sha2::Sha256;

use crate::config::FeedConfig;

/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";

pub(super) struct Webhook {
    client: Client,
    url: String,
    key: Vec<u8>,
}

impl Webhook {
    pub(super) fn new(config: &FeedConfig) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(Duration::from_millis(config.timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url: config.url.to_string(), key: key(config.secret.expose()) })
    }

    /// Posts one event. Anything but 2xx is an error, told without what the subscriber wrote.
    pub(super) async fn post(&self, id: &str, text: &str, now: Timestamp) -> Result<(), String> {
        let timestamp = now.as_second();
        let request = self
            .client
            .post(&self.url)
            .header("Content-Type", "application/cloudevents+json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature(&self.key, id, timestamp, text))
            .body(text.to_string());
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("the subscriber answers {}", response.status().as_u16())),
            Err(error) if error.is_timeout() => Err("no answer in time".to_string()),
            Err(_) => Err("the subscriber cannot be reached".to_string()),
        }
    }
}

/// The bytes of a secret: base64 after the prefix; any other text as it is.
fn key(secret: &str) -> Vec<u8> {
    let text = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn signature(key: &[u8], id: &str, timestamp: i64, text: &str) -> String {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    let mac = mac.chain_update(format!("{id}.{timestamp}.").as_bytes()).chain_update(text.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_signature_is_the_standard_one() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed =
            signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
