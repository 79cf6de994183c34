//! One process's view of a stream: the contract kept over a line on which much goes wrong.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Faults, Line, Stream};
use crate::{Append, Error, Log, Message};

/// How many messages a new consumer repeats at most.
const REPEATS_MAX: u64 = 5;

/// A log in memory.
pub struct MemoryLog {
    name: String,
    stream: Stream,
    line: Arc<Line>,
}

/// What one attempt came to.
enum Attempt {
    Answered(Result<Vec<u64>, Error>),
    /// Nothing was done.
    Later,
    /// Done or not.
    NoAnswer,
}

impl MemoryLog {
    /// An empty log.
    pub fn new(name: &str, faults: Faults) -> Self {
        Self::over(name, Stream::default(), Arc::new(Line::from(faults)))
    }

    /// A stream as it is seen over a line.
    pub fn over(name: &str, stream: Stream, line: Arc<Line>) -> Self {
        Self { name: name.to_string(), stream, line }
    }

    /// Writes under the rules of the contract: after an attempt without an answer the same is sent again, until it is known
    /// what came of it or the deadline has passed.
    async fn write(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error> {
        let mut unknown = false;
        loop {
            match self.attempt(&appends, deadline).await {
                Attempt::Answered(result) => return result,
                Attempt::Later => {}
                Attempt::NoAnswer => unknown = true,
            }
            let delay = self.line.weather().retry_delay;
            if Instant::now() + delay >= deadline {
                let doing = format!("appending to {}", self.name);
                return Err(if unknown {
                    Error::Unknown { doing }
                } else {
                    Error::Unavailable { doing, source: None }
                });
            }
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        }
    }

    async fn attempt(&self, appends: &[Append], deadline: Instant) -> Attempt {
        let line = &*self.line;
        line.alive().await;
        if !line.connected() || line.strikes(|weather| weather.lost_requests) {
            line.wait_in_vain(deadline).await;
            return Attempt::NoAnswer;
        }
        if line.strikes(|weather| weather.refused_requests) {
            return Attempt::Later;
        }
        if line.strikes(|weather| weather.late_requests) {
            // What is on its way arrives, even if its sender dies meanwhile.
            let (stream, appends) = (self.stream.clone(), appends.to_vec());
            let arrival = Instant::now() + line.chance.up_to(line.weather().attempt_timeout * 2);
            tokio::spawn(async move {
                tokio::time::sleep_until(arrival).await;
                let _ = stream.write(&appends, true);
            });
            line.wait_in_vain(deadline).await;
            return Attempt::NoAnswer;
        }
        line.travel().await;
        if line.strikes(|weather| weather.forgotten) {
            let first = self.stream.last_sequence() + 1;
            return Attempt::Answered(Ok((first..).take(appends.len()).collect()));
        }
        let guarded = !line.strikes(|weather| weather.unguarded);
        let result = self.stream.write(appends, guarded);
        if line.strikes(|weather| weather.lost_answers) {
            line.wait_in_vain(deadline).await;
            return Attempt::NoAnswer;
        }
        line.travel().await;
        Attempt::Answered(result)
    }
}

#[async_trait::async_trait]
impl Log for MemoryLog {
    fn name(&self) -> &str {
        &self.name
    }

    async fn append(&self, append: Append, deadline: Instant) -> Result<u64, Error> {
        Ok(self.write(vec![append], deadline).await?.first().copied().unwrap_or_default())
    }

    async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error> {
        self.write(appends, deadline).await
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        self.line.ask("reading a message", || self.stream.get(sequence)).await
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.line.ask("reading the last message of a subject", || self.stream.last_on(subject)).await
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        self.line.ask("asking for the last sequence", || self.stream.last_sequence()).await
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        let from = from.max(1);
        let (stream, line) = (self.stream.clone(), self.line.clone());
        let following = Following { last: stream.watch(), stream, line, next: from, delivered: from };
        futures::stream::unfold(following, |mut following| async move {
            let message = following.step().await?;
            Some((Ok(message), following))
        })
        .boxed()
    }

    async fn note(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.stream.note(name))
    }

    async fn set_note(&self, name: &str, value: &str) -> Result<(), Error> {
        self.stream.set_note(name, value);
        Ok(())
    }
}

struct Following {
    stream: Stream,
    line: Arc<Line>,
    last: watch::Receiver<u64>,
    /// What the contract's follower gets next.
    next: u64,
    /// What the consumer delivers next; lower after it was made anew.
    delivered: u64,
}

impl Following {
    async fn step(&mut self) -> Option<Message> {
        loop {
            let delivered = self.delivered;
            self.last.wait_for(|last| *last >= delivered).await.ok()?;
            let (line, weather) = (&self.line, self.line.weather());
            if line.chance.strikes(weather.late_deliveries) {
                tokio::time::sleep(line.chance.up_to(weather.late_delivery_max)).await;
            }
            if line.chance.strikes(weather.lost_consumers) {
                tokio::time::sleep(line.chance.up_to(weather.attempt_timeout)).await;
                self.delivered = self.delivered.saturating_sub(line.chance.below(REPEATS_MAX + 1)).max(1);
            }
            line.alive().await;
            let message = self.stream.get(self.delivered)?;
            self.delivered += 1;
            if message.sequence == self.next {
                self.next += 1;
                return Some(message);
            }
        }
    }
}
