//! Appending, with the rules for unknown outcomes.
//!
//! A lost acknowledgement leaves us not knowing. The message is sent again with the same id and guard; the broker
//! then answers `duplicate` (several replicas check the id first) or "wrong last sequence" (one replica checks the
//! guard first). The second answer is ours or another's, which `stands` finds out by reading.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{HeaderMap, HeaderName, HeaderValue, Request, header};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::log::{NatsLog, RETRY_DELAY};
use super::stands;
use crate::{Append, Error, Guard};

/// How long the first attempt waits for its acknowledgement; each that waits in vain doubles it, or a broker that needs
/// longer for every answer would never be heard, and be asked ever more.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Another attempt is begun only when it has at least this long: a shorter one would end unknown more often than well.
const ATTEMPT_MIN: Duration = Duration::from_millis(200);
/// How often a guard may fail with nothing to show for it: then it names a message that is not there. Until then ours or
/// another's may be being agreed on, or a leader that has lost its office answers from before.
const ABSENT_MAX: u32 = 10;
/// How long after the deadline it may still be asked whose message stands there, so that fewer end unknown.
const ASK_MORE: Duration = Duration::from_millis(500);

/// What the broker answers to a publish.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What one attempt came to.
#[derive(Debug)]
enum Attempt {
    /// Stands in the log; for a batch the sequence of its last message.
    Stands(u64),
    /// The guard did not hold: somebody's message, perhaps ours, came first; where, if the broker says it.
    GuardFailed { at: Option<u64> },
    /// An id of the batch stands in the log already.
    BatchStands,
    /// Not now, and why: nothing of this attempt was written.
    Later(String),
    /// Written or not, and why that is not known.
    NoAnswer(String),
    /// There was no time left for it.
    Late,
    /// Never.
    Refused(String),
}

/// What is known after some attempts.
struct Trying {
    doing: String,
    deadline: Instant,
    /// An attempt may have been written without our hearing of it.
    unknown: bool,
    /// Why the last attempt came to nothing.
    why: String,
    /// How long the next attempt waits.
    patience: Duration,
    /// How often a guard failed with nothing to show for it.
    absent: u32,
}

impl Trying {
    fn new(doing: String, deadline: Instant) -> Self {
        let why = "there was no time left".to_string();
        Self { doing, deadline, unknown: false, why, patience: ATTEMPT_TIMEOUT, absent: 0 }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).min(self.patience)
    }

    /// Where the first message stands after this attempt; nothing when there must be another.
    async fn judge(
        &mut self,
        log: &NatsLog,
        appends: &[Append],
        floor: u64,
        attempt: Attempt,
    ) -> Result<Option<u64>, Error> {
        match attempt {
            Attempt::Stands(last) => {
                log.goes_to(last);
                return Ok((last + 1).checked_sub(appends.len() as u64));
            }
            Attempt::GuardFailed { .. } | Attempt::BatchStands => {
                let known = matches!(attempt, Attempt::BatchStands);
                let at = match attempt {
                    Attempt::GuardFailed { at } => at,
                    _ => None,
                };
                let found = Box::pin(stands::find(log, appends, floor, known, at));
                match timeout_at(self.deadline + ASK_MORE, found).await {
                    Ok(Ok(Some(sequence))) => return Ok(Some(sequence)),
                    Ok(Ok(None)) if known || self.unknown => {
                        self.unknown("our own message is still on its way".to_string());
                    }
                    Ok(Ok(None)) if self.absent >= ABSENT_MAX => return Err(Error::Conflict { at }),
                    Ok(Ok(None)) => {
                        self.absent += 1;
                        self.why = "a guard did not hold, and nothing stands there yet".to_string();
                    }
                    Ok(Err(Error::Conflict { .. })) => return Err(Error::Conflict { at }),
                    Ok(Err(_)) | Err(_) => {
                        self.unknown("the guard did not hold, and who came first cannot be read".to_string());
                    }
                }
            }
            Attempt::Later(why) => self.why = why,
            Attempt::NoAnswer(why) => {
                self.patience *= 2;
                self.unknown(why);
            }
            Attempt::Late => {}
            Attempt::Refused(reason) => return Err(Error::Refused { doing: self.doing.clone(), reason }),
        }
        Ok(None)
    }

    fn unknown(&mut self, why: String) {
        self.unknown = true;
        self.why = why;
    }

    /// Waits for the next attempt, or gives up at the deadline.
    async fn pause(&self) -> Result<(), Error> {
        if Instant::now() + RETRY_DELAY + ATTEMPT_MIN < self.deadline {
            tokio::time::sleep(RETRY_DELAY).await;
            return Ok(());
        }
        let unknown = if self.unknown { "true" } else { "false" };
        metrics::counter!("rollcall_append_timeouts_total", "unknown" => unknown).increment(1);
        let doing = format!("{} ({})", self.doing, self.why);
        Err(if self.unknown { Error::Unknown { doing } } else { Error::Unavailable { doing, source: None } })
    }
}

pub(super) async fn single(log: &NatsLog, append: &Append, deadline: Instant) -> Result<u64, Error> {
    let mut trying = Trying::new(format!("appending to {}", log.name), deadline);
    loop {
        let attempt = send(log, append, headers(append), trying.left()).await;
        if let Some(sequence) = trying.judge(log, std::slice::from_ref(append), 0, attempt).await? {
            return Ok(sequence);
        }
        trying.pause().await?;
    }
}

pub(super) async fn atomic(log: &NatsLog, appends: &[Append], deadline: Instant) -> Result<Vec<u64>, Error> {
    let [.., last] = appends else { return Ok(Vec::new()) };
    if appends.len() == 1 {
        return Ok(vec![single(log, last, deadline).await?]);
    }
    let count = appends.len() as u64;
    let mut trying = Trying::new(format!("appending {count} messages to {}", log.name), deadline);
    let mut floor = stands::floor(appends);
    loop {
        if floor.is_none() {
            // No guard says where to look for it later.
            floor = timeout_at(deadline, crate::Log::last_sequence(log)).await.ok().and_then(Result::ok);
        }
        let attempt = match floor {
            Some(_) => send_batch(log, appends, last, &trying).await,
            None => Attempt::Later("the log's end cannot be read".to_string()),
        };
        if let Some(first) = trying.judge(log, appends, floor.unwrap_or_default(), attempt).await? {
            return Ok((first..first + count).collect());
        }
        trying.pause().await?;
    }
}

fn headers(append: &Append) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, append.id.to_string().as_str());
    if let Guard::Last(last) = append.guard {
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string().as_str());
    }
    for (name, value) in &*append.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value.as_str()));
    }
    headers
}

async fn send_batch(log: &NatsLog, appends: &[Append], last: &Append, trying: &Trying) -> Attempt {
    if let Some(why) = not_connected(log) {
        return Attempt::Later(why);
    }
    let batch = uuid::Uuid::new_v4().simple().to_string();
    // Without the last message, which commits, nothing of it can be written.
    match timeout_at(trying.deadline, send_all_but_last(log, appends, &batch)).await {
        Ok(Ok(())) => {}
        Ok(Err(())) | Err(_) => {
            return Attempt::Later("the batch could not be handed to the connection".to_string());
        }
    }
    let mut headers = headers(last);
    headers.insert(header::NATS_BATCH_ID, batch.as_str());
    headers.insert(header::NATS_BATCH_SEQUENCE, appends.len().to_string().as_str());
    headers.insert(header::NATS_BATCH_COMMIT, "1");
    send(log, last, headers, trying.left()).await
}

async fn send_all_but_last(log: &NatsLog, appends: &[Append], batch: &str) -> Result<(), ()> {
    for (index, append) in appends.iter().enumerate().take(appends.len().saturating_sub(1)) {
        let mut headers = headers(append);
        headers.insert(header::NATS_BATCH_ID, batch);
        headers.insert(header::NATS_BATCH_SEQUENCE, (index + 1).to_string().as_str());
        log.client
            .publish_with_headers(append.subject.clone(), headers, append.payload.clone())
            .await
            .map_err(|_| ())?;
    }
    Ok(())
}

/// Nothing is handed to a client without a connection: it would keep the message and send it after our deadline, and
/// we could not say that nothing was written.
fn not_connected(log: &NatsLog) -> Option<String> {
    (log.client.connection_state() != State::Connected)
        .then(|| "there is no connection to the broker".to_string())
}

async fn send(log: &NatsLog, append: &Append, headers: HeaderMap, left: Duration) -> Attempt {
    if let Some(why) = not_connected(log) {
        return Attempt::Later(why);
    }
    if left.is_zero() {
        return Attempt::Late;
    }
    let request = Request::new().headers(headers).payload(append.payload.clone()).timeout(Some(left));
    // The client's own limit begins only once its queue has room.
    let asked = timeout(left, log.client.send_request(append.subject.clone(), request)).await;
    let Ok(asked) = asked else {
        return Attempt::NoAnswer(format!("the broker did not acknowledge within {} ms", left.as_millis()));
    };
    match asked {
        Ok(reply) => match serde_json::from_slice::<Answer>(&reply.payload) {
            Ok(Answer { error: None, seq }) if seq > 0 => Attempt::Stands(seq),
            Ok(Answer { error: Some(refusal), .. }) => judge(&refusal),
            Ok(_) | Err(_) => Attempt::NoAnswer("the broker's answer cannot be read".to_string()),
        },
        Err(error) => match error.kind() {
            RequestErrorKind::TimedOut => {
                Attempt::NoAnswer(format!("the broker did not acknowledge within {} ms", left.as_millis()))
            }
            RequestErrorKind::Other => {
                Attempt::NoAnswer("the connection ended before the answer".to_string())
            }
            RequestErrorKind::NoResponders => Attempt::Later(format!(
                "nobody serves the stream {}: it has no leader at the moment, or it was deleted",
                log.name
            )),
            RequestErrorKind::InvalidSubject => Attempt::Refused("the subject is invalid".to_string()),
            RequestErrorKind::MaxPayloadExceeded => Attempt::Refused(
                "the event is larger than the broker's max_payload; raise it to 8MB".to_string(),
            ),
        },
    }
}

fn judge(refusal: &Refusal) -> Attempt {
    let Refusal { err_code, description } = refusal;
    let said = format!("the broker answers {err_code} {description}");
    match err_code {
        // Wrong last sequence, on one replica and on several.
        10_071 | 10_164 => {
            let number = description.rsplit(' ').next().and_then(|number| number.parse().ok());
            return Attempt::GuardFailed { at: number.filter(|at| *at > 0) };
        }
        // A duplicate within a batch.
        10_201 => return Attempt::BatchStands,
        _ => {}
    }
    metrics::counter!("rollcall_append_refusals_total", "code" => err_code.to_string()).increment(1);
    match err_code {
        // The same id is in flight, so another attempt of ours may come to stand.
        10_158 => Attempt::NoAnswer(said),
        // One replica that cannot store does not say what the others did.
        10_077 => Attempt::NoAnswer(format!("{said}; look into the broker's log")),
        // Storage or memory is used up. The server looks only when it starts at how much there is.
        10_002 => Attempt::Later(format!("{said}: the limits of its account are used up; raise them")),
        10_023 | 10_028 | 10_047 | 10_122 => Attempt::Later(format!(
            "{said}: its disk or its max_file_store is full; make room, then restart nats-server"
        )),
        // The stream is busy, has no leader or is offline; too many batches are in flight or one was abandoned.
        10_008 | 10_009 | 10_074 | 10_118 | 10_163 | 10_167 | 10_176 | 10_194 | 10_210 => {
            Attempt::Later(said)
        }
        _ => Attempt::Refused(said),
    }
}
