//! How far a log is, asked once for all who want to know at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::{Error, Log};

/// A log's last sequence, for many who ask. One question is under way at a time, however many want an answer.
pub struct LastSequence {
    log: Arc<dyn Log>,
    /// How often the log was asked.
    asked: AtomicU64,
    /// The last question: its number and the answer.
    answer: Mutex<(u64, u64)>,
}

impl LastSequence {
    /// Nothing is asked yet.
    pub fn of(log: Arc<dyn Log>) -> Self {
        Self { log, asked: AtomicU64::new(0), answer: Mutex::new((0, 0)) }
    }

    /// The log's last sequence. Whoever asks while a question is under way shares the next one: an answer counts only
    /// if its question was asked after we came. When the log does not answer, those who share it ask one after the other,
    /// so nobody should wait here without a deadline.
    pub async fn ask(&self) -> Result<u64, Error> {
        let asked_before = self.asked.load(Ordering::SeqCst);
        let mut answer = self.answer.lock().await;
        if answer.0 > asked_before {
            return Ok(answer.1);
        }
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let last = self.log.last_sequence().await?;
        *answer = (number, last);
        Ok(last)
    }
}
