//! Writing behind: a thread of its own moves rows from the tail into the store; a store in memory needs only a task, so that
//! a simulation stays on one thread and in its own time.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::store::{Doubt, Facts};
use crate::{Error, Projection};

/// How often the tail is written.
const WRITE_INTERVAL: Duration = Duration::from_millis(200);
/// Rows in one batch.
const BATCH_ROWS_MAX: usize = 1000;
/// Rows that may wait; beyond it the log is read no further until the store has caught up.
pub(crate) const TAIL_ROWS_MAX: usize = 100_000;

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
        let thread = std::thread::Builder::new()
            .name("projection-writer".to_string())
            .spawn(move || run(&projection, facts, &stopped))
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

fn run(projection: &Projection, mut facts: Facts, stopped: &Receiver<()>) {
    loop {
        if !matches!(stopped.recv_timeout(WRITE_INTERVAL), Err(RecvTimeoutError::Timeout)) {
            finish(projection, facts);
            return;
        }
        facts = write_all(projection, facts);
    }
}

fn finish(projection: &Projection, facts: Facts) {
    write_all(projection, facts);
    if let Err(error) = projection.inner.store.flush() {
        tracing::error!(%error, "the projection cannot be flushed; the next start checks it");
    }
}

/// Batch after batch, until the tail is empty.
fn write_all(projection: &Projection, mut facts: Facts) -> Facts {
    loop {
        match write_once(projection, &facts) {
            Ok(Some(written)) => facts = written,
            Ok(None) => return facts,
            Err(error) => {
                let folder = projection.inner.store.name();
                tracing::error!(%folder, %error, "the projection cannot be written; rows stay in memory");
                return facts;
            }
        }
    }
}

/// One batch; nothing when the tail holds nothing that the log confirmed.
fn write_once(projection: &Projection, facts: &Facts) -> Result<Option<Facts>, Doubt> {
    let batch = {
        let state = projection.state();
        state.tail.batch(state.confirmed, BATCH_ROWS_MAX)
    };
    let Some((rows, position)) = batch else { return Ok(None) };
    let written = facts.with(&rows, position);
    projection.inner.store.write(&rows, &written)?;
    let mut state = projection.state_mut();
    state.tail.written(position.sequence);
    metrics::gauge!("rollcall_projection_tail_rows").set(state.tail.len() as f64);
    Ok(Some(written))
}
