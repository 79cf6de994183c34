//! Is the broker still the one we connected to? Its version and limits, the streams' settings, their age and length, its
//! clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use jiff::Timestamp;
use serde::Deserialize;

use super::settings::{self, Seen, StreamSettings};
use super::{ends, unavailable};
use crate::{Bucket, Error, Health, Timeline, clock, timeline};

/// How far the broker's clock may be from ours before we say so: log time is made of the broker's.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5);

pub(super) struct NatsHealth {
    client: Client,
    context: Context,
    streams: Vec<(Mutex<Seen>, StreamSettings)>,
    skew_ms: AtomicI64,
    rollcall: Arc<dyn Bucket>,
    timeline: Option<Timeline>,
}

impl NatsHealth {
    pub(super) fn new(
        client: Client,
        context: Context,
        streams: Vec<(Seen, StreamSettings)>,
        rollcall: Arc<dyn Bucket>,
        timeline: Option<Timeline>,
    ) -> Self {
        let streams = streams.into_iter().map(|(seen, wanted)| (Mutex::new(seen), wanted)).collect();
        Self { client, context, streams, skew_ms: AtomicI64::new(0), rollcall, timeline }
    }

    /// Compares the broker's clock with ours.
    pub(super) async fn read_clock(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Answer {
            ts: Option<Timestamp>,
        }
        let doing = || "asking the broker for its time".to_string();
        let asked = clock::now();
        let answer: Answer = self
            .context
            .request("STREAM.INFO.IDENTITY", &serde_json::json!({}))
            .await
            .map_err(|error| unavailable(doing(), error))?;
        let Some(theirs) = answer.ts else { return Ok(()) };
        let answered = clock::now();
        let skew_ms = skew_ms(asked.as_millisecond(), theirs.as_millisecond(), answered.as_millisecond());
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
        metrics::gauge!("rollcall_broker_clock_skew_ms").set(skew_ms as f64);
        if skew_ms.unsigned_abs() > CLOCK_SKEW_MAX.as_millis() as u64 {
            tracing::warn!(
                skew_ms,
                "the broker's clock is far from ours: created and lastModified are made of its time, and never run \
                 backwards. Set both clocks with NTP"
            );
        }
        Ok(())
    }

    /// A stream that is younger or shorter than it was is another history.
    async fn check(&self, seen: &Mutex<Seen>, wanted: &StreamSettings) -> Result<(), Error> {
        let before = *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = ends::look_again(&self.context, wanted, before).await?;
        let reason = if now.created != before.created {
            "it was deleted and made again since this process began".to_string()
        } else if let Some(reason) = ends::lost(before, now) {
            reason
        } else if wanted.name() == settings::KEYS
            && let Some(reason) = ends::deleted(&self.context, before.last_sequence).await?
        {
            reason
        } else {
            *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
            return Ok(());
        };
        Err(Error::Damaged {
            doing: format!("checking the stream {}", wanted.name()),
            reason: format!(
                "{reason}. If it was restored from a backup, start this process again: what it derived from the old log is \
                 then built again; if nobody meant to, put the broker's newer store back"
            ),
        })
    }
}

/// How far their clock is ahead of ours, when they looked at it between our two looks.
fn skew_ms(asked: i64, theirs: i64, answered: i64) -> i64 {
    if theirs < asked { theirs - asked } else { (theirs - answered).max(0) }
}

#[async_trait::async_trait]
impl Health for NatsHealth {
    fn reachable(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    fn clock_skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    async fn verify(&self) -> Result<(), Error> {
        settings::check_server(&self.client.server_info())?;
        let timeline = timeline::read(&*self.rollcall).await;
        if timeline.as_ref().is_ok_and(|timeline| *timeline != self.timeline) {
            return Err(Error::Refused {
                doing: "checking the broker".to_string(),
                reason: "it was restored from a backup while this process ran, which knows what never happened there; \
                         start it again"
                    .to_string(),
            });
        }
        for (seen, wanted) in &self.streams {
            self.check(seen, wanted).await?;
        }
        timeline?;
        self.read_clock().await?;
        let seen = self.streams.iter().map(|(seen, wanted)| {
            (wanted.name(), *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        });
        ends::keep(&*self.rollcall, self.timeline.as_ref(), seen).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_skew() {
        assert_eq!(skew_ms(1_000, 1_000, 9_000), 0);
        assert_eq!(skew_ms(1_000, 9_000, 9_000), 0);
        assert_eq!(skew_ms(10_000, 4_000, 10_010), -6_000);
        assert_eq!(skew_ms(10_000, 70_010, 10_010), 60_000);
    }
}
