//! Reading IDENTITY once for everybody: an event is fetched, decoded and opened a single time, however many apps and feeds
//! it concerns.
//!
//! A voice reads the log from some sequence on and remembers the last passages: events that were read in one go. Whoever
//! listens asks for what comes after the last event that he heard; if the voice does not know it yet, one of the listeners
//! reads on for all. Whoever is so far behind that the voice has forgotten what he needs gets a voice of his own, and joins
//! the others when he has caught up.

mod passage;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use eventlog::{Keyring, Log, Message};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use proto::codec::Encoded;
use proto::{Body, Event, Kind};
use tokio::sync::Notify;

use crate::Error;
use passage::Passage;
pub(crate) use passage::{Heard, Step, Steps, Stretch};

/// Events that a voice remembers, and their bytes in the log: resources can be large.
const REMEMBERED: usize = 2_048;
const REMEMBERED_BYTES: usize = 32 * 1024 * 1024;

/// Events of a passage, and their bytes in the log: larger by one event at most.
const PASSAGE: usize = 256;
const PASSAGE_BYTES: usize = 1024 * 1024;
/// From so many events on a passage is opened beside the reading of the next, and so many at once.
const ASIDE_FROM: usize = 32;
const ASIDE_MAX: usize = 2;

/// All voices. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Herald {
    log: Arc<dyn Log>,
    keyring: Keyring,
    voices: Arc<Mutex<Vec<Weak<Voice>>>>,
}

/// Somebody who hears every event once, in order.
pub(crate) struct Listener {
    herald: Herald,
    voice: Arc<Voice>,
    /// The first sequence that was not heard yet.
    next: u64,
}

struct Voice {
    said: Mutex<Said>,
    passages: tokio::sync::Mutex<BoxStream<'static, Read>>,
    spoke: Notify,
}

/// What a voice remembers: every event of the log from `first` to before `next`.
struct Said {
    first: u64,
    next: u64,
    passages: VecDeque<Arc<Passage>>,
    events: usize,
    bytes: usize,
    /// It reads no more.
    is_over: bool,
}

/// What was read in one go, and why no more comes after it.
#[derive(Default)]
struct Read {
    passage: Option<Passage>,
    error: Option<Error>,
}

impl Herald {
    pub(crate) fn new(log: Arc<dyn Log>, keyring: Keyring) -> Self {
        Self { log, keyring, voices: Arc::default() }
    }

    /// Listens from a sequence on.
    pub(crate) fn listen(&self, from: u64) -> Listener {
        Listener { herald: self.clone(), voice: self.voice(from), next: from }
    }

    /// The eldest voice that knows what comes at this sequence, or comes to it next; else a new one.
    fn voice(&self, next: u64) -> Arc<Voice> {
        let mut voices = self.voices.lock().unwrap_or_else(PoisonError::into_inner);
        voices.retain(|voice| voice.strong_count() > 0);
        let known = voices.iter().filter_map(Weak::upgrade).find(|voice| voice.said().knows(next));
        known.unwrap_or_else(|| {
            let passages = passages(self.log.follow(next), self.keyring.clone()).into();
            let voice = Arc::new(Voice { said: Said::from(next).into(), passages, spoke: Notify::new() });
            voices.push(Arc::downgrade(&voice));
            voice
        })
    }
}

impl Said {
    /// Nothing yet.
    fn from(next: u64) -> Self {
        Self { first: next, next, passages: VecDeque::new(), events: 0, bytes: 0, is_over: false }
    }

    fn knows(&self, next: u64) -> bool {
        !self.is_over && self.first <= next && next <= self.next
    }

    /// The first events at or after a sequence, as far as they are remembered.
    fn after(&self, next: u64) -> Option<Stretch> {
        if next < self.first {
            return None;
        }
        let place = self.passages.partition_point(|passage| passage.last() < next);
        Stretch::new(self.passages.get(place)?.clone(), next)
    }

    fn add(&mut self, passage: Passage) {
        self.next = passage.last() + 1;
        self.bytes += passage.bytes;
        self.events += passage.len();
        self.passages.push_back(Arc::new(passage));
        // The last one is remembered, however large it is.
        while (self.events > REMEMBERED || self.bytes > REMEMBERED_BYTES)
            && self.passages.len() > 1
            && let Some(forgotten) = self.passages.pop_front()
        {
            self.bytes -= forgotten.bytes;
            self.events -= forgotten.len();
            self.first = forgotten.last() + 1;
        }
    }
}

impl Voice {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a passage, unless somebody else did so meanwhile. Says whether there may be more.
    async fn read_on(&self, next: u64) -> Result<bool, Error> {
        let mut passages = self.passages.lock().await;
        {
            let said = self.said();
            if said.is_over {
                return Ok(false);
            }
            if said.next > next {
                return Ok(true);
            }
        }
        let Read { passage, error } = passages.next().await.unwrap_or_default();
        let read = passage.is_some();
        {
            let mut said = self.said();
            passage.into_iter().for_each(|passage| said.add(passage));
            // Whoever asks next hears why from a voice of his own.
            said.is_over = !read || error.is_some();
        }
        self.spoke.notify_waiters();
        match error {
            Some(error) if !read => Err(error),
            Some(_) | None => Ok(read),
        }
    }
}

/// Opens what a log tells, many events beside the reading of the next ones. It ends with the log, or after an error.
fn passages(
    messages: BoxStream<'static, Result<Message, eventlog::Error>>,
    keyring: Keyring,
) -> BoxStream<'static, Read> {
    let chunks = stream::unfold(Some(messages), |messages| async {
        let mut messages = messages?;
        let (mut chunk, mut bytes, mut ended) = (Vec::new(), 0, None);
        // The first is waited for; what is there already comes with it, so that whoever listens is woken once.
        let mut next = messages.next().await;
        loop {
            match next {
                None => return (!chunk.is_empty()).then_some(((chunk, ended), None)),
                Some(Err(error)) => {
                    ended = Some(error);
                    return Some(((chunk, ended), None));
                }
                Some(Ok(message)) => {
                    bytes += message.payload.len();
                    chunk.push(message);
                }
            }
            if chunk.len() >= PASSAGE || bytes >= PASSAGE_BYTES {
                return Some(((chunk, ended), Some(messages)));
            }
            next = match messages.next().now_or_never() {
                Some(next) => next,
                None => return Some(((chunk, ended), Some(messages))),
            };
        }
    });
    chunks.map(move |(chunk, ended)| open_all(keyring.clone(), chunk, ended)).buffered(ASIDE_MAX).boxed()
}

async fn open_all(keyring: Keyring, messages: Vec<Message>, ended: Option<eventlog::Error>) -> Read {
    let aside = messages.len() >= ASIDE_FROM;
    let work = async move {
        let (mut events, mut error) = (Vec::with_capacity(messages.len()), ended.map(Error::from));
        for message in messages {
            match hear(&keyring, message).await {
                Ok(heard) => events.push(heard),
                Err(unread) => {
                    error = Some(unread);
                    break;
                }
            }
        }
        Read { passage: Passage::new(events), error }
    };
    if !aside {
        return work.await;
    }
    match tokio::spawn(work).await {
        Ok(read) => read,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process ends.
            Err(_) => std::future::pending().await,
        },
    }
}

impl Listener {
    /// What comes next; nothing when the log ends. What the broker cannot do now can be asked for again. Nothing is lost
    /// when it is not waited for to its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Stretch>, Error> {
        loop {
            let voice = self.voice.clone();
            let spoke = voice.spoke.notified();
            let (known, stretch) = {
                let said = voice.said();
                (said.knows(self.next), said.after(self.next))
            };
            // Also when it reads no more: what came before an error is heard.
            if let Some(stretch) = stretch {
                self.next = stretch.last() + 1;
                return Ok(Some(stretch));
            }
            if !known {
                self.voice = self.herald.voice(self.next);
                continue;
            }
            // Here this voice knows no more than any other that comes here: all go on with the eldest.
            let eldest = self.herald.voice(self.next);
            if !Arc::ptr_eq(&eldest, &voice) {
                self.voice = eldest;
                continue;
            }
            tokio::select! {
                () = spoke => {}
                read = voice.read_on(self.next) => if !read? {
                    return Ok(None);
                },
            }
        }
    }
}

/// Reads an event. Whom it affects depends on what is sealed in it only when somebody is changed.
async fn hear(keyring: &Keyring, message: Message) -> Result<Heard, Error> {
    let (sequence, bytes) = (message.sequence, message.payload.len());
    let encoded = decode(message)?;
    let body = match encoded.event.kind {
        Kind::Updated { .. } => body(keyring, sequence, &encoded).await?,
        Kind::Created { .. }
        | Kind::MembersChanged { .. }
        | Kind::Deleted
        | Kind::TenantDropped
        | Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased
        | Kind::PassedOver => None,
    };
    Ok(Heard::new(sequence, encoded.event, body, bytes))
}

/// Reads an event and opens its body, if its key still exists.
pub(crate) async fn open(keyring: &Keyring, message: Message) -> Result<(Event, Option<Body>), Error> {
    let sequence = message.sequence;
    let encoded = decode(message)?;
    let body = body(keyring, sequence, &encoded).await?;
    Ok((encoded.event, body))
}

fn decode(message: Message) -> Result<Encoded, Error> {
    let Message { sequence, payload, .. } = message;
    proto::codec::decode(payload).map_err(|source| Error::Event { stream: "IDENTITY", sequence, source })
}

async fn body(keyring: &Keyring, sequence: u64, encoded: &Encoded) -> Result<Option<Body>, Error> {
    let Some(at) = encoded.event.key_ref.filter(|_| encoded.is_sealed()) else { return Ok(None) };
    let Some(key) = keyring.key(&encoded.event.tenant, at).await? else { return Ok(None) };
    let unreadable = |source| Error::Event { stream: "IDENTITY", sequence, source };
    encoded.open(&key).map(Some).map_err(unreadable)
}
