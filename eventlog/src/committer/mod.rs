//! Group commit: one sync of the broker's disk for many messages when many wait, each message at once when few do.
//!
//! Whoever appends waits in one queue. Few waiting: each goes alone. Many: those that do not touch one another's subjects
//! go as one atomic batch, one batch at a time; those that come meanwhile are the next one. When that pays is measured, not
//! set: a batch builds a store of its own at the broker, so it costs much and then little for each message. A guarded change waits for everything before it on its subject, and what follows on that subject waits
//! for it; unguarded changes of one subject go together. The log below gives every message its exact outcome: after a
//! refused batch the offenders are found by reading, and the others go again.

mod costs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Append, Error, Guard, Log, Message};
use costs::Costs;

/// How many may wait; who comes then is told to come later.
const WAITING_MAX: usize = 4_096;
/// Messages that are under way alone.
const SINGLES_MAX: usize = 16;
/// Who has less time left goes alone: a batch must end before the first of its deadlines.
const HURRY: Duration = Duration::from_millis(500);
/// How long after its deadline a writer is told at the latest.
const TOLD: Duration = Duration::from_secs(1);
/// Messages in a batch.
const BATCH_MAX: usize = 300;

/// A log whose appends are gathered.
pub struct Committer {
    log: Arc<dyn Log>,
    jobs: mpsc::Sender<Job>,
}

/// One append that somebody waits for.
struct Job {
    append: Append,
    deadline: Instant,
    reply: oneshot::Sender<Result<u64, Error>>,
    /// Not for a batch: it is in a hurry, or one that held it failed.
    alone: bool,
    /// A batch that held it came to an unknown end, so it may stand in the log.
    unknown: bool,
}

impl Job {
    fn guarded(&self) -> bool {
        matches!(self.append.guard, Guard::Last(_))
    }

    fn answer(self, result: Result<u64, Error>) {
        // Who went away does not want to know.
        let _ = self.reply.send(result);
    }
}

impl Committer {
    /// Gathers the appends of a log from now on.
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self::holding(log, WAITING_MAX)
    }

    /// With room for this many before the worker, and as many in its queue.
    fn holding(log: Arc<dyn Log>, waiting_max: usize) -> Self {
        let (jobs, arriving) = mpsc::channel(waiting_max);
        let worker = Worker {
            log: log.clone(),
            waiting_max,
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            singles: 0,
            batch: false,
            costs: Costs::default(),
            tasks: JoinSet::new(),
        };
        tokio::spawn(worker.run(arriving));
        Self { log, jobs }
    }
}

#[async_trait::async_trait]
impl Log for Committer {
    fn name(&self) -> &str {
        self.log.name()
    }

    async fn append(&self, append: Append, deadline: Instant) -> Result<u64, Error> {
        let doing = || format!("appending to {}", self.log.name());
        let (reply, answer) = oneshot::channel();
        if self.jobs.try_send(Job { append, deadline, reply, alone: false, unknown: false }).is_err() {
            metrics::counter!("rollcall_committer_full_total").increment(1);
            return Err(Error::Unavailable { doing: doing(), source: Some("too many writes wait".into()) });
        }
        // Nothing is sent after its deadline, but somebody else's batch can keep us from being told.
        match tokio::time::timeout_at(deadline + TOLD, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Error::Unknown { doing: doing() }),
        }
    }

    async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error> {
        self.log.append_atomic(appends, deadline).await
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        self.log.read(sequence).await
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.log.last_on(subject).await
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        self.log.last_sequence().await
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        self.log.follow(from)
    }

    async fn note(&self, name: &str) -> Result<Option<String>, Error> {
        self.log.note(name).await
    }

    async fn set_note(&self, name: &str, value: &str) -> Result<(), Error> {
        self.log.set_note(name, value).await
    }
}

/// What a task came back with.
enum Ended {
    Single {
        subject: String,
        guarded: bool,
        /// Of those that succeeded.
        took: Option<Duration>,
        beside: usize,
    },
    /// Jobs that must go again.
    Batch { subjects: Vec<(String, bool)>, took: Option<(Duration, usize)>, again: Vec<Job> },
}

struct Worker {
    log: Arc<dyn Log>,
    waiting_max: usize,
    waiting: VecDeque<Job>,
    /// Subjects that something is under way on: guarded changes, and others.
    under_way: BTreeMap<String, (usize, usize)>,
    singles: usize,
    batch: bool,
    costs: Costs,
    tasks: JoinSet<Ended>,
}

impl Worker {
    async fn run(mut self, mut arriving: mpsc::Receiver<Job>) {
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.tasks.is_empty() {
            let first_deadline = self.first_deadline();
            tokio::select! {
                job = arriving.recv(), if open && self.waiting.len() < self.waiting_max => match job {
                    None => open = false,
                    Some(job) => {
                        self.waiting.push_back(job);
                        while self.waiting.len() < self.waiting_max
                            && let Ok(job) = arriving.try_recv()
                        {
                            self.waiting.push_back(job);
                        }
                    }
                },
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(ended) => self.ended(ended),
                    Err(error) => {
                        // Which one is not known; the guards decide without our order.
                        tracing::error!(%error, "a write panicked");
                        self.under_way.clear();
                        (self.batch, self.singles) = (false, 0);
                    }
                },
                () = tokio::time::sleep_until(first_deadline), if !self.waiting.is_empty() => {}
            }
            self.tell_late();
            self.send();
            metrics::gauge!("rollcall_committer_waiting").set(self.waiting.len() as f64);
        }
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Single { subject, guarded, took, beside } => {
                self.singles = self.singles.saturating_sub(1);
                self.free(&subject, guarded);
                if let Some(took) = took {
                    self.costs.single(took, beside);
                }
            }
            Ended::Batch { subjects, took, again } => {
                self.batch = false;
                for (subject, guarded) in subjects {
                    self.free(&subject, guarded);
                }
                if let Some((took, messages)) = took {
                    self.costs.batch(took, messages);
                }
                for job in again.into_iter().rev() {
                    self.waiting.push_front(job);
                }
            }
        }
    }

    fn free(&mut self, subject: &str, guarded: bool) {
        let Some((guards, others)) = self.under_way.get_mut(subject) else { return };
        let count = if guarded { &mut *guards } else { &mut *others };
        *count = count.saturating_sub(1);
        if (*guards, *others) == (0, 0) {
            self.under_way.remove(subject);
        }
    }

    fn first_deadline(&self) -> Instant {
        self.waiting.iter().map(|job| job.deadline).min().unwrap_or_else(Instant::now)
    }

    /// Whoever waited until the deadline without being sent is told so, whatever is under way.
    fn tell_late(&mut self) {
        let now = Instant::now();
        if self.waiting.iter().all(|job| job.deadline > now) {
            return;
        }
        let doing = format!("appending to {} (others went before until the deadline)", self.log.name());
        for job in std::mem::take(&mut self.waiting) {
            if job.deadline > now {
                self.waiting.push_back(job);
            } else if job.unknown {
                job.answer(Err(Error::Unknown { doing: doing.clone() }));
            } else {
                job.answer(Err(Error::Unavailable { doing: doing.clone(), source: None }));
            }
        }
    }

    /// Sends whatever may go now.
    fn send(&mut self) {
        if self.batch || self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        let mut ready: Vec<Job> = Vec::new();
        // What waits or goes before a job on its subject.
        let mut guards: BTreeSet<String> = BTreeSet::new();
        let mut others: BTreeSet<String> = BTreeSet::new();
        for job in std::mem::take(&mut self.waiting) {
            let subject = job.append.subject.clone();
            let (guarded, under_way) =
                (job.guarded(), self.under_way.get(&subject).copied().unwrap_or_default());
            let blocked = under_way.0 > 0
                || guards.contains(&subject)
                || guarded && (under_way.1 > 0 || others.contains(&subject));
            if guarded { &mut guards } else { &mut others }.insert(subject);
            if blocked || ready.len() == BATCH_MAX { kept.push_back(job) } else { ready.push(job) }
        }
        self.waiting = kept;
        for job in &mut ready {
            job.alone |= job.deadline <= now + HURRY;
        }
        let many = ready.iter().filter(|job| !job.alone).count() >= self.costs.batch_from();
        let mut together = Vec::new();
        let mut back = Vec::new();
        for job in ready {
            if many && !job.alone {
                together.push(job);
            } else if self.singles < SINGLES_MAX {
                self.send_alone(job);
            } else {
                back.push(job);
            }
        }
        for job in back.into_iter().rev() {
            self.waiting.push_front(job);
        }
        // The first message of a batch speaks for all, so it must be guarded.
        match together.iter().position(Job::guarded) {
            Some(first) => {
                together.swap(0, first);
                self.send_together(together);
            }
            None => {
                for job in together {
                    self.send_alone(job);
                }
            }
        }
    }

    fn send_alone(&mut self, job: Job) {
        self.mark(&job);
        self.singles += 1;
        metrics::counter!("rollcall_committer_singles_total").increment(1);
        let (log, beside) = (self.log.clone(), self.singles);
        self.tasks.spawn(async move {
            let Job { append, deadline, reply, .. } = job;
            let (subject, guarded) = (append.subject.clone(), matches!(append.guard, Guard::Last(_)));
            let begun = Instant::now();
            let result = log.append(append, deadline).await;
            let took = result.is_ok().then(|| begun.elapsed());
            let _ = reply.send(result);
            Ended::Single { subject, guarded, took, beside }
        });
    }

    fn send_together(&mut self, jobs: Vec<Job>) {
        for job in &jobs {
            self.mark(job);
        }
        self.batch = true;
        metrics::counter!("rollcall_committer_batches_total").increment(1);
        metrics::histogram!("rollcall_committer_batch_messages").record(jobs.len() as f64);
        self.tasks.spawn(together(self.log.clone(), jobs));
    }

    fn mark(&mut self, job: &Job) {
        let (guards, others) = self.under_way.entry(job.append.subject.clone()).or_default();
        *(if job.guarded() { guards } else { others }) += 1;
    }
}

/// Writes a batch and answers for each of its messages, except for those that must go again.
async fn together(log: Arc<dyn Log>, jobs: Vec<Job>) -> Ended {
    let subjects = jobs.iter().map(|job| (job.append.subject.clone(), job.guarded())).collect();
    let deadline = jobs.iter().map(|job| job.deadline).min().unwrap_or_else(Instant::now);
    let begun = Instant::now();
    let appends = jobs.iter().map(|job| job.append.clone()).collect();
    let result = log.append_atomic(appends, deadline).await;
    let took = begun.elapsed();
    match result {
        Ok(sequences) => {
            let messages = jobs.len();
            for (job, sequence) in jobs.into_iter().zip(sequences) {
                job.answer(Ok(sequence));
            }
            Ended::Batch { subjects, took: Some((took, messages)), again: Vec::new() }
        }
        Err(Error::Conflict) => {
            metrics::counter!("rollcall_committer_batches_refused_total").increment(1);
            Ended::Batch { subjects, took: None, again: without_offenders(&log, jobs).await }
        }
        Err(error) => {
            let unknown = !matches!(error, Error::Unavailable { .. } | Error::Refused { .. });
            let again = jobs.into_iter();
            let again =
                again.map(|job| Job { alone: true, unknown: job.unknown || unknown, ..job }).collect();
            Ended::Batch { subjects, took: None, again }
        }
    }
}

/// Nothing of the batch was written. Whoever's guard does not hold is told so; the others go again.
async fn without_offenders(log: &Arc<dyn Log>, jobs: Vec<Job>) -> Vec<Job> {
    let lasts = futures::future::join_all(jobs.iter().map(|job| log.last_on(&job.append.subject))).await;
    let mut again = Vec::new();
    let mut found = false;
    for (job, last) in jobs.into_iter().zip(lasts) {
        match (job.append.guard, last) {
            (Guard::Last(expected), Ok(last)) => {
                let last_id = last.as_ref().and_then(|message| message.id);
                if last.map_or(0, |message| message.sequence) == expected {
                    again.push(job);
                } else if last_id == Some(job.append.id) {
                    again.push(Job { alone: true, unknown: true, ..job });
                } else {
                    found = true;
                    job.answer(Err(Error::Conflict));
                }
            }
            (Guard::None, Ok(_)) => again.push(job),
            (_, Err(_)) => again.push(Job { alone: true, ..job }),
        }
    }
    if !found {
        // Whatever it was, each finds out for itself.
        for job in &mut again {
            job.alone = true;
        }
    }
    again
}

#[cfg(test)]
mod tests;
