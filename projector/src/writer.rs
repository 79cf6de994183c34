//! Writing behind: a thread of its own moves rows from the tail into the store; a store in memory needs only a task, so that
//! a simulation stays on one thread and in its own time.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::behind::Behind;
use crate::store::{Doubt, Facts};
use crate::tail::Batch;
use crate::{Error, Projection};

/// How often the tail is written.
pub(crate) const WRITE_INTERVAL: Duration = Duration::from_millis(200);
/// So many batches are flushed together.
const BATCHES: usize = 4;
/// How often to look whether the store answers the writer.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A store that does not answer for so long will not answer at all, unless it waits for room.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Who writes; whoever it is writes all that is left when it is told to end.
pub(crate) enum Writer {
    Thread(Thread),
    Task(Task),
}

/// A thread, and how it ends.
pub(crate) struct Thread {
    projection: Projection,
    /// It is told to end when this is gone.
    stop: Option<Sender<()>>,
    ended: oneshot::Receiver<Result<(), Error>>,
}

/// Ends with whoever holds it.
pub(crate) struct Task {
    projection: Projection,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Writer {
    pub(crate) fn start(projection: Projection) -> Result<Self, Error> {
        let unread = |doubt: Doubt| projection.folder_error(format!("its facts cannot be read: {doubt}"));
        let facts = projection.inner.store.facts().map_err(unread)?;
        if projection.inner.store.is_memory() {
            let writing = projection.clone();
            let running = tokio::spawn(async move {
                let mut facts = facts;
                loop {
                    tokio::time::sleep(WRITE_INTERVAL).await;
                    let _ = write_all(&writing, &mut facts);
                }
            });
            return Ok(Self::Task(Task { projection, running }));
        }
        let behind = Behind::new(projection.clone(), tokio::runtime::Handle::current(), facts);
        Ok(Self::Thread(Thread::start(projection, move |stopped| behind.run(stopped))?))
    }

    /// Waits until it cannot go on, which it never should.
    pub(crate) async fn failed(&mut self) -> Error {
        match self {
            Self::Task(_) => std::future::pending().await,
            Self::Thread(thread) => match thread.ended().await {
                Err(error) => error,
                Ok(()) => thread.projection.folder_error("its writer ended before its time".to_string()),
            },
        }
    }

    /// Has everything written that is left.
    pub(crate) async fn finish(self) -> Result<(), Error> {
        match self {
            Self::Task(task) => {
                task.running.abort();
                let mut facts = task.projection.inner.store.facts().unwrap_or_default();
                let _ = write_all(&task.projection, &mut facts);
                let _ = task.projection.inner.store.flush();
                Ok(())
            }
            Self::Thread(mut thread) => {
                thread.stop = None;
                thread.ended().await
            }
        }
    }
}

impl Thread {
    fn start(
        projection: Projection,
        work: impl FnOnce(&Receiver<()>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let named = std::thread::Builder::new().name("projection-writer".to_string());
        // Who panics sends nothing, which is told as well.
        let started = named.spawn(move || end.send(work(&stopped)));
        started.map_err(|error| projection.folder_error(format!("no thread can be started: {error}")))?;
        Ok(Self { projection, stop: Some(stop), ended })
    }

    /// How it ended. A store that holds it up for ever is not waited for.
    async fn ended(&mut self) -> Result<(), Error> {
        loop {
            let error = match tokio::time::timeout(LOOK_INTERVAL, &mut self.ended).await {
                Ok(Ok(result)) => return result,
                Ok(Err(_gone)) => {
                    "its writer panicked; start this process again: it reads from the log what is not written"
                        .to_string()
                }
                Err(_elapsed) => match self.silence().await {
                    Some(silence) => format!(
                        "the store has not answered for {} s; start this process again: it reads from the log what is not \
                         written",
                        silence.as_secs()
                    ),
                    None => continue,
                },
            };
            return Err(self.projection.folder_error(error));
        }
    }

    /// How long the store has been silent, when that is too long. Before the end it may be silent for want of room.
    async fn silence(&self) -> Option<Duration> {
        let (inner, ends) = (self.projection.inner.clone(), self.stop.is_none());
        let silence = inner.stall.silence();
        if silence < LOOK_INTERVAL {
            return None;
        }
        let look = move || {
            inner.store.wake();
            silence >= SILENCE_MAX && (ends || inner.store.has_room())
        };
        tokio::task::spawn_blocking(look).await.is_ok_and(|is_stuck| is_stuck).then_some(silence)
    }
}

/// Writes everything that the log has confirmed by now. What is written leaves the tail only once it is flushed: a store
/// whose disk fails loses what came after that. The facts are those that are flushed.
pub(crate) fn write_all(projection: &Projection, facts: &mut Facts) -> Result<(), Doubt> {
    let (inner, goal) = (&projection.inner, projection.state().confirmed);
    loop {
        let mut batches = 0;
        let (written, failed) = write_to(goal, facts.clone(), |facts| {
            batches += 1;
            if batches > BATCHES { Ok(None) } else { write_once(projection, facts) }
        });
        if let Some(doubt) = failed {
            return Err(doubt);
        }
        let Some(position) = written.position.filter(|_| written.position != facts.position) else {
            return Ok(());
        };
        // One in memory loses nothing while it is used, and is flushed at its end.
        if !inner.store.is_memory() {
            inner.stall.during(|| inner.store.flush())?;
        }
        *facts = written;
        let (gone, left) = {
            let mut state = projection.state_mut();
            (state.tail.written(position.sequence), state.tail.len())
        };
        inner.written.notify_one();
        drop(gone);
        metrics::gauge!("rollcall_projection_tail_rows").set(left as f64);
    }
}

/// Batch after batch until a sequence. While a history is read more comes all the time, and images must have their turn.
fn write_to(
    goal: u64,
    mut facts: Facts,
    mut write: impl FnMut(&Facts) -> Result<Option<Facts>, Doubt>,
) -> (Facts, Option<Doubt>) {
    while facts.position.is_none_or(|position| position.sequence < goal) {
        match write(&facts) {
            Ok(Some(written)) => facts = written,
            Ok(None) => break,
            Err(error) => return (facts, Some(error)),
        }
    }
    (facts, None)
}

/// One batch; nothing when the tail holds nothing more that the log confirmed.
fn write_once(projection: &Projection, facts: &Facts) -> Result<Option<Facts>, Doubt> {
    let batch = {
        let state = projection.state();
        state.tail.batch(facts.position.map_or(0, |position| position.sequence), state.confirmed)
    };
    let Some(Batch { rows, dropped, position }) = batch else { return Ok(None) };
    let written = facts.with(&rows, &dropped, position);
    let inner = &projection.inner;
    inner.stall.during(|| {
        inner.store.write(&rows, &written)?;
        dropped.iter().try_for_each(|(tenant, sequence)| inner.store.drop_before(tenant, *sequence))
    })?;
    Ok(Some(written))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use std::sync::Arc;

    use bytes::Bytes;
    use eventlog::Keyring;
    use eventlog::memory::{self, Faults};
    use jiff::Timestamp;
    use proto::sealing::DataKey;
    use proto::subject::key_of_id;
    use proto::{Event, EventId, Kind, Position, ResourceId, Tenant};
    use scim::Registry;

    use super::*;
    use crate::directory::ColumnNumber;
    use crate::row::{ReadRow, Row};
    use crate::state::Told;
    use crate::{Config, MemoryStore, Storage};

    /// A directory of which nothing is known yet.
    pub(crate) async fn projection() -> Projection {
        projection_in(Storage::Memory(MemoryStore::default())).await
    }

    /// The same, with its rows there.
    pub(crate) async fn projection_in(storage: Storage) -> Projection {
        let broker = memory::broker(Faults::default());
        let config = Config {
            storage,
            cache_bytes: 8 << 20,
            hot_bytes: 0,
            indexed: Vec::new(),
            until: None,
            restored_at: None,
        };
        let keyring = Keyring::new(broker.keys, DataKey::new([1; 32]));
        let registry = Arc::new(Registry::built_in().unwrap());
        Projection::open(config, broker.identity, keyring, registry).await.unwrap()
    }

    /// The log tells of an event, whose resource has these values in indexes.
    pub(crate) fn told(
        tenant: &Tenant,
        sequence: u64,
        kind: Kind,
        values: Vec<(ColumnNumber, String)>,
    ) -> Told {
        let (id, time) = (uuid::Uuid::from_u128(sequence.into()), Timestamp::UNIX_EPOCH);
        let event = Event {
            id: EventId::new(id),
            tenant: tenant.clone(),
            resource_type: "User".to_string(),
            resource_id: ResourceId::new(id),
            source: String::new(),
            actor: String::new(),
            txn: String::new(),
            occurred_at: time,
            reason: String::new(),
            key_ref: None,
            continued: false,
            kind,
        };
        let row = Row { sequence, time, key: key_of_id(event.resource_id), payload: Bytes::new() };
        let read = Box::new(ReadRow { row, event, content: None, values });
        Told::New { read, broker: time, own: false }
    }

    #[tokio::test]
    async fn a_writer_that_panics_is_noticed_at_once_and_at_the_end() {
        let projection = projection().await;
        let panics = |_: &Receiver<()>| panic!("on purpose");
        let mut writer = Writer::Thread(Thread::start(projection.clone(), panics).unwrap());
        let error = writer.failed().await;
        assert!(matches!(error, Error::Folder { .. }) && error.to_string().contains("panicked"), "{error}");
        let panics_at_the_end = |stopped: &Receiver<()>| {
            let _ = stopped.recv();
            panic!("on purpose")
        };
        let writer = Writer::Thread(Thread::start(projection, panics_at_the_end).unwrap());
        assert!(writer.finish().await.is_err_and(|error| error.to_string().contains("panicked")));
    }

    #[tokio::test]
    async fn a_writer_that_ends_before_its_time_is_noticed_and_one_that_was_told_to_is_well() {
        let projection = projection().await;
        let mut writer = Writer::Thread(Thread::start(projection.clone(), |_| Ok(())).unwrap());
        assert!(matches!(writer.failed().await, Error::Folder { .. }));
        let waits = |stopped: &Receiver<()>| {
            let _ = stopped.recv();
            Ok(())
        };
        let writer = Writer::Thread(Thread::start(projection, waits).unwrap());
        assert!(writer.finish().await.is_ok());
    }

    #[tokio::test]
    async fn a_store_that_never_answers_is_not_waited_for() {
        let projection = projection().await;
        let (held, release) = mpsc::channel::<()>();
        let waiting = projection.clone();
        let waits = move |_: &Receiver<()>| {
            let _ = waiting.inner.stall.during_since(SILENCE_MAX, || release.recv());
            Ok(())
        };
        let writer = Writer::Thread(Thread::start(projection, waits).unwrap());
        let error = writer.finish().await.unwrap_err();
        assert!(error.to_string().contains("has not answered for 6"), "{error}");
        drop(held);
    }

    #[tokio::test]
    async fn a_dropped_tenant_has_its_room_given_back() {
        let (projection, tenant) = (projection().await, "corp".parse().unwrap());
        let told = |sequence: u64, kind: Kind| told(&tenant, sequence, kind, Vec::new());
        let (mut facts, inner) = (Facts::default(), projection.inner.clone());
        let created = told(1, Kind::Created { members_added: Vec::new() });
        projection.state_mut().hear(vec![created], true).unwrap();
        write_all(&projection, &mut facts).unwrap();
        assert!(facts.position.is_some() && !facts.reclaims);
        projection.state_mut().hear(vec![told(2, Kind::TenantDropped)], true).unwrap();
        write_all(&projection, &mut facts).unwrap();
        assert!(facts.reclaims && inner.store.facts().unwrap().reclaims);
    }

    #[test]
    fn what_comes_meanwhile_is_left_for_the_next_time() {
        let at = |sequence: u64| {
            let event = EventId::new(uuid::Uuid::from_u128(sequence.into()));
            Facts::default().with(&BTreeMap::new(), &BTreeMap::new(), Position { sequence, event })
        };
        let next = |facts: &Facts| facts.position.map_or(0, |position| position.sequence) + 256;
        // There is always more.
        let (facts, failed) = write_to(1_000, Facts::default(), |facts| Ok(Some(at(next(facts)))));
        assert_eq!((facts.position, failed.is_none()), (at(1_024).position, true));
        let (facts, _) = write_to(1_000, at(1_000), |_| unreachable!("all of it is written"));
        assert_eq!(facts.position, at(1_000).position);
        // What is confirmed may end within a command, which waits for its rest.
        let (facts, failed) = write_to(1_000, at(900), |_| Ok(None));
        assert_eq!((facts.position, failed.is_none()), (at(900).position, true));
    }
}
