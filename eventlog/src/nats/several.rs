//! Many messages of a subject at once: one question, which any replica answers from what it holds (a batch of direct gets).
//!
//! A replica can be behind, and an answer can be cut off, so what is told here is only how the truth begins: where it ends is
//! asked of the leader.

use std::time::Duration;

use async_nats::header::NATS_LAST_SEQUENCE;
use async_nats::jetstream::message::StreamMessage;
use futures::StreamExt;
use serde_json::json;

use super::log::{NatsLog, from_stream};
use crate::Message;

/// Messages that are asked for at once, and their bytes.
const ASKED_MAX: usize = 500;
const ASKED_BYTES_MAX: usize = 4 << 20;
/// How long the next one is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first messages at or after a sequence whose subject is this one, or one of this pattern: without a gap, but perhaps not
/// all that are there, and none where anything is wrong.
pub(super) async fn told(log: &NatsLog, subject: &str, from: u64) -> Vec<Message> {
    let mut messages = Vec::new();
    let client = &log.client;
    let asked = json!({
        "seq": from.max(1), "next_by_subj": subject, "batch": ASKED_MAX, "max_bytes": ASKED_BYTES_MAX,
    });
    let inbox = client.new_inbox();
    let Ok(mut answers) = client.subscribe(inbox.clone()).await else { return messages };
    let question = format!("$JS.API.DIRECT.GET.{}", log.name);
    if client.publish_with_reply(question, inbox, asked.to_string().into()).await.is_err() {
        return messages;
    }
    while let Ok(Some(answer)) = tokio::time::timeout(PATIENCE, answers.next()).await {
        // A status says that this was all, or why there is nothing.
        let Some(headers) = answer.headers.as_ref().filter(|_| answer.status.is_none()) else { break };
        let before = headers.get_last(NATS_LAST_SEQUENCE).and_then(|before| before.as_str().parse().ok());
        let expected: Option<u64> = messages.last().map(|last: &Message| last.sequence);
        if expected.is_some() && before != expected {
            break;
        }
        let Ok(message) = StreamMessage::try_from(answer) else { break };
        messages.push(from_stream(message));
    }
    messages
}
