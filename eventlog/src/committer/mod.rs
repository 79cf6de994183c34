//! Group commit: one sync of the broker's disk for many messages when many wait, each message at once when few do.
//!
//! A command that nothing stands in the way of goes at once, in its writer's own task. When many want to write, and
//! [`pace`] found that it is the faster way, commands that do not touch one another's subjects go as one atomic batch,
//! one batch at a time; after a batch those whom it woke are waited for until they pause, never when the log is idle. The
//! log below gives every message its exact outcome: after a refused batch the offenders are found, and the others go
//! again.

mod batch;
mod pace;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::{Append, Error, Log, Message};
use pace::{CROWD, Pace, Way};
use queue::{Excess, Job, Load, Queue, Room, bytes};

/// How many commands may wait when nothing else is said; who comes then is told to come later.
pub const WAITING_MAX: usize = 4_096;
/// Commands that are under way alone.
const ALONE_MAX: usize = 1_024;
/// And their bytes: what is handed to the broker must be written before its acknowledgement is given up.
const ALONE_BYTES_MAX: usize = 16 << 20;
/// Commands of one tenant that are under way alone: more would not be written faster, but others would wait for them at the
/// broker.
const ALONE_OF_TENANT_MAX: usize = 256;
/// Messages in a batch, and their bytes.
const BATCH_MAX: usize = 300;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes that may wait: a slow disk writes them within a request's time, and they are held in memory.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Who has less time left goes alone: a batch must end before the first of its deadlines.
const HURRY: Duration = Duration::from_millis(500);
/// How long after its deadline a writer is told at the latest.
const TOLD: Duration = Duration::from_secs(1);
/// After a batch it is looked in such steps whether somebody came.
const GATHER_STEP: Duration = Duration::from_millis(1);
/// Nobody came for such a part of the time that is waited at most: then nobody else is on the way.
const GATHER_PAUSE: u32 = 3;
/// For as long as the last batch took, because those who come too late for this one wait for it as long as that; but not
/// for less or more than this.
const GATHER_MIN: Duration = Duration::from_millis(4);
const GATHER_MAX: Duration = Duration::from_millis(20);

/// A log whose appends are gathered.
pub struct Committer {
    shared: Arc<Shared>,
}

struct Shared {
    log: Arc<dyn Log>,
    waiting_max: usize,
    /// Tells how many wait.
    waiting: metrics::Gauge,
    state: Mutex<State>,
    /// As many wait as are waited for.
    gathered: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue,
    pace: Pace,
    /// A task gathers and sends batches, so nobody goes alone.
    driving: bool,
    /// At how many waiting it need not wait longer.
    gather: usize,
    /// How long the last batch took.
    took: Duration,
    /// Of the last job that waited.
    tickets: u64,
}

impl State {
    /// How many want to write.
    fn present(&self) -> usize {
        self.queue.waiting() + self.queue.going()
    }
}

impl Committer {
    /// Gathers the appends of a log from now on; so many commands may wait.
    pub fn new(log: Arc<dyn Log>, waiting_max: usize) -> Self {
        let (state, gathered) = (Mutex::default(), Notify::new());
        // Each log has a committer of its own.
        let waiting = metrics::gauge!("rollcall_committer_waiting", "stream" => log.name().to_string());
        Self { shared: Arc::new(Shared { log, waiting_max, waiting, state, gathered }) }
    }

    /// Writes one command and returns the sequence of its first message.
    async fn command(&self, mut appends: Vec<Append>, deadline: Instant) -> Result<u64, Error> {
        let shared = &self.shared;
        if deadline <= Instant::now() {
            return Err(Error::Unavailable { doing: shared.doing(), source: None });
        }
        let (load, bytes) = (Load::of(&appends), bytes(&appends));
        let answer = {
            let mut state = shared.lock();
            let crowd = state.driving || state.pace.way(state.present() + 1) == Way::Together;
            let room = state.queue.room(ALONE_MAX, ALONE_OF_TENANT_MAX, ALONE_BYTES_MAX);
            if !crowd && state.queue.has_room(&appends, bytes, room) && state.queue.admits(&appends) {
                state.queue.begin(&load);
                None
            } else {
                shared.make_way(&mut state, &appends, bytes)?;
                let (reply, answer) = oneshot::channel();
                state.tickets += 1;
                let ticket = state.tickets;
                let appends = std::mem::take(&mut appends);
                state.queue.push(Job {
                    ticket,
                    appends,
                    bytes,
                    deadline,
                    reply,
                    alone: false,
                    unknown: false,
                    turn: 0,
                });
                shared.kick(&mut state);
                Some((ticket, answer))
            }
        };
        let Some((ticket, mut answer)) = answer else {
            return Going { shared: shared.clone(), load }.write(appends, deadline).await;
        };
        if let Ok(Ok(result)) = tokio::time::timeout_at(deadline, &mut answer).await {
            return result;
        }
        // What still waits was not written, whatever is under way before it.
        let withdrawn = {
            let mut state = shared.lock();
            let withdrawn = state.queue.withdraw(ticket);
            shared.tell_waiting(&state);
            withdrawn
        };
        if let Some(job) = withdrawn {
            return Err(shared.too_late(&job));
        }
        match tokio::time::timeout_at(deadline + TOLD, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Error::Unknown { doing: shared.doing() }),
        }
    }
}

/// A command that goes alone. Dropped when it ended, or when its writer went away: then it may be written or not, and the
/// guards decide without our order.
struct Going {
    shared: Arc<Shared>,
    load: Load,
}

impl Going {
    async fn write(self, appends: Vec<Append>, deadline: Instant) -> Result<u64, Error> {
        metrics::counter!("rollcall_committer_singles_total").increment(1);
        write(&*self.shared.log, appends, deadline).await
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let present = state.present();
        state.queue.end(&self.load);
        state.pace.finished(self.load.messages, present, Instant::now());
        if state.queue.waiting() > 0 {
            self.shared.kick(&mut state);
        }
    }
}

async fn write(log: &dyn Log, mut appends: Vec<Append>, deadline: Instant) -> Result<u64, Error> {
    match (appends.pop(), appends.is_empty()) {
        (Some(append), true) => log.append(append, deadline).await,
        (last, _) => {
            appends.extend(last);
            let sequences = log.append_atomic(appends, deadline).await?;
            Ok(sequences.first().copied().unwrap_or_default())
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doing(&self) -> String {
        format!("appending to {}", self.log.name())
    }

    fn tell_waiting(&self, state: &State) {
        self.waiting.set(state.queue.waiting() as f64);
    }

    /// Sets going whatever may go, after somebody came or something ended.
    fn kick(self: &Arc<Self>, state: &mut State) {
        if state.driving {
            if state.queue.waiting() >= state.gather {
                self.gathered.notify_one();
            }
        } else if state.pace.way(state.present()) == Way::Together {
            state.driving = true;
            state.gather = state.present();
            tokio::spawn(self.clone().drive());
        } else {
            self.send_alone(state, |_| true);
        }
        self.tell_waiting(state);
    }

    /// What there is too much of for somebody with so many bytes to wait as well.
    fn is_full(&self, state: &State, bytes: usize) -> Option<Excess> {
        let waiting = state.queue.waiting();
        if waiting >= self.waiting_max {
            return Some(Excess::Commands);
        }
        let is_too_much = waiting > 0 && state.queue.waiting_bytes() + bytes > WAITING_BYTES_MAX;
        is_too_much.then_some(Excess::Bytes)
    }

    /// Sees to it that somebody may wait. Where all places are taken, a tenant who has more of them gives one up: nobody is kept
    /// out by thousands of another's.
    fn make_way(&self, state: &mut State, appends: &[Append], bytes: usize) -> Result<(), Error> {
        while let Some(excess) = self.is_full(state, bytes) {
            metrics::counter!("rollcall_committer_full_total").increment(1);
            let why = match excess {
                Excess::Commands => format!("{} writes wait already", self.waiting_max),
                Excess::Bytes => format!("writes of {} MB wait already", WAITING_BYTES_MAX >> 20),
            };
            let full = Error::Unavailable { doing: self.doing(), source: Some(why.into()) };
            match state.queue.give_way(appends, excess) {
                Some(job) => job.answer(Err(full)),
                None => return Err(full),
            }
        }
        Ok(())
    }

    /// Sends those who wait, each alone, as far as they may go.
    fn send_alone(self: &Arc<Self>, state: &mut State, wanted: impl Fn(&Job) -> bool) {
        for late in state.queue.take_late(Instant::now()) {
            let error = self.too_late(&late);
            late.answer(Err(error));
        }
        let room = state.queue.room(ALONE_MAX, ALONE_OF_TENANT_MAX, ALONE_BYTES_MAX);
        for job in state.queue.take(room, wanted) {
            let load = Load::of(&job.appends);
            state.queue.begin(&load);
            let going = Going { shared: self.clone(), load };
            tokio::spawn(async move {
                let Job { appends, deadline, reply, .. } = job;
                let _ = reply.send(going.write(appends, deadline).await);
            });
        }
    }

    fn too_late(&self, job: &Job) -> Error {
        let doing = format!("{} (others went before until the deadline)", self.doing());
        if job.unknown { Error::Unknown { doing } } else { Error::Unavailable { doing, source: None } }
    }

    /// Gathers and sends batches for as long as that is the way.
    async fn drive(self: Arc<Self>) {
        loop {
            self.gather().await;
            let jobs = {
                let mut state = self.lock();
                let now = Instant::now();
                for late in state.queue.take_late(now) {
                    let error = self.too_late(&late);
                    late.answer(Err(error));
                }
                self.send_alone(&mut state, |job| job.alone || job.deadline <= now + HURRY);
                let crowd = state.pace.way(state.present()) == Way::Together;
                let room = Room {
                    messages: BATCH_MAX,
                    bytes: BATCH_BYTES_MAX,
                    is_empty: true,
                    of_tenant: usize::MAX,
                };
                // Who may stand in the log by itself already would make a batch that can never stand.
                let jobs = if crowd { state.queue.take(room, |job| !job.alone) } else { Vec::new() };
                let is_batch = jobs.len() >= CROWD;
                if !is_batch {
                    state.driving = false;
                    state.queue.put_back(jobs);
                    self.send_alone(&mut state, |_| true);
                    self.tell_waiting(&state);
                    return;
                }
                self.tell_waiting(&state);
                jobs
            };
            self.together(jobs).await;
        }
    }

    /// Waits until as many wait as are expected, or nobody came for a while.
    async fn gather(&self) {
        let begun = Instant::now();
        let (mut came, mut seen) = (begun, 0);
        loop {
            let step = tokio::time::timeout(GATHER_STEP, self.gathered.notified()).await;
            let state = self.lock();
            let (waiting, now) = (state.queue.waiting(), Instant::now());
            if waiting != seen {
                (came, seen) = (now, waiting);
            }
            let patience = state.took.clamp(GATHER_MIN, GATHER_MAX);
            let gathered = step.is_ok() && waiting >= state.gather;
            // Those whom a batch woke take a while to come at all.
            let paused = seen > 0 && now - came >= patience / GATHER_PAUSE;
            if gathered || paused || now - begun >= patience {
                return;
            }
        }
    }
}

#[async_trait::async_trait]
impl Log for Committer {
    fn name(&self) -> &str {
        self.shared.log.name()
    }

    async fn append(&self, append: Append, deadline: Instant) -> Result<u64, Error> {
        self.command(vec![append], deadline).await
    }

    async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error> {
        let count = appends.len() as u64;
        let first = self.command(appends, deadline).await?;
        Ok((first..first + count).collect())
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        self.shared.log.read(sequence).await
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.shared.log.last_on(subject).await
    }

    async fn next_on(&self, subject: &str, from: u64) -> Result<Option<Message>, Error> {
        self.shared.log.next_on(subject, from).await
    }

    async fn some_on(&self, subject: &str, from: u64) -> Result<Vec<Message>, Error> {
        self.shared.log.some_on(subject, from).await
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        self.shared.log.last_sequence().await
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        self.shared.log.follow(from)
    }

    async fn note(&self, name: &str) -> Result<Option<String>, Error> {
        self.shared.log.note(name).await
    }

    async fn set_note(&self, name: &str, value: &str) -> Result<(), Error> {
        self.shared.log.set_note(name, value).await
    }
}

#[cfg(test)]
mod tests;
