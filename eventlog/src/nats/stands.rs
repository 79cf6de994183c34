//! Whose message came first? After an attempt whose end is not known the log itself is asked.
//!
//! Under the guard "last is G" our message, if it stands anywhere, is the *first* on its subject after G. A batch is
//! whole or not there, so one guarded message speaks for all of it. Without any guard we walk along a subject, from a
//! sequence that the log had reached before the attempt.

use super::log::NatsLog;
use crate::{Append, Error, Guard, Log, Message};

/// A sequence after which these messages stand, if they stand: they came after everything that they are guarded by.
/// Nothing when no guard says.
pub(super) fn floor(appends: &[Append]) -> Option<u64> {
    let guards = appends.iter().filter_map(|append| match append.guard {
        Guard::Last(last) => Some(last),
        Guard::None => None,
    });
    guards.max()
}

/// Where the first of these messages stands. [`Error::Conflict`] when they do not stand together and never will;
/// nothing when they may still come. `known` says that the broker knows one of the ids; `at` is the message that stood in
/// the way, where the broker says it.
pub(super) async fn find(
    log: &NatsLog,
    appends: &[Append],
    floor: u64,
    known: bool,
    at: Option<u64>,
) -> Result<Option<u64>, Error> {
    let mut guards: Vec<(usize, &Append, u64)> = (0..)
        .zip(appends)
        .filter_map(|(index, append)| match append.guard {
            Guard::Last(last) => Some((index, append, last)),
            Guard::None => None,
        })
        .collect();
    // The subject of what stood in the way says which guard it was.
    if guards.len() > 1
        && let Some(stood) = log.read(at.unwrap_or_default()).await?
        && let Some(place) = guards.iter().position(|(_, append, _)| append.subject == stood.subject)
    {
        guards.swap(0, place);
    }
    let guarded = !guards.is_empty();
    for (index, append, last) in guards {
        match log.next_on(&append.subject, last + 1).await? {
            Some(message) if message.id == Some(append.id) => {
                return together(log, appends, index, &message).await;
            }
            // Another's: this guard will never hold again, and with it none of the batch.
            Some(_) => return Err(Error::Conflict { at: None }),
            None => {}
        }
    }
    if guarded {
        return Ok(None);
    }
    let Some(first) = appends.first() else { return Ok(None) };
    let mut found = walk(log, first, floor).await?;
    if found.is_none() && known && floor > 0 {
        // Somebody asks again for what stood there before this call began.
        found = walk(log, first, 0).await?;
    }
    match found {
        Some(message) => together(log, appends, 0, &message).await,
        None => Ok(None),
    }
}

/// The message with the append's id on its subject after this sequence.
async fn walk(log: &NatsLog, append: &Append, after: u64) -> Result<Option<Message>, Error> {
    let mut from = after + 1;
    while let Some(message) = log.next_on(&append.subject, from).await? {
        if message.id == Some(append.id) {
            return Ok(Some(message));
        }
        from = message.sequence + 1;
    }
    Ok(None)
}

/// Where the first stands when this one is the message of that index. A message that was written by itself, before
/// it came into this batch, is not the batch.
async fn together(
    log: &NatsLog,
    appends: &[Append],
    index: usize,
    message: &Message,
) -> Result<Option<u64>, Error> {
    let Some(start) = message.sequence.checked_sub(index as u64) else {
        return Err(Error::Conflict { at: None });
    };
    let ends = [appends.first().map(|first| (start, first.id)), {
        let end = start + (appends.len() as u64).saturating_sub(1);
        appends.last().map(|last| (end, last.id))
    }];
    for (sequence, id) in ends.into_iter().flatten() {
        if sequence == message.sequence {
            continue;
        }
        if log.read(sequence).await?.and_then(|found| found.id) != Some(id) {
            return Err(Error::Conflict { at: None });
        }
    }
    Ok(Some(start))
}
