//! A log that costs nothing: a population from its file as fast as it is taken, then what is appended meanwhile.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eventlog::{Append, Error, Log, Message};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::sealed::Sealed;

pub(crate) struct Feed {
    sealed: Sealed,
    live: Arc<Live>,
}

/// What was appended since the file was written.
struct Live {
    messages: Mutex<Vec<Message>>,
    count: watch::Sender<usize>,
}

impl Feed {
    pub(crate) fn open(folder: &Path) -> Self {
        let live = Live { messages: Mutex::default(), count: watch::Sender::new(0) };
        Self { sealed: Sealed::open(folder), live: Arc::new(live) }
    }

    /// The last sequence of the file.
    pub(crate) fn written(&self) -> u64 {
        self.sealed.count
    }

    /// Appends what was made before; its sequence is set here.
    pub(crate) fn push(&self, messages: impl IntoIterator<Item = Message>) -> u64 {
        let mut live = self.live.lock();
        for message in messages {
            let sequence = self.sealed.count + live.len() as u64 + 1;
            live.push(Message { sequence, ..message });
        }
        let count = live.len();
        drop(live);
        self.live.count.send_replace(count);
        self.sealed.count + count as u64
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, place: usize) -> Option<Message> {
        self.lock().get(place).cloned()
    }
}

fn refused<T>(doing: &str) -> Result<T, Error> {
    Err(Error::Refused { doing: doing.to_string(), reason: "this log is only read".to_string() })
}

#[async_trait::async_trait]
impl Log for Feed {
    fn name(&self) -> &str {
        "IDENTITY"
    }

    async fn append(&self, _: Append, _: Instant) -> Result<u64, Error> {
        refused("appending a message")
    }

    async fn append_atomic(&self, _: Vec<Append>, _: Instant) -> Result<Vec<u64>, Error> {
        refused("appending messages")
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        Ok(match sequence.checked_sub(self.sealed.count + 1) {
            None => self.sealed.get(sequence),
            Some(place) => self.live.get(usize::try_from(place).expect("a place")),
        })
    }

    async fn last_on(&self, _: &str) -> Result<Option<Message>, Error> {
        refused("reading the last message of a subject")
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        Ok(self.sealed.count + *self.live.count.borrow() as u64)
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        let place = usize::try_from(from.saturating_sub(self.sealed.count + 1)).expect("a place");
        let following = (self.live.clone(), self.live.count.subscribe(), place);
        let live = stream::unfold(following, |(live, mut count, place)| async move {
            count.wait_for(|count| *count > place).await.ok()?;
            Some((live.get(place)?, (live, count, place + 1)))
        });
        stream::iter(self.sealed.from(from)).chain(live).map(Ok).boxed()
    }

    async fn note(&self, _: &str) -> Result<Option<String>, Error> {
        Ok(None)
    }

    async fn set_note(&self, _: &str, _: &str) -> Result<(), Error> {
        refused("setting a note")
    }
}
