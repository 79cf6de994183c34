//! Reading IDENTITY once for everybody: an event is fetched, decoded and opened a single time, however many apps and feeds
//! it concerns.
//!
//! A voice reads the log from some sequence on and remembers the last events. Whoever listens asks for the next event after
//! the last one that he heard; if the voice does not know it yet, one of the listeners reads on for all. Whoever is so far
//! behind that the voice has forgotten what he needs gets a voice of his own, and joins the others when he has caught up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use eventlog::{Keyring, Log, Message};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use proto::{Body, Event, ResourceId};
use tokio::sync::Notify;

use crate::Error;

/// Events that a voice remembers, and their bytes in the log: resources can be large.
const REMEMBERED: usize = 1_024;
const REMEMBERED_BYTES: usize = 32 * 1024 * 1024;

/// Events that are read before anybody hears them.
const AT_ONCE: usize = 256;
/// Events that a listener takes at once, and their bytes in the log.
const TAKEN: usize = 64;
const TAKEN_BYTES: usize = 1024 * 1024;

/// An event of IDENTITY, opened as far as its key still exists.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) sequence: u64,
    pub(crate) event: Event,
    pub(crate) body: Option<Body>,
    /// Its length in the log.
    bytes: usize,
    /// Who names the resource, once somebody looked it up: it is the same for all apps, and whoever changes it later does
    /// so by an event of his own.
    naming: OnceLock<Vec<ResourceId>>,
}

impl Heard {
    /// Who names the resource, looked up for all by the first who asks once the directory is as far as the event.
    pub(crate) fn naming(&self, look_up: impl FnOnce() -> Vec<ResourceId>) -> &[ResourceId] {
        self.naming.get_or_init(look_up)
    }
}

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
    /// The first sequence that was not taken from the voice yet.
    next: u64,
    /// Taken and not heard yet.
    taken: VecDeque<Arc<Heard>>,
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
    events: VecDeque<Arc<Heard>>,
    bytes: usize,
    /// It reads no more.
    is_over: bool,
}

struct Reading {
    messages: BoxStream<'static, Result<Message, eventlog::Error>>,
    /// Fetched and not opened: whoever did so was called away, or the key was not to be had.
    fetched: Option<Message>,
}

impl Herald {
    pub(crate) fn new(log: Arc<dyn Log>, keyring: Keyring) -> Self {
        Self { log, keyring, voices: Arc::default() }
    }

    /// Listens from a sequence on.
    pub(crate) fn listen(&self, from: u64) -> Listener {
        Listener { herald: self.clone(), voice: self.voice(from), next: from, taken: VecDeque::new() }
    }

    /// The eldest voice that knows what comes at this sequence, or comes to it next; else a new one.
    fn voice(&self, next: u64) -> Arc<Voice> {
        let mut voices = self.voices.lock().unwrap_or_else(PoisonError::into_inner);
        voices.retain(|voice| voice.strong_count() > 0);
        let known = voices.iter().filter_map(Weak::upgrade).find(|voice| voice.said().knows(next));
        known.unwrap_or_else(|| {
            let reading = Reading { messages: self.log.follow(next), fetched: None };
            let said = Said { first: next, next, events: VecDeque::new(), bytes: 0, is_over: false };
            let voice =
                Arc::new(Voice { said: Mutex::new(said), reading: reading.into(), spoke: Notify::new() });
            voices.push(Arc::downgrade(&voice));
            voice
        })
    }
}

impl Said {
    fn knows(&self, next: u64) -> bool {
        !self.is_over && self.first <= next && next <= self.next
    }

    /// The first events at or after a sequence.
    fn from(&self, next: u64) -> VecDeque<Arc<Heard>> {
        let place = self.events.partition_point(|heard| heard.sequence < next);
        let mut bytes = 0;
        let mut fits = |heard: &Arc<Heard>| {
            bytes += heard.bytes;
            bytes <= TAKEN_BYTES || bytes == heard.bytes
        };
        self.events.iter().skip(place).take(TAKEN).take_while(|heard| fits(heard)).cloned().collect()
    }

    fn add(&mut self, heard: Heard) {
        self.next = heard.sequence + 1;
        self.bytes += heard.bytes;
        self.events.push_back(Arc::new(heard));
        // The last one is remembered, however large it is.
        while (self.events.len() > REMEMBERED || self.bytes > REMEMBERED_BYTES)
            && self.events.len() > 1
            && let Some(forgotten) = self.events.pop_front()
        {
            self.bytes -= forgotten.bytes;
            self.first = forgotten.sequence + 1;
        }
    }
}

impl Voice {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one more event, unless somebody else did so meanwhile. Says whether there may be more.
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
        let mut fetched = match reading.fetched.clone() {
            Some(message) => Some(message),
            None => reading.messages.next().await.transpose().inspect_err(|_| self.end())?,
        };
        let mut read = 0;
        // What is there already is read in one go, so that the others are woken once.
        while let Some(message) = fetched {
            reading.fetched = Some(message.clone());
            let heard = open(keyring, message).await?;
            reading.fetched = None;
            self.said().add(heard);
            read += 1;
            fetched = match reading.messages.next().now_or_never() {
                Some(Some(Ok(message))) if read < AT_ONCE => Some(message),
                Some(Some(Ok(message))) => {
                    reading.fetched = Some(message);
                    None
                }
                Some(Some(Err(_)) | None) => {
                    // Whoever asks next hears of it from a voice of his own.
                    self.end();
                    None
                }
                None => None,
            };
        }
        if read == 0 {
            self.end();
        }
        self.spoke.notify_waiters();
        Ok(read > 0)
    }

    fn end(&self) {
        self.said().is_over = true;
        self.spoke.notify_waiters();
    }
}

impl Listener {
    /// The next event; nothing when the log ends. What the broker cannot do now can be asked for again. Nothing is lost
    /// when it is not waited for to its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<Heard>>, Error> {
        loop {
            if let Some(heard) = self.taken.pop_front() {
                return Ok(Some(heard));
            }
            let voice = self.voice.clone();
            let spoke = voice.spoke.notified();
            let (known, taken) = {
                let said = voice.said();
                (said.knows(self.next), said.from(self.next))
            };
            if !known {
                self.voice = self.herald.voice(self.next);
                continue;
            }
            if let Some(last) = taken.back() {
                self.next = last.sequence + 1;
                self.taken = taken;
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
    Ok(Heard { sequence, event: encoded.event, body, bytes, naming: OnceLock::new() })
}

#[cfg(test)]
mod tests;
