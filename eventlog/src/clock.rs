//! The one home of the clock, of new ids and of chance. Pure code takes them as arguments.
//!
//! A simulation drives them by a seed and by tokio's virtual time, on its own thread and for as long as it holds a
//! [`Simulated`]; every other thread asks the system.

use std::cell::RefCell;
use std::marker::PhantomData;

use jiff::{SignedDuration, Timestamp};
use proto::{EventId, ResourceId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::memory::Chance;

/// When every simulation begins: 2026-01-01T00:00:00Z.
const BEGINNING_S: i64 = 1_767_225_600;

thread_local! {
    static SIMULATED: RefCell<Option<Source>> = const { RefCell::new(None) };
}

/// Where a simulated thread's time and chance come from.
struct Source {
    begun: Instant,
    chance: Chance,
}

/// While it lives, this thread's clock is tokio's, begun at a fixed day, and its chance comes from a seed. It cannot leave
/// its thread, and whoever drops it is back in the real world.
#[must_use = "dropped, it ends the simulation"]
pub struct Simulated {
    thread: PhantomData<*const ()>,
}

impl Simulated {
    /// Begins; nothing when this thread is simulated already.
    pub fn begin(seed: u64) -> Option<Self> {
        SIMULATED.with_borrow_mut(|simulated| {
            if simulated.is_some() {
                return None;
            }
            *simulated = Some(Source { begun: Instant::now(), chance: Chance::new(seed) });
            Some(Self { thread: PhantomData })
        })
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        SIMULATED.with_borrow_mut(|simulated| *simulated = None);
    }
}

/// The time now.
#[expect(clippy::disallowed_methods, reason = "the one home of the clock")]
pub fn now() -> Timestamp {
    let simulated = SIMULATED.with_borrow(|simulated| Some(simulated.as_ref()?.begun.elapsed()));
    match simulated {
        None => Timestamp::now(),
        Some(elapsed) => {
            let since = SignedDuration::try_from(elapsed).unwrap_or_default();
            let begun = Timestamp::from_second(BEGINNING_S).unwrap_or_default();
            begun.checked_add(since).unwrap_or(begun)
        }
    }
}

/// A new event's id.
pub fn new_event_id() -> EventId {
    EventId::new(new_uuid())
}

/// A new resource's id.
pub fn new_resource_id() -> ResourceId {
    ResourceId::new(new_uuid())
}

/// A new UUIDv7 for anything else, such as a `txn`.
pub fn new_uuid() -> Uuid {
    match simulated_bytes() {
        None => Uuid::now_v7(),
        Some(bytes) => {
            let ms = u64::try_from(now().as_millisecond()).unwrap_or_default();
            uuid::Builder::from_unix_timestamp_millis(ms, &bytes).into_uuid()
        }
    }
}

/// Random bytes for keys and nonces.
pub fn random<const N: usize>() -> Result<[u8; N], crate::Error> {
    if let Some(bytes) = simulated_bytes() {
        return Ok(bytes);
    }
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| crate::Error::Unavailable {
        doing: "asking the operating system for randomness".to_string(),
        source: Some(error.to_string().into()),
    })?;
    Ok(bytes)
}

fn simulated_bytes<const N: usize>() -> Option<[u8; N]> {
    SIMULATED.with_borrow_mut(|simulated| {
        let chance = &simulated.as_mut()?.chance;
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            for (byte, new) in chunk.iter_mut().zip(chance.next().to_le_bytes()) {
                *byte = new;
            }
        }
        Some(bytes)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_seed_decides_time_and_chance_until_it_is_dropped() {
        let draw = || (now(), new_uuid(), random::<12>().unwrap());
        let simulated = Simulated::begin(7).unwrap();
        assert!(Simulated::begin(8).is_none(), "one simulation for a thread");
        let first = draw();
        assert_eq!(first.0.to_string(), "2026-01-01T00:00:00Z");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(now().duration_since(first.0), SignedDuration::from_secs(5));
        let elsewhere = std::thread::spawn(now).join().unwrap();
        assert!(elsewhere.duration_since(first.0).abs() > SignedDuration::from_secs(60));
        drop(simulated);
        assert!(now().duration_since(first.0).abs() > SignedDuration::from_secs(60));
        let again = Simulated::begin(7).unwrap();
        assert_eq!(draw(), first);
        drop(again);
        assert_ne!(draw().1, first.1);
    }
}
