//! Who waits, and who may go: commands that touch one subject go in order, everybody else beside one another. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::subject;
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
    /// When it comes, which is found out when it first waits: lower ones first, and of one tenant no two the same.
    pub(super) turn: u64,
}

impl Job {
    pub(super) fn answer(self, result: Result<u64, Error>) {
        // Who went away does not want to know.
        let _ = self.reply.send(result);
    }
}

/// What a command takes up while it is under way.
pub(super) struct Load {
    tenant: String,
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
        Self { tenant: tenant(appends).to_string(), subjects, messages: appends.len(), bytes: bytes(appends) }
    }
}

/// Whose command it is: all its messages are one tenant's.
fn tenant(appends: &[Append]) -> &str {
    appends.first().map(|append| subject::tenant_of(&append.subject)).unwrap_or_default()
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
    /// How many commands of one tenant may be under way.
    pub(super) of_tenant: usize,
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Commands,
    Bytes,
}

/// What of one tenant waits.
#[derive(Clone, Copy, Default)]
struct Wait {
    commands: usize,
    bytes: usize,
}

impl Wait {
    fn of(&self, excess: Excess) -> usize {
        match excess {
            Excess::Commands => self.commands,
            Excess::Bytes => self.bytes,
        }
    }
}

/// What is under way on a subject.
#[derive(Clone, Copy, Default)]
struct Count {
    guarded: usize,
    free: usize,
}

/// Of more tenants than these the last turn is not remembered, unless they wait for it.
const TENANTS_KEPT: usize = 1_024;

#[derive(Default)]
pub(super) struct Queue {
    /// In the order of their turns.
    waiting: VecDeque<Job>,
    waiting_bytes: usize,
    waiting_of: BTreeMap<String, Wait>,
    /// The last turn that each tenant was given, and that anybody was.
    turns: BTreeMap<String, u64>,
    last_turn: u64,
    under_way: BTreeMap<String, Count>,
    /// Commands that are under way, of all and of each tenant, and their bytes.
    going: usize,
    going_of: BTreeMap<String, usize>,
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
    pub(super) fn room(&self, going_max: usize, of_tenant: usize, bytes_max: usize) -> Room {
        Room {
            of_tenant,
            messages: going_max.saturating_sub(self.going),
            bytes: bytes_max.saturating_sub(self.going_bytes),
            is_empty: self.going == 0,
        }
    }

    /// Whether a command of so many bytes fits beside what is under way and what came before.
    pub(super) fn has_room(&self, appends: &[Append], bytes: usize, room: Room) -> bool {
        let is_first = room.is_empty && self.waiting.is_empty();
        let is_his_share = self.going_of(tenant(appends)) < room.of_tenant;
        is_his_share && room.messages > 0 && (is_first || self.waiting_bytes + bytes <= room.bytes)
    }

    /// Whether a command that just came may go at once.
    pub(super) fn admits(&self, appends: &[Append]) -> bool {
        let mut ahead = Ahead::default();
        self.waiting.iter().flat_map(|job| &job.appends).for_each(|append| ahead.add(append));
        !appends.iter().any(|append| self.busy(append) || ahead.blocks(append))
    }

    fn going_of(&self, tenant: &str) -> usize {
        self.going_of.get(tenant).copied().unwrap_or_default()
    }

    fn busy(&self, append: &Append) -> bool {
        let Count { guarded, free } = self.under_way.get(&append.subject).copied().unwrap_or_default();
        guarded > 0 || matches!(append.guard, Guard::Last(_)) && free > 0
    }

    /// A tenant's next command comes a turn after his last, whoever else waits: so that nobody who writes one thing waits for
    /// a thousand of another's.
    pub(super) fn push(&mut self, job: Job) {
        let now = match self.waiting.front() {
            Some(first) => first.turn,
            None => {
                self.turns.clear();
                self.last_turn + 1
            }
        };
        if self.turns.len() > TENANTS_KEPT {
            self.turns.retain(|_, last| *last >= now);
        }
        let turn = match self.turns.get_mut(tenant(&job.appends)) {
            Some(last) => {
                *last = now.max(*last + 1);
                *last
            }
            None => {
                self.turns.insert(tenant(&job.appends).to_string(), now);
                now
            }
        };
        self.last_turn = self.last_turn.max(turn);
        self.comes(&job);
        let place = self.waiting.partition_point(|other| other.turn <= turn);
        self.waiting.insert(place, Job { turn, ..job });
    }

    fn comes(&mut self, job: &Job) {
        self.waiting_bytes += job.bytes;
        let tenant = tenant(&job.appends);
        let his = match self.waiting_of.get_mut(tenant) {
            Some(his) => his,
            None => self.waiting_of.entry(tenant.to_string()).or_default(),
        };
        his.commands += 1;
        his.bytes += job.bytes;
    }

    fn leaves(&mut self, job: &Job) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(job.bytes);
        let tenant = tenant(&job.appends);
        if let Some(his) = self.waiting_of.get_mut(tenant) {
            his.commands = his.commands.saturating_sub(1);
            his.bytes = his.bytes.saturating_sub(job.bytes);
            if his.commands == 0 {
                self.waiting_of.remove(tenant);
            }
        }
    }

    /// Takes a job back that was not sent.
    pub(super) fn withdraw(&mut self, ticket: u64) -> Option<Job> {
        let place = self.waiting.iter().position(|job| job.ticket == ticket)?;
        let job = self.waiting.remove(place)?;
        self.leaves(&job);
        Some(job)
    }

    /// Takes out the last job of the tenant who has most of what there is too much of, so that a command that just came may wait
    /// in its place; nothing when its own tenant would then have as much.
    pub(super) fn give_way(&mut self, appends: &[Append], excess: Excess) -> Option<Job> {
        let newcomer = Wait { commands: 1, bytes: bytes(appends) };
        let own = self.waiting_of.get(tenant(appends)).map_or(0, |his| his.of(excess));
        let (most, his) = self.waiting_of.iter().max_by_key(|(_, his)| his.of(excess))?;
        if his.of(excess) <= own + newcomer.of(excess) {
            return None;
        }
        // What may stand in the log already is not told that it does not.
        let is_last = |job: &Job| !job.unknown && tenant(&job.appends) == most;
        let place = self.waiting.iter().rposition(is_last)?;
        let job = self.waiting.remove(place)?;
        self.leaves(&job);
        Some(job)
    }

    /// Puts jobs back where they came from.
    pub(super) fn put_back(&mut self, jobs: Vec<Job>) {
        for job in jobs.into_iter().rev() {
            self.comes(&job);
            let place = self.waiting.partition_point(|other| other.turn < job.turn);
            self.waiting.insert(place, job);
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
        late.iter().for_each(|job| self.leaves(job));
        Vec::from(late)
    }

    /// Takes, in order, those that may go now and that `wanted` wants, as far as there is room.
    pub(super) fn take(&mut self, room: Room, wanted: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut goes = Vec::with_capacity(self.waiting.len());
        let mut ahead = Ahead::default();
        let (mut messages, mut bytes, mut full) = (0, 0, false);
        let mut going_of: BTreeMap<&str, usize> = BTreeMap::new();
        for job in &self.waiting {
            let blocked = job.appends.iter().any(|append| self.busy(append) || ahead.blocks(append));
            let fits = messages == 0 || messages + job.appends.len() <= room.messages;
            let of = tenant(&job.appends);
            let his = going_of.entry(of).or_insert_with(|| self.going_of(of));
            let may = !blocked && fits && messages < room.messages && *his < room.of_tenant && wanted(job);
            // Who is too large for now is not overtaken by those who are not.
            full |= may && !(messages == 0 && room.is_empty) && bytes + job.bytes > room.bytes;
            let takes = may && !full;
            if takes {
                *his += 1;
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
        taken.iter().for_each(|job| self.leaves(job));
        taken
    }

    /// A command goes.
    pub(super) fn begin(&mut self, load: &Load) {
        self.going += 1;
        match self.going_of.get_mut(&load.tenant) {
            Some(his) => *his += 1,
            None => drop(self.going_of.insert(load.tenant.clone(), 1)),
        }
        self.going_bytes += load.bytes;
        for (subject, guarded) in &load.subjects {
            let count = self.under_way.entry(subject.clone()).or_default();
            *(if *guarded { &mut count.guarded } else { &mut count.free }) += 1;
        }
    }

    /// A command ended.
    pub(super) fn end(&mut self, load: &Load) {
        self.going = self.going.saturating_sub(1);
        if let Some(his) = self.going_of.get_mut(&load.tenant) {
            *his = his.saturating_sub(1);
            if *his == 0 {
                self.going_of.remove(&load.tenant);
            }
        }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const ROOM: Room = Room { messages: 6, bytes: 1_000, is_empty: true, of_tenant: 300 };

    /// A tenant's command on a subject.
    fn job(tenant: &str, name: &str) -> Job {
        let append = Append {
            subject: subject::control(&tenant.parse().unwrap(), name),
            guard: Guard::Last(1),
            id: crate::clock::new_event_id(),
            payload: Bytes::from_static(b"x"),
            headers: crate::Headers::default(),
        };
        let (reply, _) = oneshot::channel();
        Job {
            ticket: 0,
            appends: vec![append],
            bytes: 1,
            deadline: Instant::now(),
            reply,
            alone: false,
            unknown: false,
            turn: 0,
        }
    }

    fn names(jobs: &[Job]) -> Vec<&str> {
        jobs.iter().filter_map(|job| job.appends.first()?.subject.rsplit('.').next()).collect()
    }

    #[test]
    fn nobody_waits_for_a_thousand_of_anothers() {
        let mut queue = Queue::default();
        (0..1_000).for_each(|number| queue.push(job("crowd", &format!("a{number}"))));
        (0..3).for_each(|number| queue.push(job("few", &format!("b{number}"))));
        queue.push(job("one", "c0"));
        let taken = queue.take(ROOM, |_| true);
        assert_eq!(names(&taken), ["a0", "b0", "c0", "a1", "b1", "a2"]);
        // Whoever comes later is not before those who wait.
        queue.push(job("one", "c1"));
        queue.push(job("late", "d0"));
        queue.put_back(taken);
        let taken = queue.take(ROOM, |_| true);
        assert_eq!(names(&taken), ["a0", "b0", "c0", "a1", "b1", "a2"]);
        assert_eq!(names(&queue.take(ROOM, |_| true)), ["b2", "c1", "d0", "a3", "a4", "a5"]);
        while queue.waiting() > 0 {
            queue.take(ROOM, |_| true);
        }
        (0..3).for_each(|number| queue.push(job("crowd", &format!("a{number}"))));
        queue.push(job("few", "b0"));
        assert_eq!(names(&queue.take(ROOM, |_| true)), ["a0", "b0", "a1", "a2"]);
    }

    #[test]
    fn one_tenant_does_not_take_all_the_room() {
        let mut queue = Queue::default();
        let room = |queue: &Queue| queue.room(10, 4, 1_000);
        let loads: Vec<Load> =
            (0..4).map(|number| Load::of(&job("crowd", &format!("a{number}")).appends)).collect();
        loads.iter().for_each(|load| queue.begin(load));
        let (his, anothers) = (job("crowd", "a4"), job("few", "b0"));
        assert!(
            !queue.has_room(&his.appends, 1, room(&queue))
                && queue.has_room(&anothers.appends, 1, room(&queue))
        );
        queue.push(his);
        (1..7).for_each(|number| queue.push(job("few", &format!("b{number}"))));
        assert_eq!(names(&queue.take(room(&queue), |_| true)), ["b1", "b2", "b3", "b4"]);
        loads.iter().for_each(|load| queue.end(load));
        assert_eq!(names(&queue.take(room(&queue), |_| true)), ["a4", "b5", "b6"]);
    }

    #[test]
    fn who_has_most_places_gives_one_up() {
        let mut queue = Queue::default();
        let give_way = |queue: &mut Queue, tenant, excess| {
            let given = queue.give_way(&job(tenant, "new").appends, excess);
            given.map(|job| names(&[job]).concat())
        };
        (0..5).for_each(|number| queue.push(job("crowd", &format!("a{number}"))));
        queue.push(Job { bytes: 100, ..job("heavy", "b0") });
        queue.push(Job { unknown: true, ..job("crowd", "a5") });
        assert_eq!(give_way(&mut queue, "few", Excess::Commands).unwrap(), "a4", "who may be written stays");
        assert_eq!(give_way(&mut queue, "crowd", Excess::Commands), None);
        assert_eq!(give_way(&mut queue, "few", Excess::Bytes).unwrap(), "b0");
        assert_eq!(queue.waiting_bytes(), 5);
        (0..4).for_each(|number| queue.push(job("few", &format!("c{number}"))));
        assert_eq!(give_way(&mut queue, "few", Excess::Commands), None, "he would have as many");
        let taken = queue.take(Room { messages: 300, ..ROOM }, |_| true);
        assert_eq!((taken.len(), queue.waiting_of.len()), (9, 0));
        queue.put_back(taken);
        assert_eq!(queue.waiting_of["crowd"].commands, 5);
    }

    #[test]
    fn of_one_subject_the_order_stays_whatever_is_put_back() {
        let mut queue = Queue::default();
        (0..5).for_each(|number| queue.push(job("crowd", &format!("a{number}"))));
        queue.push(job("crowd", "a0"));
        let mut taken = queue.take(Room { messages: 300, ..ROOM }, |_| true);
        assert_eq!((names(&taken).len(), queue.waiting()), (5, 1));
        queue.push(job("crowd", "a1"));
        taken.swap(0, 1);
        queue.put_back(taken);
        let all: Vec<Job> = std::mem::take(&mut queue.waiting).into();
        let order: Vec<u64> = all.iter().map(|job| job.turn).collect();
        assert!(order.is_sorted_by(|one, next| one < next), "{order:?}");
        assert_eq!(names(&all), ["a0", "a1", "a2", "a3", "a4", "a0", "a1"]);
    }
}
