//! Following a stream. The client's ordered consumer does the work; what it delivers is checked here, and when it
//! fails it is made anew at the next sequence, for as long as it takes.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::log::{NatsLog, event_id, timestamp};
use crate::{Error, Log, Message};

/// How long to wait before the consumer is made again.
const AGAIN_DELAY: Duration = Duration::from_millis(200);
/// How often a quiet consumer is looked after: a reconnect makes it anew at once.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// After how many such looks the log is asked whether there is something that the consumer does not deliver.
const LOOKS_UNTIL_ASKED: u32 = 20;
/// How many gaps in a row the log itself must confirm before it counts as damaged.
const GAPS_MAX: u32 = 3;
/// How many messages that are already here are taken at once.
const READY_MAX: usize = 512;

struct Following {
    log: NatsLog,
    next: u64,
    consumer: Option<Ordered>,
    /// How often the client had connected when the consumer was made.
    connects: u64,
    /// Looks at a consumer that delivered nothing.
    looks: u32,
    /// The sequence that was there and not delivered when the log was last asked.
    undelivered_at: Option<u64>,
    ready: VecDeque<Message>,
    gaps: u32,
    damaged: bool,
}

pub(super) fn from(log: NatsLog, from: u64) -> BoxStream<'static, Result<Message, Error>> {
    let following = Following {
        log,
        next: from.max(1),
        consumer: None,
        connects: 0,
        looks: 0,
        undelivered_at: None,
        ready: VecDeque::new(),
        gaps: 0,
        damaged: false,
    };
    futures::stream::unfold(following, |mut following| async move {
        let item = following.step().await?;
        Some((item, following))
    })
    .boxed()
}

impl Following {
    async fn step(&mut self) -> Option<Result<Message, Error>> {
        loop {
            if self.damaged {
                return None;
            }
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok(message));
            }
            let Some(mut consumer) = self.consumer.take() else {
                self.connects = self.log.client.statistics().connects.load(Ordering::Relaxed);
                self.looks = 0;
                self.consumer = start(&self.log, self.next).await;
                if self.consumer.is_none() {
                    tokio::time::sleep(AGAIN_DELAY).await;
                }
                continue;
            };
            let first = match tokio::time::timeout(LOOK_INTERVAL, consumer.next()).await {
                Ok(Some(Ok(first))) => first,
                Ok(Some(Err(_)) | None) => continue,
                Err(_) => {
                    if self.still_delivers().await {
                        self.consumer = Some(consumer);
                    }
                    continue;
                }
            };
            self.looks = 0;
            let mut keep = self.take(&first);
            while keep && self.ready.len() < READY_MAX {
                match consumer.next().now_or_never() {
                    None => break,
                    Some(Some(Ok(message))) => keep = self.take(&message),
                    Some(Some(Err(_)) | None) => keep = false,
                }
            }
            if keep {
                self.consumer = Some(consumer);
            } else if self.ready.is_empty()
                && let Err(error) = self.gap().await
            {
                self.damaged = true;
                return Some(Err(error));
            }
        }
    }

    /// Whether a consumer that is quiet has reason to be. The client notices a lost one only after many seconds.
    async fn still_delivers(&mut self) -> bool {
        if self.log.client.statistics().connects.load(Ordering::Relaxed) != self.connects {
            return false;
        }
        self.looks += 1;
        if self.looks < LOOKS_UNTIL_ASKED {
            return true;
        }
        self.looks = 0;
        let (log, next) = (self.log.clone(), self.next);
        // What is there since this moment is on its way; what stays undelivered for a whole round is not.
        let undelivered = log.last_sequence().await.is_ok_and(|last| last >= next);
        let twice = undelivered && self.undelivered_at == Some(next);
        self.undelivered_at = undelivered.then_some(next);
        !twice
    }

    /// Takes a message that is the next one; passes over repeats; says no to a gap.
    fn take(&mut self, message: &async_nats::jetstream::Message) -> bool {
        let Ok(info) = message.info() else { return false };
        if info.stream_sequence < self.next {
            return true;
        }
        if info.stream_sequence > self.next {
            return false;
        }
        self.ready.push_back(Message {
            sequence: info.stream_sequence,
            subject: message.subject.to_string(),
            id: message.headers.as_ref().and_then(event_id),
            payload: message.payload.clone(),
            time: timestamp(info.published.unix_timestamp_nanos()),
        });
        self.next += 1;
        self.gaps = 0;
        true
    }

    /// A gap can be the consumer's fault; it is the log's when the log itself lacks the message.
    async fn gap(&mut self) -> Result<(), Error> {
        let log = self.log.clone();
        let last = match log.last_sequence().await {
            Ok(last) => last,
            Err(_) => return Ok(()),
        };
        match log.read(self.next).await {
            Ok(None) if last >= self.next => self.gaps += 1,
            Ok(_) | Err(_) => self.gaps = 0,
        }
        if self.gaps < GAPS_MAX {
            return Ok(());
        }
        Err(Error::Damaged {
            doing: format!("following {}", self.log.name),
            reason: format!(
                "sequence {} is missing although the log goes on to {last}; restore the stream from a backup",
                self.next
            ),
        })
    }
}

async fn start(log: &NatsLog, next: u64) -> Option<Ordered> {
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ..Default::default()
    };
    let stream = log.stream().await.ok()?;
    stream.create_consumer(config).await.ok()?.messages().await.ok()
}
