//! Appending, with the rules for unknown outcomes.
//!
//! A lost acknowledgement leaves us not knowing. The message is sent again with the same id and guard; the broker
//! then answers `duplicate` (several replicas check the id first) or "wrong last sequence" (one replica checks the
//! guard first). The second answer is ours or another's: under the guard "last is G" our message, if it stands
//! anywhere, is the *first* on its subject after G, so reading that one decides.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, Request, header};
use serde::Deserialize;
use tokio::time::Instant;

use super::log::{NatsLog, RETRY_DELAY};
use crate::{Append, Error, Guard};

/// How long one attempt waits for its acknowledgement.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a guard may fail with nothing to show for it. Then the guard names a message that is not there.
const ABSENT_MAX: u32 = 10;

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
enum Attempt {
    /// Stands in the log; for a batch the sequence of its last message.
    Stands(u64),
    /// The guard did not hold: somebody's message, perhaps ours, came first.
    GuardFailed,
    /// The batch stands in the log already.
    BatchStands,
    /// Not now: nothing of this attempt was written.
    Later,
    /// No answer: written or not.
    NoAnswer,
    /// Never.
    Refused(String),
}

pub(super) async fn single(log: &NatsLog, append: &Append, deadline: Instant) -> Result<u64, Error> {
    let doing = || format!("appending to {}", log.name);
    let (mut unknown, mut absent) = (false, 0);
    loop {
        match send(log, append, headers(append), deadline).await {
            Attempt::Stands(sequence) => return Ok(sequence),
            Attempt::GuardFailed | Attempt::BatchStands => match resolve(log, append).await {
                Ok(Some(sequence)) => return Ok(sequence),
                Ok(None) => absent += u32::from(append.guard != Guard::None),
                Err(error @ Error::Conflict) => return Err(error),
                Err(_) => unknown = true,
            },
            Attempt::Later => {}
            Attempt::NoAnswer => unknown = true,
            Attempt::Refused(reason) => return Err(Error::Refused { doing: doing(), reason }),
        }
        if absent > ABSENT_MAX && !unknown {
            return Err(Error::Conflict);
        }
        pause(deadline, unknown, doing).await?;
    }
}

pub(super) async fn atomic(log: &NatsLog, appends: &[Append], deadline: Instant) -> Result<Vec<u64>, Error> {
    let doing = || format!("appending {} messages to {}", appends.len(), log.name);
    let [first, .., last] = appends else {
        return match appends {
            [only] => Ok(vec![single(log, only, deadline).await?]),
            _ => Ok(Vec::new()),
        };
    };
    let count = appends.len() as u64;
    let (mut unknown, mut absent) = (false, 0);
    loop {
        let batch = uuid::Uuid::new_v4().simple().to_string();
        let attempt = match send_all_but_last(log, appends, &batch).await {
            Ok(()) => {
                let mut headers = headers(last);
                headers.insert(header::NATS_BATCH_ID, batch.as_str());
                headers.insert(header::NATS_BATCH_SEQUENCE, count.to_string().as_str());
                headers.insert(header::NATS_BATCH_COMMIT, "1");
                send(log, last, headers, deadline).await
            }
            Err(()) => Attempt::Later,
        };
        match attempt {
            Attempt::Stands(sequence) => return Ok((sequence + 1 - count..=sequence).collect()),
            // The batch is whole or not there, so its first message speaks for all.
            Attempt::GuardFailed | Attempt::BatchStands => match resolve(log, first).await {
                Ok(Some(sequence)) => return Ok((sequence..sequence + count).collect()),
                Ok(None) => absent += u32::from(first.guard != Guard::None),
                Err(error @ Error::Conflict) => return Err(error),
                Err(_) => unknown = true,
            },
            Attempt::Later => {}
            Attempt::NoAnswer => unknown = true,
            Attempt::Refused(reason) => return Err(Error::Refused { doing: doing(), reason }),
        }
        if absent > ABSENT_MAX && !unknown {
            return Err(Error::Conflict);
        }
        pause(deadline, unknown, doing).await?;
    }
}

/// Whose message came first: the sequence when it is ours, [`Error::Conflict`] when it is another's, nothing when
/// there is none yet (it is still on its way, on several replicas).
async fn resolve(log: &NatsLog, append: &Append) -> Result<Option<u64>, Error> {
    let Guard::Last(last) = append.guard else {
        // Without a guard only our own id can have been refused: find it from the end of its subject.
        let found = crate::Log::last_on(log, &append.subject).await?;
        return Ok(found.filter(|message| message.id == Some(append.id)).map(|message| message.sequence));
    };
    match log.next_on(&append.subject, last + 1).await? {
        Some(message) if message.id == Some(append.id) => Ok(Some(message.sequence)),
        Some(_) => Err(Error::Conflict),
        // Ours or another's is being agreed on, or a leader that has lost its office answers from before: for a moment,
        // when a broker that was cut off comes back, the old leader and the new one both hear what is asked.
        None => Ok(None),
    }
}

async fn pause(deadline: Instant, unknown: bool, doing: impl Fn() -> String) -> Result<(), Error> {
    if Instant::now() + RETRY_DELAY >= deadline {
        metrics::counter!("rollcall_append_timeouts_total", "unknown" => if unknown { "true" } else { "false" }).increment(1);
        return Err(if unknown {
            Error::Unknown { doing: doing() }
        } else {
            Error::Unavailable { doing: doing(), source: None }
        });
    }
    tokio::time::sleep(RETRY_DELAY).await;
    Ok(())
}

fn headers(append: &Append) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, append.id.to_string().as_str());
    if let Guard::Last(last) = append.guard {
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string().as_str());
    }
    for (name, value) in &append.headers {
        headers.insert(name.as_str(), value.as_str());
    }
    headers
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

async fn send(log: &NatsLog, append: &Append, headers: HeaderMap, deadline: Instant) -> Attempt {
    let left = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT_TIMEOUT);
    let request = Request::new().headers(headers).payload(append.payload.clone()).timeout(Some(left));
    match log.client.send_request(append.subject.clone(), request).await {
        Ok(reply) => match serde_json::from_slice::<Answer>(&reply.payload) {
            Ok(Answer { error: None, seq }) => Attempt::Stands(seq),
            Ok(Answer { error: Some(refusal), .. }) => judge(&refusal),
            Err(_) => Attempt::NoAnswer,
        },
        Err(error) => match error.kind() {
            RequestErrorKind::TimedOut | RequestErrorKind::Other => Attempt::NoAnswer,
            RequestErrorKind::NoResponders => Attempt::Later,
            RequestErrorKind::InvalidSubject => Attempt::Refused("the subject is invalid".to_string()),
            RequestErrorKind::MaxPayloadExceeded => Attempt::Refused(
                "the event is larger than the broker's max_payload; raise it to 8MB".to_string(),
            ),
        },
    }
}

fn judge(refusal: &Refusal) -> Attempt {
    match refusal.err_code {
        // Wrong last sequence, on one replica and on several.
        10_071 | 10_164 => Attempt::GuardFailed,
        // A duplicate within a batch.
        10_201 => Attempt::BatchStands,
        // The same id is in flight; the stream is busy or has no leader; too many batches in flight or one abandoned.
        10_158 | 10_163 | 10_167 | 10_176 | 10_210 | 10_008 | 10_009 | 10_074 | 10_077 => Attempt::Later,
        _ => Attempt::Refused(format!("the broker answers {} {}", refusal.err_code, refusal.description)),
    }
}
