//! Following a stream. A consumer that the broker keeps in memory does the work, asked for so many bytes at a time; what
//! it delivers is checked here, and when it fails it is made anew at the next sequence, for as long as it takes. Before
//! that the log must still hold what it delivered last: a broker that was restored from a backup has another history, and
//! must not be read on.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::{self, Stream};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use proto::EventId;

use super::log::{NatsLog, event_id, timestamp};
use crate::{Error, Log, Message};

/// How long to wait before the consumer is made again.
const AGAIN_DELAY: Duration = Duration::from_millis(200);
/// How often a quiet consumer is looked after: a reconnect makes it anew at once.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// After how many such looks the log is asked whether there is something that the consumer does not deliver.
const LOOKS_UNTIL_ASKED: u32 = 20;
/// After how many such looks a consumer is given up that does not deliver what others in this process know of; twice as many
/// after each that did not either.
const LOOKS_UNTIL_MISSED: u32 = 5;
/// How many gaps in a row the log itself must confirm before it counts as damaged.
const GAPS_MAX: u32 = 3;
/// How often in a row the log must lack what it delivered: a new leader may have to catch up first.
const LACKS_MAX: u32 = 10;
/// How many messages that are already here are taken at once.
const READY_MAX: usize = 512;
/// How many messages the broker is asked for at once, and bytes. It is asked again when half of them came, and it cuts a
/// client off, with everything that is under way there, that has more than 64 MB to take.
const ASKED_MAX: usize = 500;
const ASKED_BYTES_MAX: usize = 16 << 20;
/// How long the broker keeps a consumer that nobody asks.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

struct Following {
    log: NatsLog,
    next: u64,
    /// What was delivered last.
    last: Option<(u64, Option<EventId>)>,
    /// How often in a row the log lacked it.
    lacks: u32,
    consumer: Option<Stream>,
    /// How often the client had connected when the consumer was made.
    connects: u64,
    /// Looks at a consumer that delivered nothing.
    looks: u32,
    /// After how many of them it is given up when it lacks what others know of.
    patience: u32,
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
        last: None,
        lacks: 0,
        consumer: None,
        connects: 0,
        looks: 0,
        patience: LOOKS_UNTIL_MISSED,
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
                match self.begin().await {
                    Ok(Some(consumer)) => self.consumer = Some(consumer),
                    Ok(None) => tokio::time::sleep(AGAIN_DELAY).await,
                    Err(error) => return self.end(error),
                }
                continue;
            };
            let first = match tokio::time::timeout(LOOK_INTERVAL, consumer.next()).await {
                Ok(Some(Ok(first))) => first,
                Ok(Some(Err(_)) | None) => continue,
                Err(_) => {
                    match self.still_delivers().await {
                        Ok(true) => self.consumer = Some(consumer),
                        Ok(false) => {}
                        Err(error) => return self.end(error),
                    }
                    continue;
                }
            };
            if self.reconnected() {
                // It comes again, once the log has shown that it is the same.
                continue;
            }
            (self.looks, self.patience) = (0, LOOKS_UNTIL_MISSED);
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
                return self.end(error);
            }
        }
    }

    fn end(&mut self, error: Error) -> Option<Result<Message, Error>> {
        self.damaged = true;
        Some(Err(error))
    }

    fn connects(&self) -> u64 {
        self.log.client.statistics().connects.load(Ordering::Relaxed)
    }

    fn reconnected(&self) -> bool {
        self.connects() != self.connects
    }

    /// A consumer at the next sequence; nothing when there is none to be had at the moment.
    async fn begin(&mut self) -> Result<Option<Stream>, Error> {
        self.connects = self.connects();
        self.looks = 0;
        if !self.same_log().await? {
            return Ok(None);
        }
        Ok(start(&self.log, self.next).await)
    }

    /// Whether the log still holds what it delivered last; no as well when it cannot be read.
    async fn same_log(&mut self) -> Result<bool, Error> {
        let Some((sequence, id)) = self.last else { return Ok(true) };
        let log = self.log.clone();
        let reason = match log.read(sequence).await {
            Err(_) => return Ok(false),
            Ok(Some(found)) if found.id == id => {
                self.lacks = 0;
                return Ok(true);
            }
            Ok(Some(_)) => {
                format!("at sequence {sequence} it holds another event than the one that was read there")
            }
            Ok(None) => {
                // Who may have lost its office knows nothing of what is missing.
                let Ok(last) = log.last_sequence().await else { return Ok(false) };
                self.lacks += 1;
                if self.lacks < LACKS_MAX {
                    return Ok(false);
                }
                format!("it was read up to sequence {sequence}, but now it ends at {last}")
            }
        };
        Err(Error::Damaged {
            doing: format!("following {}", self.log.name),
            reason: format!(
                "{reason}: the stream was restored from a backup or made anew. If that was meant, start this process \
                 again: what it derived from the old log is then built again; if not, put the broker's newer store back"
            ),
        })
    }

    /// Whether a consumer that is quiet has reason to be. The client notices a lost one only after many seconds.
    async fn still_delivers(&mut self) -> Result<bool, Error> {
        if self.reconnected() {
            return Ok(false);
        }
        self.looks += 1;
        if self.looks >= self.patience && self.log.is_known_at(self.next) {
            self.patience = (self.patience * 2).min(2 * LOOKS_UNTIL_ASKED);
            return Ok(false);
        }
        if self.looks < LOOKS_UNTIL_ASKED {
            return Ok(true);
        }
        self.looks = 0;
        if !self.same_log().await? {
            return Ok(false);
        }
        let (log, next) = (self.log.clone(), self.next);
        // What is there since this moment is on its way; what stays undelivered for a whole round is not.
        let undelivered = log.last_sequence().await.is_ok_and(|last| last >= next);
        let twice = undelivered && self.undelivered_at == Some(next);
        self.undelivered_at = undelivered.then_some(next);
        Ok(!twice)
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
        let id = message.headers.as_ref().and_then(event_id);
        self.last = Some((info.stream_sequence, id));
        self.ready.push_back(Message {
            sequence: info.stream_sequence,
            subject: message.subject.to_string(),
            id,
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

async fn start(log: &NatsLog, next: u64) -> Option<Stream> {
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ack_policy: AckPolicy::None,
        inactive_threshold: FORGOTTEN_AFTER,
        memory_storage: true,
        num_replicas: 1,
        ..Default::default()
    };
    let stream = log.stream().await.ok()?;
    let consumer = stream.create_consumer(config).await.ok()?;
    let asked = consumer.stream().max_messages_per_batch(ASKED_MAX).max_bytes_per_batch(ASKED_BYTES_MAX);
    asked.messages().await.ok()
}
