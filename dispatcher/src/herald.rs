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
use futures::{FutureExt, StreamExt};
use tokio::sync::Notify;

use crate::Error;
use passage::Passage;
pub(crate) use passage::{Heard, Step, Steps, Stretch};

/// Events that a voice remembers, and their bytes in the log: resources can be large.
const REMEMBERED: usize = 2_048;
const REMEMBERED_BYTES: usize = 32 * 1024 * 1024;

/// Events that are read before anybody hears them, and their bytes in the log.
const AT_ONCE: usize = 256;
const AT_ONCE_BYTES: usize = 1024 * 1024;

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
    reading: tokio::sync::Mutex<Reading>,
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

struct Reading {
    messages: BoxStream<'static, Result<Message, eventlog::Error>>,
    /// Fetched and not opened: whoever did so was called away, or the key was not to be had.
    fetched: Option<Message>,
    /// Opened and not said yet, for the same reasons.
    opened: Vec<Heard>,
    /// The log ended, or could not be read on.
    is_over: bool,
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
            let reading = Reading::new(self.log.follow(next));
            let said = Mutex::new(Said::from(next));
            let voice = Arc::new(Voice { said, reading: reading.into(), spoke: Notify::new() });
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

    /// The first events at or after a sequence.
    fn after(&self, next: u64) -> Option<Stretch> {
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
    async fn read_on(&self, next: u64, keyring: &Keyring) -> Result<bool, Error> {
        let mut reading = self.reading.lock().await;
        {
            let said = self.said();
            if said.is_over {
                return Ok(false);
            }
            if said.next > next {
                return Ok(true);
            }
        }
        let opened = reading.open(keyring).await;
        let passage = Passage::new(std::mem::take(&mut reading.opened));
        let read = passage.is_some();
        {
            let mut said = self.said();
            passage.into_iter().for_each(|passage| said.add(passage));
            // Whoever asks next hears why from a voice of his own.
            said.is_over = reading.is_over;
        }
        self.spoke.notify_waiters();
        if !read {
            opened?;
        }
        Ok(read)
    }
}

impl Reading {
    fn new(messages: BoxStream<'static, Result<Message, eventlog::Error>>) -> Self {
        Self { messages, fetched: None, opened: Vec::new(), is_over: false }
    }

    /// Waits for what comes next, and opens it and whatever is there already, so that the others are woken once.
    async fn open(&mut self, keyring: &Keyring) -> Result<(), Error> {
        let mut bytes: usize = self.opened.iter().map(|heard| heard.bytes).sum();
        while let Some(message) = self.fetch().await? {
            bytes += message.payload.len();
            self.fetched = Some(message.clone());
            if self.opened.len() >= AT_ONCE || (bytes > AT_ONCE_BYTES && !self.opened.is_empty()) {
                break;
            }
            self.opened.push(open(keyring, message).await?);
            self.fetched = None;
        }
        Ok(())
    }

    /// The next message; nothing when the log ends, or when something is opened and no more is there.
    async fn fetch(&mut self) -> Result<Option<Message>, Error> {
        if let Some(message) = self.fetched.clone() {
            return Ok(Some(message));
        }
        let next = self.messages.next();
        let next = if self.opened.is_empty() { Some(next.await) } else { next.now_or_never() };
        let Some(next) = next else { return Ok(None) };
        self.is_over = !matches!(next, Some(Ok(_)));
        Ok(next.transpose()?)
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
            if !known {
                self.voice = self.herald.voice(self.next);
                continue;
            }
            if let Some(stretch) = stretch {
                self.next = stretch.last() + 1;
                return Ok(Some(stretch));
            }
            // Here this voice knows no more than any other that comes here: all go on with the eldest.
            let eldest = self.herald.voice(self.next);
            if !Arc::ptr_eq(&eldest, &voice) {
                self.voice = eldest;
                continue;
            }
            tokio::select! {
                () = spoke => {}
                read = voice.read_on(self.next, &self.herald.keyring) => if !read? {
                    return Ok(None);
                },
            }
        }
    }
}

/// Reads an event and opens its body, if its key still exists.
pub(crate) async fn open(keyring: &Keyring, message: Message) -> Result<Heard, Error> {
    let (sequence, bytes) = (message.sequence, message.payload.len());
    let unreadable = |source| Error::Event { stream: "IDENTITY", sequence, source };
    let encoded = proto::codec::decode(message.payload).map_err(unreadable)?;
    let body = match encoded.event.key_ref.filter(|_| encoded.is_sealed()) {
        None => None,
        Some(at) => match keyring.key(&encoded.event.tenant, at).await? {
            None => None,
            Some(key) => Some(encoded.open(&key).map_err(unreadable)?),
        },
    };
    Ok(Heard::new(sequence, encoded.event, body, bytes))
}
