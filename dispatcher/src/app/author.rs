//! Who had a configuration applied: whoever did cannot let go what holds it.

use futures::StreamExt;
use proto::control::{self, Kind};

use crate::Error;
use crate::Shared;

/// The last one who had an app's configuration of this hash applied in a running process, as CONTROL has it; nothing when a
/// process was started with it.
pub(super) async fn author(shared: &Shared, app: &str, hash: &str) -> Result<Option<String>, Error> {
    let control = &shared.broker.control;
    let (last, named) = (control.last_sequence().await?, format!("app/{app}"));
    if last == 0 {
        return Ok(None);
    }
    let (mut messages, mut author) = (control.follow(1), None);
    while let Some(message) = messages.next().await.transpose()? {
        let sequence = message.sequence;
        let event = control::decode(message.payload).map_err(|source| Error::Event {
            stream: "CONTROL",
            sequence,
            source,
        })?;
        if let Kind::ConfigurationApplied { subject, hash: applied } = &event.kind
            && *subject == named
            && applied == hash
        {
            author = Some(event.actor);
        }
        if sequence >= last {
            break;
        }
    }
    Ok(author)
}
