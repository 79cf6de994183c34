//! The same logs and buckets in memory, with seeded faults: for tests that need a broker's answers but not a broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Append, Broker, Bucket, Error, Guard, Health, Log, Message, clock};

/// Faults, chosen by a seed that a failing test prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The seed; 0 means no faults.
    pub seed: u64,
}

impl Faults {
    /// Whether fault number `count` happens: about one in eight.
    fn strikes(self, count: u64) -> bool {
        let mixed =
            (self.seed ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.seed != 0 && (mixed >> 40).is_multiple_of(8)
    }
}

/// A broker in memory.
pub fn broker(faults: Faults) -> Broker {
    let log = |name: &str| Arc::new(MemoryLog::new(name, faults)) as Arc<dyn Log>;
    let bucket = || Arc::new(MemoryBucket::default()) as Arc<dyn Bucket>;
    Broker {
        identity: log("IDENTITY"),
        provisioning: log("PROVISIONING"),
        control: log("CONTROL"),
        keys: bucket(),
        leases: bucket(),
        requests: bucket(),
        completions: bucket(),
        rollcall: bucket(),
        timeline: None,
        health: Arc::new(Always),
    }
}

struct Always;

#[async_trait::async_trait]
impl Health for Always {
    fn reachable(&self) -> bool {
        true
    }

    fn clock_skew_ms(&self) -> i64 {
        0
    }

    async fn verify(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A log in memory.
pub struct MemoryLog {
    name: String,
    faults: Faults,
    inner: Arc<Mutex<Inner>>,
    last: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    messages: Vec<Message>,
    notes: BTreeMap<String, String>,
    appends: u64,
}

impl Inner {
    fn last_on(&self, subject: &str) -> u64 {
        self.messages
            .iter()
            .rev()
            .find(|message| message.subject == subject)
            .map_or(0, |message| message.sequence)
    }

    fn write(&mut self, append: Append) -> u64 {
        let sequence = self.messages.len() as u64 + 1;
        let time = self.messages.last().map_or_else(clock::now, |last| last.time.max(clock::now()));
        let Append { subject, id, payload, .. } = append;
        self.messages.push(Message { sequence, subject, id: Some(id), payload, time });
        sequence
    }

    /// What a broker answers: success, or a conflict unless the message is already there.
    fn attempt(&mut self, appends: &[Append]) -> Result<Vec<u64>, Error> {
        let own = |append: &Append| self.messages.iter().find(|message| message.id == Some(append.id));
        if let Some(first) = appends.first().and_then(own) {
            return Ok((first.sequence..).take(appends.len()).collect());
        }
        for append in appends {
            if let Guard::Last(expected) = append.guard
                && self.last_on(&append.subject) != expected
            {
                return Err(Error::Conflict { at: Some(self.last_on(&append.subject)) });
            }
        }
        Ok(appends.iter().map(|append| self.write(append.clone())).collect())
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new(name: &str, faults: Faults) -> Self {
        Self { name: name.to_string(), faults, inner: Arc::default(), last: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes; a fault loses the acknowledgement, and the writer asks again as it would ask a broker.
    fn write(&self, appends: &[Append]) -> Result<Vec<u64>, Error> {
        let mut inner = self.lock();
        loop {
            inner.appends += 1;
            let lost = self.faults.strikes(inner.appends);
            let result = inner.attempt(appends);
            self.last.send_replace(inner.messages.len() as u64);
            if !lost {
                return result;
            }
        }
    }
}

#[async_trait::async_trait]
impl Log for MemoryLog {
    fn name(&self) -> &str {
        &self.name
    }

    async fn append(&self, append: Append, _deadline: Instant) -> Result<u64, Error> {
        Ok(self.write(&[append])?.first().copied().unwrap_or_default())
    }

    async fn append_atomic(&self, appends: Vec<Append>, _deadline: Instant) -> Result<Vec<u64>, Error> {
        self.write(&appends)
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        let index = usize::try_from(sequence).unwrap_or(usize::MAX).wrapping_sub(1);
        Ok(self.lock().messages.get(index).cloned())
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
        let inner = self.lock();
        Ok(inner.messages.iter().rev().find(|message| message.subject == subject).cloned())
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        Ok(self.lock().messages.len() as u64)
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        let state = (from.max(1), self.inner.clone(), self.last.subscribe());
        futures::stream::unfold(state, |(next, inner, mut last)| async move {
            last.wait_for(|last| *last >= next).await.ok()?;
            let index = usize::try_from(next).ok()?.checked_sub(1)?;
            let message =
                inner.lock().unwrap_or_else(PoisonError::into_inner).messages.get(index).cloned()?;
            Some((Ok(message), (next + 1, inner, last)))
        })
        .boxed()
    }

    async fn note(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.lock().notes.get(name).cloned())
    }

    async fn set_note(&self, name: &str, value: &str) -> Result<(), Error> {
        self.lock().notes.insert(name.to_string(), value.to_string());
        Ok(())
    }
}

/// Each value and its revision.
type Values = BTreeMap<String, (Bytes, u64)>;

/// A bucket in memory.
#[derive(Default)]
pub struct MemoryBucket {
    inner: Mutex<(u64, Values)>,
}

impl MemoryBucket {
    fn set(&self, key: &str, value: Bytes, expected: Option<u64>) -> Result<u64, Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, values) = &mut *inner;
        if values.get(key).map(|(_, revision)| *revision) != expected {
            return Err(Error::Conflict { at: None });
        }
        *last += 1;
        values.insert(key.to_string(), (value, *last));
        Ok(*last)
    }
}

#[async_trait::async_trait]
impl Bucket for MemoryBucket {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Error> {
        Ok(self.inner.lock().unwrap_or_else(PoisonError::into_inner).1.get(key).cloned())
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.set(key, value, None)
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        self.set(key, value, Some(revision))
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        Ok(self.inner.lock().unwrap_or_else(PoisonError::into_inner).1.keys().cloned().collect())
    }

    async fn purge(&self, key: &str) -> Result<(), Error> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).1.remove(key);
        Ok(())
    }
}
