//! Writing behind: a thread of its own moves rows from the tail into the store; a store in memory needs only a task, so that
//! a simulation stays on one thread and in its own time.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::behind::Behind;
use crate::store::{Doubt, Facts};
use crate::tail::Batch;
use crate::{Error, Projection};

/// How often the tail is written.
pub(crate) const WRITE_INTERVAL: Duration = Duration::from_millis(200);
/// Who writes; whoever it is writes all that is left when it is told to end.
pub(crate) enum Writer {
    Thread { stop: Sender<()>, thread: JoinHandle<()> },
    Task(Task),
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
        let facts = projection.inner.store.facts().unwrap_or_default();
        if projection.inner.store.is_memory() {
            let writing = projection.clone();
            let running = tokio::spawn(async move {
                let mut facts = facts;
                loop {
                    tokio::time::sleep(WRITE_INTERVAL).await;
                    facts = write_all(&writing, facts);
                }
            });
            return Ok(Self::Task(Task { projection, running }));
        }
        let (stop, stopped) = mpsc::channel();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new()
            .name("projection-writer".to_string())
            .spawn(move || {
                Behind { projection, runtime, facts, images: BTreeMap::new(), writing: None }.run(&stopped)
            })
            .map_err(|error| Error::Folder {
                folder: String::new(),
                reason: format!("no thread can be started: {error}"),
            })?;
        Ok(Self::Thread { stop, thread })
    }

    /// Has everything written that is left.
    pub(crate) async fn finish(self) {
        let ended = match self {
            Self::Task(task) => {
                task.running.abort();
                finish(&task.projection, task.projection.inner.store.facts().unwrap_or_default());
                return;
            }
            Self::Thread { stop, thread } => {
                drop(stop);
                tokio::task::spawn_blocking(move || thread.join().is_ok()).await
            }
        };
        if !ended.unwrap_or(false) {
            tracing::error!(
                "the projection's writer panicked; the next start reads what is missing from the log"
            );
        }
    }
}

pub(crate) fn flush(projection: &Projection) {
    if let Err(error) = projection.inner.store.flush() {
        tracing::error!(%error, "the projection cannot be flushed; the next start checks it");
    }
}

fn finish(projection: &Projection, facts: Facts) {
    write_all(projection, facts);
    flush(projection);
}

/// Writes everything that the log has confirmed by now.
pub(crate) fn write_all(projection: &Projection, facts: Facts) -> Facts {
    let goal = projection.state().confirmed;
    let (facts, failed) = write_to(goal, facts, |facts| write_once(projection, facts));
    if let Some(error) = failed {
        let folder = projection.inner.store.name();
        tracing::error!(%folder, %error, "the projection cannot be written; rows stay in memory");
    }
    facts
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

/// One batch; nothing when the tail holds nothing that the log confirmed.
fn write_once(projection: &Projection, facts: &Facts) -> Result<Option<Facts>, Doubt> {
    let batch = {
        let state = projection.state();
        state.tail.batch(state.confirmed)
    };
    let Some(Batch { rows, dropped, position }) = batch else { return Ok(None) };
    let written = facts.with(&rows, &dropped, position);
    projection.inner.store.write(&rows, &written)?;
    for (tenant, sequence) in &dropped {
        projection.inner.store.drop_before(tenant, *sequence)?;
    }
    let (gone, left) = {
        let mut state = projection.state_mut();
        (state.tail.written(position.sequence), state.tail.len())
    };
    projection.inner.written.notify_one();
    drop(gone);
    metrics::gauge!("rollcall_projection_tail_rows").set(left as f64);
    Ok(Some(written))
}

#[cfg(test)]
mod tests {
    use proto::{EventId, Position};

    use super::*;

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
