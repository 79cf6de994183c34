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
    pub(super) bytes: usize,
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

/// What a command takes up while it is under way.
pub(super) struct Load {
    /// Guarded when any of its messages there is.
    subjects: BTreeMap<String, bool>,
    pub(super) messages: usize,
    bytes: usize,
}

impl Load {
    pub(super) fn of(appends: &[Append]) -> Self {
        let mut subjects = BTreeMap::new();
        for append in appends {
            let guarded = matches!(append.guard, Guard::Last(_));
            match subjects.get_mut(&append.subject) {
                Some(known) => *known |= guarded,
                None => drop(subjects.insert(append.subject.clone(), guarded)),
            }
        }
        Self { subjects, messages: appends.len(), bytes: bytes(appends) }
    }
}

pub(super) fn bytes(appends: &[Append]) -> usize {
    appends.iter().map(|append| append.payload.len()).sum()
}

/// How much more may go.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Nothing is in it yet, so one command goes however large it is.
    pub(super) is_empty: bool,
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
    waiting_bytes: usize,
    under_way: BTreeMap<String, Count>,
    /// Commands that are under way, and their bytes.
    going: usize,
    going_bytes: usize,
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

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What those who go alone have left of this many commands and bytes.
    pub(super) fn room(&self, going_max: usize, bytes_max: usize) -> Room {
        Room {
            messages: going_max.saturating_sub(self.going),
            bytes: bytes_max.saturating_sub(self.going_bytes),
            is_empty: self.going == 0,
        }
    }

    /// Whether so many bytes fit beside what is under way and what came before.
    pub(super) fn has_room(&self, bytes: usize, room: Room) -> bool {
        let is_first = room.is_empty && self.waiting.is_empty();
        room.messages > 0 && (is_first || self.waiting_bytes + bytes <= room.bytes)
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
        self.waiting_bytes += job.bytes;
        self.waiting.push_back(job);
    }

    /// Takes a job back that was not sent.
    pub(super) fn withdraw(&mut self, ticket: u64) -> Option<Job> {
        let place = self.waiting.iter().position(|job| job.ticket == ticket)?;
        let job = self.waiting.remove(place)?;
        self.waiting_bytes -= job.bytes;
        Some(job)
    }

    /// Puts jobs back where they came from.
    pub(super) fn put_back(&mut self, jobs: Vec<Job>) {
        for job in jobs.into_iter().rev() {
            self.waiting_bytes += job.bytes;
            self.waiting.push_front(job);
        }
    }

    /// Those whose deadline has passed.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Job> {
        if self.waiting.iter().all(|job| job.deadline > now) {
            return Vec::new();
        }
        let (late, kept): (VecDeque<Job>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|job| job.deadline <= now);
        self.waiting = kept;
        self.waiting_bytes -= late.iter().map(|job| job.bytes).sum::<usize>();
        Vec::from(late)
    }

    /// Takes, in order, those that may go now and that `wanted` wants, as far as there is room.
    pub(super) fn take(&mut self, room: Room, wanted: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut goes = Vec::with_capacity(self.waiting.len());
        let mut ahead = Ahead::default();
        let (mut messages, mut bytes, mut full) = (0, 0, false);
        for job in &self.waiting {
            let blocked = job.appends.iter().any(|append| self.busy(append) || ahead.blocks(append));
            let fits = messages == 0 || messages + job.appends.len() <= room.messages;
            let may = !blocked && fits && messages < room.messages && wanted(job);
            // Who is too large for now is not overtaken by those who are not.
            full |= may && !(messages == 0 && room.is_empty) && bytes + job.bytes > room.bytes;
            let takes = may && !full;
            if takes {
                messages += job.appends.len();
                bytes += job.bytes;
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
        self.waiting_bytes -= bytes;
        taken
    }

    /// A command goes.
    pub(super) fn begin(&mut self, load: &Load) {
        self.going += 1;
        self.going_bytes += load.bytes;
        for (subject, guarded) in &load.subjects {
            let count = self.under_way.entry(subject.clone()).or_default();
            *(if *guarded { &mut count.guarded } else { &mut count.free }) += 1;
        }
    }

    /// A command ended.
    pub(super) fn end(&mut self, load: &Load) {
        self.going = self.going.saturating_sub(1);
        self.going_bytes = self.going_bytes.saturating_sub(load.bytes);
        for (subject, guarded) in &load.subjects {
            let Some(count) = self.under_way.get_mut(subject) else { continue };
            let one = if *guarded { &mut count.guarded } else { &mut count.free };
            *one = one.saturating_sub(1);
            if (count.guarded, count.free) == (0, 0) {
                self.under_way.remove(subject);
            }
        }
    }
}
