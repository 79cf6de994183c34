//! The population into a broker, in atomic batches of which several are under way.

use std::path::Path;
use std::time::Duration;

use eventlog::{Append, Guard, Log, Message, nats};
use futures::StreamExt;
use proto::cloud_events;
use tokio::time::Instant;

use super::sealed::Sealed;

/// What one batch holds at most; the broker takes a thousand messages.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 2 << 20;
/// Batches under way.
const UNDER_WAY: usize = 4;
/// How long one may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes everything that stands in the folder and returns how much it was. Groups come after everybody who is in
/// them.
pub(crate) fn fill(url: &str, work: &Path) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = nats::Config { url: url.to_string(), ..nats::Config::default() };
        let log = nats::connect(&config).await.expect("the broker listens").identity;
        let sealed = Sealed::open(work);
        let mut batches = batches(sealed.from(1)).peekable();
        let is_of_users = |batch: &Vec<Append>| batch.iter().all(|append| append.subject.contains(".User."));
        let users = std::iter::from_fn(|| batches.next_if(is_of_users));
        publish(&*log, users).await;
        publish(&*log, batches).await;
        sealed.count
    })
}

async fn publish(log: &dyn Log, batches: impl Iterator<Item = Vec<Append>>) {
    let send = |batch| log.append_atomic(batch, Instant::now() + PATIENCE);
    let mut sent = futures::stream::iter(batches).map(send).buffered(UNDER_WAY);
    while let Some(sequences) = sent.next().await {
        sequences.expect("the broker takes it");
    }
}

/// Whole commands, as many as fit, and never a user with a group.
fn batches(messages: impl Iterator<Item = Message>) -> impl Iterator<Item = Vec<Append>> {
    let mut appends = messages.map(append).peekable();
    std::iter::from_fn(move || {
        let (first, _) = appends.next()?;
        let of_user = first.subject.contains(".User.");
        let mut bytes = first.payload.len();
        let mut batch = vec![first];
        while let Some((next, follows)) = appends.peek() {
            let fits = batch.len() < BATCH_MESSAGES && bytes + next.payload.len() <= BATCH_BYTES;
            let alike = next.subject.contains(".User.") == of_user;
            if !(*follows || fits && alike) {
                break;
            }
            bytes += next.payload.len();
            batch.extend(appends.next().map(|(append, _)| append));
        }
        Some(batch)
    })
}

/// What is appended, and whether it belongs to the command before it.
fn append(message: Message) -> (Append, bool) {
    let event = proto::codec::decode(message.payload.clone()).expect("an event").event;
    let follows = event.key_ref.is_none();
    let append = Append {
        subject: message.subject,
        guard: if follows { Guard::None } else { Guard::Last(0) },
        id: event.id,
        payload: message.payload,
        headers: cloud_events::headers(&event).into(),
    };
    (append, follows)
}
