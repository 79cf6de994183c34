//! What the broker does not permit us. It says so aside and leaves the question without an answer, so whoever asked only
//! knows that nothing came.

use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{Event, ServerError};
use tokio::time::Instant;

use crate::Lately;

/// How the broker begins to say it.
const BEGINNING: &str = "permissions violation";

/// What was denied on one connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Denied(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// The broker's own words: what was to be done, and the subject.
    last: Option<(Instant, String)>,
    lately: Lately,
}

impl Denied {
    /// Hears what the broker says aside. An operator is told of it, since whatever was asked for will not be done.
    pub(super) fn hear(&self, event: &Event) {
        let Event::ServerError(ServerError::Other(said)) = event else { return };
        if !said.get(..BEGINNING.len()).is_some_and(|start| start.eq_ignore_ascii_case(BEGINNING)) {
            return;
        }
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.last = Some((Instant::now(), said.clone()));
        // The last part of a subject is whose event it is, or who is to be answered.
        let family = said.rsplit_once('.').map_or(said.as_str(), |(family, _)| family);
        if heard.lately.is_news(family) {
            tracing::error!(
                said,
                "the broker does not permit its user what rollcall needs; whatever asks for it waits in vain"
            );
        }
    }

    /// What was denied last, in the broker's words, if that was after this moment.
    pub(super) fn since(&self, begun: Instant) -> Option<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.last.as_ref().filter(|(at, _)| *at >= begun).map(|(_, said)| said.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_denied_is_known_from_then_on() {
        let (denied, begun) = (Denied::default(), Instant::now());
        denied.hear(&Event::Connected);
        denied.hear(&Event::ServerError(ServerError::Other("maximum connections exceeded".to_string())));
        assert_eq!(denied.since(begun), None);
        let said = "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.IDENTITY\"".to_string();
        denied.clone().hear(&Event::ServerError(ServerError::Other(said.clone())));
        assert_eq!(denied.since(begun), Some(said));
        assert_eq!(denied.since(Instant::now() + std::time::Duration::from_secs(1)), None);
    }
}
