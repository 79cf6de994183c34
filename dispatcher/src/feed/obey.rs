//! Doing what operators ask of a feed: each instruction once, and written down with who asked.

use eventlog::clock;
use proto::ResourceId;

use super::cursor::Work;
use super::instruction::{self, Instruction, Pending};
use super::{Desk, Worker};
use crate::Error;

/// A snapshot that begins where the feed is when it is its turn.
pub(super) fn snapshot() -> Work {
    Work::Snapshot {
        id: format!("snapshot-{}", clock::new_uuid()),
        position: None,
        time: clock::now(),
        done: 0,
    }
}

impl Worker {
    /// Looks at the instructions that wait.
    pub(super) async fn obey(&self, desk: &mut Desk) -> Result<(), Error> {
        let broker = &self.shared.broker;
        let pending = instruction::pending(broker, &self.feed, desk.cursor.state.instructed).await?;
        if pending.is_empty() {
            return Ok(());
        }
        for pending in pending {
            let outcome = self.follow(desk, &pending).await?;
            if let Ok(done) = &outcome {
                instruction::write_down(broker, &self.config.tenant, &self.feed, &pending).await?;
                tracing::info!(feed = self.feed, by = pending.by, done, "instructed");
            }
            desk.cursor.state.answer(pending.number, outcome);
        }
        desk.cursor.state.held = desk.queue.held().cloned().collect();
        desk.cursor.save(broker).await?;
        Ok(instruction::remove(broker, &self.feed, desk.cursor.state.instructed).await?)
    }

    /// What was done, or why it was not.
    async fn follow(&self, desk: &mut Desk, pending: &Pending) -> Result<Result<String, String>, Error> {
        match &pending.instruction {
            Instruction::Redrive { ids } => Ok(redrive(desk, ids)),
            Instruction::Skip { id } => {
                let skipped = skip(desk, id);
                // Mostly nothing is left of it, and then it is not held any more.
                self.fill(desk).await?;
                Ok(skipped)
            }
            Instruction::Resume => Ok(match desk.cursor.state.stopped.take() {
                Some(stopped) => {
                    self.told.store(false, std::sync::atomic::Ordering::Relaxed);
                    Ok(format!("the feed goes on; it was stopped because {}", stopped.why))
                }
                None => Err("the feed is not stopped".to_string()),
            }),
            Instruction::Replay { first, last } => Ok(replay(desk, *first, *last)),
            Instruction::Snapshot => Ok(match busy(desk) {
                Some(why) => Err(why),
                None => {
                    let work = snapshot();
                    let told = format!("snapshot {} begins; the feed goes on after it", id(&work));
                    desk.cursor.state.work = Some(work);
                    Ok(told)
                }
            }),
        }
    }

    /// Goes on with what was being tried again when another process ended.
    pub(super) fn take_up(&self, desk: &mut Desk) {
        let open: Vec<ResourceId> =
            desk.queue.held().filter(|held| held.redriving).map(|held| held.resource_id).collect();
        for id in open {
            desk.queue.redrive(id);
        }
    }

    /// Makes one piece again of what is tried again.
    pub(super) async fn fill(&self, desk: &mut Desk) -> Result<(), Error> {
        let Some((held, waiting)) = desk.queue.unfilled() else { return Ok(()) };
        let (id, kind, waiting) = (held.resource_id, held.resource_type.clone(), waiting.clone());
        let parcel = self.source.again(&kind, id, &waiting).await?;
        desk.queue.fill(id, parcel);
        Ok(())
    }
}

fn redrive(desk: &mut Desk, ids: &[String]) -> Result<String, String> {
    let mut chosen = Vec::new();
    for id in ids {
        match desk.queue.find_held(id) {
            Some(held) => chosen.push(held.clone()),
            None => return Err(not_held(id)),
        }
    }
    if ids.is_empty() {
        chosen.extend(desk.queue.held().cloned());
    }
    chosen.retain(|held| !held.redriving);
    for held in &chosen {
        desk.queue.redrive(held.resource_id);
    }
    let resources = if chosen.len() == 1 { "resource is" } else { "resources are" };
    Ok(format!("{} {resources} tried again", chosen.len()))
}

fn skip(desk: &mut Desk, id: &str) -> Result<String, String> {
    let Some(held) = desk.queue.find_held(id).cloned() else { return Err(not_held(id)) };
    if held.redriving {
        return Err(format!("{id} is being tried again at the moment; skip it when it is held again"));
    }
    desk.queue.skip(held.resource_id);
    let told = format!("{} ({}) is given up; what waited behind it goes on", held.event, held.event_type);
    desk.queue.redrive(held.resource_id);
    Ok(told)
}

fn replay(desk: &mut Desk, first: u64, last: Option<u64>) -> Result<String, String> {
    if let Some(why) = busy(desk) {
        return Err(why);
    }
    let reached = desk.cursor.state.sequence();
    let first = first.max(1);
    let last = last.unwrap_or(reached).min(reached);
    if first > last {
        return Err(format!(
            "there is nothing to replay: from {first} to {last}, and the feed itself stands at {reached}"
        ));
    }
    let work = Work::Replay {
        id: format!("replay-{}", clock::new_uuid()),
        first,
        last,
        done: first.saturating_sub(1),
    };
    let told = format!("replay {} from {first} to {last} begins; the feed goes on after it", id(&work));
    desk.cursor.state.work = Some(work);
    Ok(told)
}

/// Why something further cannot begin.
fn busy(desk: &Desk) -> Option<String> {
    match desk.cursor.state.work.as_ref()? {
        Work::Snapshot { id, .. } => Some(format!("snapshot {id} is under way; ask again when it is whole")),
        Work::Replay { id, .. } => Some(format!("replay {id} is under way; ask again when it is whole")),
    }
}

fn id(work: &Work) -> &str {
    match work {
        Work::Snapshot { id, .. } | Work::Replay { id, .. } => id,
    }
}

fn not_held(id: &str) -> String {
    format!("{id} is not held: neither a resource nor a refused event has this id")
}
