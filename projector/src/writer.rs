//! Writing behind: a thread of its own moves rows from the tail into the store.

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

/// The thread; it writes all that is left when it is told to end.
pub(crate) struct Writer {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(projection: Projection, facts: Facts) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("projection-writer".to_string())
            .spawn(move || run(&projection, facts, &stopped))
            .map_err(|error| Error::Folder {
                folder: String::new(),
                reason: format!("no thread can be started: {error}"),
            })?;
        Ok(Self { stop, thread })
    }

    /// Tells the thread to write what is left, and waits for it. Blocks.
    pub(crate) fn finish(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!(
                "the projection's writer panicked; the next start reads what is missing from the log"
            );
        }
    }
}

fn run(projection: &Projection, mut facts: Facts, stopped: &Receiver<()>) {
    loop {
        let ended = !matches!(stopped.recv_timeout(WRITE_INTERVAL), Err(RecvTimeoutError::Timeout));
        loop {
            match write_once(projection, &facts) {
                Ok(Some(written)) => facts = written,
                Ok(None) => break,
                Err(error) => {
                    let folder = projection.inner.store.folder().display();
                    tracing::error!(%folder, %error, "the projection cannot be written; rows stay in memory");
                    break;
                }
            }
        }
        if ended {
            if let Err(error) = projection.inner.store.flush() {
                tracing::error!(%error, "the projection cannot be flushed; the next start checks it");
            }
            return;
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
