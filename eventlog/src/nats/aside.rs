//! What is said beside all questions: by the broker, what it does not permit, and by the client, that it cannot connect. Whoever
//! asks meanwhile only knows that no answer came.

use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{ClientError, Event, ServerError};
use tokio::time::Instant;

use crate::Lately;

/// How the broker begins to say what it does not permit.
const DENIED: &str = "permissions violation";

/// What was said aside on one connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// What was denied last, in the broker's own words: what was to be done, and the subject.
    denied: Option<(Instant, String)>,
    lately: Lately,
}

impl Aside {
    /// Hears what is said. An operator is told of it, once for as long as it lasts.
    pub(super) fn hear(&self, event: &Event) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::ServerError(ServerError::Other(said)) if is_denial(said) => {
                heard.denied = Some((Instant::now(), said.clone()));
                // The last part of a subject is whose event it is, or who is to be answered.
                let family = said.rsplit_once('.').map_or(said.as_str(), |(family, _)| family);
                if heard.lately.is_news(family) {
                    tracing::error!(
                        said,
                        "the broker does not permit its user what rollcall needs; whatever asks for it waits in vain"
                    );
                }
            }
            Event::ClientError(ClientError::Other(said)) if heard.lately.is_news(said) => {
                tracing::warn!(said, "the broker cannot be connected to; trying again");
            }
            _ => {}
        }
    }

    /// What was denied last, in the broker's words, if that was after this moment.
    pub(super) fn denied_since(&self, begun: Instant) -> Option<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.denied.as_ref().filter(|(at, _)| *at >= begun).map(|(_, said)| said.clone())
    }
}

fn is_denial(said: &str) -> bool {
    said.get(..DENIED.len()).is_some_and(|start| start.eq_ignore_ascii_case(DENIED))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_denied_is_known_from_then_on() {
        let (aside, begun) = (Aside::default(), Instant::now());
        aside.hear(&Event::Connected);
        aside.hear(&Event::ServerError(ServerError::Other("maximum connections exceeded".to_string())));
        aside.hear(&Event::ClientError(ClientError::Other("IO error".to_string())));
        assert_eq!(aside.denied_since(begun), None);
        let said = "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.IDENTITY\"".to_string();
        aside.clone().hear(&Event::ServerError(ServerError::Other(said.clone())));
        assert_eq!(aside.denied_since(begun), Some(said));
        assert_eq!(aside.denied_since(Instant::now() + Duration::from_secs(1)), None);
    }
}
