//! One batch, and what its end means for each of those who share it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::queue::{Job, Load};
use super::{HURRY, Shared};
use crate::{Append, Error, Guard};

/// Who is looked for after a refused batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offenders {
    /// The one that the broker names. Mostly it is the only one.
    Named,
    /// All of them.
    All,
}

/// What a batch takes up, free again whatever became of its task.
struct Together<'a> {
    shared: &'a Shared,
    loads: Vec<Load>,
}

impl Drop for Together<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        for load in &self.loads {
            state.queue.end(load);
        }
    }
}

impl Shared {
    /// Writes a batch, answers whom it can, and puts back those who must go again. Where many have guards that do not hold any
    /// more, as when one resource is wanted by many, the others are not sent with the next of those: they go again by
    /// themselves, at the latest once all who stand in the way are found.
    pub(super) async fn together(self: &Arc<Self>, jobs: Vec<Job>) {
        let mut rest = self.send(jobs, Offenders::Named).await;
        while !rest.is_empty() {
            // A batch must end before the first of its deadlines.
            let soon = Instant::now() + HURRY;
            if rest.iter().any(|job| job.alone || job.deadline <= soon) {
                return self.lock().queue.put_back(rest);
            }
            rest = self.send(rest, Offenders::All).await;
        }
    }

    /// Sends a batch once; those who may go again at once.
    async fn send(self: &Arc<Self>, mut jobs: Vec<Job>, offenders: Offenders) -> Vec<Job> {
        // The first message of a batch speaks for all when its end is unknown, best by its guard.
        if let Some(first) = jobs.iter().position(guarded) {
            jobs.swap(0, first);
        }
        let marks = {
            let mut state = self.lock();
            let loads: Vec<Load> = jobs.iter().map(|job| Load::of(&job.appends)).collect();
            loads.iter().for_each(|load| state.queue.begin(load));
            Together { shared: self, loads }
        };
        let deadline = jobs.iter().map(|job| job.deadline).min().unwrap_or_else(Instant::now);
        let appends: Vec<Append> = jobs.iter().flat_map(|job| job.appends.iter().cloned()).collect();
        let (messages, commands) = (appends.len(), jobs.len());
        metrics::counter!("rollcall_committer_batches_total").increment(1);
        metrics::histogram!("rollcall_committer_batch_messages").record(messages as f64);
        let begun = Instant::now();
        let again = match self.log.append_atomic(appends, deadline).await {
            Ok(sequences) => {
                drop(marks);
                self.written(messages, commands, begun.elapsed());
                let mut first = sequences.first().copied().unwrap_or_default();
                for job in jobs {
                    let count = job.appends.len() as u64;
                    job.answer(Ok(first));
                    first += count;
                }
                return Vec::new();
            }
            Err(Error::Conflict { at }) => {
                metrics::counter!("rollcall_committer_batches_refused_total").increment(1);
                let at = at.filter(|_| offenders == Offenders::Named);
                let again = self.without_offenders(jobs, at).await;
                self.lock().gather = commands;
                return again;
            }
            Err(error) => {
                let unknown = !matches!(error, Error::Unavailable { .. } | Error::Refused { .. });
                let apart = |job: Job| Job { alone: true, unknown: job.unknown || unknown, ..job };
                jobs.into_iter().map(apart).collect()
            }
        };
        drop(marks);
        let mut state = self.lock();
        state.gather = commands;
        state.queue.put_back(again);
        Vec::new()
    }

    fn written(&self, messages: usize, commands: usize, took: Duration) {
        let mut state = self.lock();
        state.took = took;
        let present = state.present() + commands;
        state.gather = present;
        state.pace.finished(messages, present, Instant::now());
    }

    /// Nothing of the batch was written. Whoever's guard does not hold is told so; the others go again. The broker names
    /// the message that stood in the way, `at`, whose subject names the offender.
    async fn without_offenders(&self, jobs: Vec<Job>, at: Option<u64>) -> Vec<Job> {
        let named = match at {
            Some(at) if at > 0 => self.log.read(at).await.ok().flatten().map(|message| message.subject),
            Some(_) | None => None,
        };
        let suspects: BTreeSet<String> = match named {
            Some(subject) => BTreeSet::from([subject]),
            None => jobs.iter().flat_map(guards).map(|(append, _)| append.subject.clone()).collect(),
        };
        let lasts = suspects.iter().map(|subject| async move { (subject, self.log.last_on(subject).await) });
        let lasts = futures::future::join_all(lasts).await;
        let last_on =
            |subject: &str| lasts.iter().find(|(suspect, _)| *suspect == subject).map(|(_, last)| last);
        let mut again = Vec::with_capacity(jobs.len());
        let mut found = false;
        for mut job in jobs {
            let (mut offends, mut unread, mut stands) = (false, false, false);
            for (append, expected) in guards(&job) {
                match last_on(&append.subject) {
                    None => {}
                    Some(Err(_)) => unread = true,
                    Some(Ok(last)) if last.as_ref().map_or(0, |last| last.sequence) == expected => {}
                    // Another try of it was written after all.
                    Some(Ok(Some(last))) if job.appends.iter().any(|own| last.id == Some(own.id)) => {
                        stands = true
                    }
                    Some(Ok(_)) => offends = true,
                }
            }
            found |= offends || stands;
            if offends && !stands {
                job.answer(Err(Error::Conflict { at: None }));
            } else {
                job.alone |= unread || stands;
                job.unknown |= stands;
                again.push(job);
            }
        }
        if !found {
            // Whatever it was, each finds out for itself.
            again.iter_mut().for_each(|job| job.alone = true);
        }
        again
    }
}

fn guarded(job: &Job) -> bool {
    job.appends.first().is_some_and(|append| matches!(append.guard, Guard::Last(_)))
}

/// A command's guards; a later message on a subject of its own is guarded by the one before it.
fn guards(job: &Job) -> impl Iterator<Item = (&Append, u64)> {
    job.appends.iter().filter_map(|append| match append.guard {
        Guard::Last(last) => Some((append, last)),
        Guard::None => None,
    })
}
