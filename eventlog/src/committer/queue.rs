//! Who waits, and who may go: commands that touch one subject go in order, everybody else beside one another. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::{Append, Error, Guard};

/// One command, of one message or several, that somebody waits for.
pub(super) struct Job {
    /// By which its writer knows it.
    pub(super) ticket: u64,
    pub(super) appends: Vec<Append>,
    pub(super) deadline: Instant,
    /// Told the sequence of its first message.
    pub(super) reply: oneshot::Sender<Result<u64, Error>>,
    /// Not for a batch: one that held it failed.
    pub(super) alone: bool,
    /// A batch that held it came to an unknown end, so it may stand in the log.
    pub(super) unknown: bool,
}

impl Job {
    pub(super) fn answer(self, result: Result<u64, Error>) {
        // Who went away does not want to know.
        let _ = self.reply.send(result);
    }
}

/// The subjects of a command; guarded when any of its messages there is.
pub(super) type Subjects = BTreeMap<String, bool>;

pub(super) fn subjects(appends: &[Append]) -> Subjects {
    let mut subjects = Subjects::new();
    for append in appends {
        let guarded = matches!(append.guard, Guard::Last(_));
        match subjects.get_mut(&append.subject) {
            Some(known) => *known |= guarded,
            None => drop(subjects.insert(append.subject.clone(), guarded)),
        }
    }
    subjects
}

/// What is under way on a subject.
#[derive(Clone, Copy, Default)]
struct Count {
    guarded: usize,
    free: usize,
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Job>,
    under_way: BTreeMap<String, Count>,
    /// Commands that are under way.
    going: usize,
}

/// Subjects of commands that are ahead.
#[derive(Default)]
struct Ahead<'a> {
    guarded: BTreeSet<&'a str>,
    free: BTreeSet<&'a str>,
}

impl<'a> Ahead<'a> {
    fn add(&mut self, append: &'a Append) {
        let set = if matches!(append.guard, Guard::Last(_)) { &mut self.guarded } else { &mut self.free };
        set.insert(&append.subject);
    }

    /// A guarded change waits for everything before it on its subject, and what follows there waits for it.
    fn blocks(&self, append: &Append) -> bool {
        let guarded = matches!(append.guard, Guard::Last(_));
        self.guarded.contains(append.subject.as_str())
            || guarded && self.free.contains(append.subject.as_str())
    }
}

impl Queue {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many are under way.
    pub(super) fn going(&self) -> usize {
        self.going
    }

    /// Whether a command that just came may go at once.
    pub(super) fn admits(&self, appends: &[Append]) -> bool {
        let mut ahead = Ahead::default();
        self.waiting.iter().flat_map(|job| &job.appends).for_each(|append| ahead.add(append));
        !appends.iter().any(|append| self.busy(append) || ahead.blocks(append))
    }

    fn busy(&self, append: &Append) -> bool {
        let Count { guarded, free } = self.under_way.get(&append.subject).copied().unwrap_or_default();
        guarded > 0 || matches!(append.guard, Guard::Last(_)) && free > 0
    }

    pub(super) fn push(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Takes a job back that was not sent.
    pub(super) fn withdraw(&mut self, ticket: u64) -> Option<Job> {
        let place = self.waiting.iter().position(|job| job.ticket == ticket)?;
        self.waiting.remove(place)
    }

    /// Puts jobs back where they came from.
    pub(super) fn put_back(&mut self, jobs: Vec<Job>) {
        for job in jobs.into_iter().rev() {
            self.waiting.push_front(job);
        }
    }

    /// Those whose deadline has passed.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Job> {
        if self.waiting.iter().all(|job| job.deadline > now) {
            return Vec::new();
        }
        let (late, kept) =
            std::mem::take(&mut self.waiting).into_iter().partition(|job: &Job| job.deadline <= now);
        self.waiting = kept;
        Vec::from(late)
    }

    /// Takes, in order, those that may go now and that `wanted` wants, up to so many messages.
    pub(super) fn take(&mut self, messages_max: usize, wanted: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut goes = Vec::with_capacity(self.waiting.len());
        let mut ahead = Ahead::default();
        let mut messages = 0;
        for job in &self.waiting {
            let blocked = job.appends.iter().any(|append| self.busy(append) || ahead.blocks(append));
            let fits = messages == 0 || messages + job.appends.len() <= messages_max;
            let takes = !blocked && fits && messages < messages_max && wanted(job);
            if takes {
                messages += job.appends.len();
            }
            goes.push(takes);
            job.appends.iter().for_each(|append| ahead.add(append));
        }
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for (job, goes) in std::mem::take(&mut self.waiting).into_iter().zip(goes) {
            if goes { taken.push(job) } else { kept.push_back(job) }
        }
        self.waiting = kept;
        taken
    }

    /// A command goes.
    pub(super) fn begin(&mut self, subjects: &Subjects) {
        self.going += 1;
        for (subject, guarded) in subjects {
            let count = self.under_way.entry(subject.clone()).or_default();
            *(if *guarded { &mut count.guarded } else { &mut count.free }) += 1;
        }
    }

    /// A command ended.
    pub(super) fn end(&mut self, subjects: &Subjects) {
        self.going = self.going.saturating_sub(1);
        for (subject, guarded) in subjects {
            let Some(count) = self.under_way.get_mut(subject) else { continue };
            let one = if *guarded { &mut count.guarded } else { &mut count.free };
            *one = one.saturating_sub(1);
            if (count.guarded, count.free) == (0, 0) {
                self.under_way.remove(subject);
            }
        }
    }
}
