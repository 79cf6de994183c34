//! Who waits for a sequence is woken when it is applied, and nobody else is: a crowd of writers must not wake one another.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

#[derive(Default)]
pub(crate) struct Waiters(Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>);

impl Waiters {
    /// Told when the sequence is applied. Look again after this: it may have been applied before.
    pub(crate) fn wait_for(&self, sequence: u64) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = waiting.entry(sequence).or_default();
        here.retain(|other| !other.is_closed());
        here.push(wake);
        woken
    }

    /// Everything up to this sequence is applied.
    pub(crate) fn wake(&self, applied: u64) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(first) = waiting.first_entry()
            && *first.key() <= applied
        {
            for wake in first.remove() {
                // Who waits no more does not want to know.
                let _ = wake.send(());
            }
        }
    }
}
