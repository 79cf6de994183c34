//! Indexes that were left for later are put in order: before a history that was read is shown, or by the first who asks.
//! What takes long is done with a copy, so that others read and write meanwhile.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use proto::Tenant;

use crate::Projection;
use crate::directory::Directory;

/// What a follower knows of the log's end.
pub(crate) struct End {
    /// Where it was when it was last asked for. Before that it is not asked for again, so that a history that is read is
    /// sorted once.
    last: u64,
    /// Whether something may have been left for later.
    is_left: bool,
}

impl End {
    /// Of a follower that begins: rows may have been loaded.
    pub(crate) fn unknown() -> Self {
        Self { last: 0, is_left: true }
    }

    /// Events are applied; their values may have been left for later.
    pub(crate) fn hears(&mut self, later: bool) {
        self.is_left |= later;
    }
}

/// So many values are put in order where they are.
const IN_PLACE_MAX: usize = 4_096;
/// So few events before the log's end count as its end: while others write all the time it is hardly ever reached.
const NEAR: u64 = 256;
/// What took longer is said to whoever runs this.
const WORTH_TELLING: Duration = Duration::from_millis(100);

impl Projection {
    /// Puts a tenant's indexes in order.
    pub(crate) fn settle(&self, tenant: &Tenant) {
        let waiting = || self.with(tenant, Directory::waiting).unwrap_or_default();
        while waiting() > IN_PLACE_MAX {
            let _turn = self.inner.settling.lock().unwrap_or_else(PoisonError::into_inner);
            let copy = |directory: &Directory| {
                (directory.waiting() > IN_PLACE_MAX).then(|| (directory.erased(), directory.values().clone()))
            };
            // Who had the turn before may have done it.
            let Some((erased, values)) = self.with(tenant, copy).flatten() else { break };
            let (begun, count) = (Instant::now(), values.waiting());
            let ordered = values.ordered();
            // Else the directory would copy what it changes.
            drop(values);
            if let Some(directory) = self.state_mut().tenants.get_mut(tenant) {
                directory.adopt(erased, ordered);
            }
            let (took, duration_ms) = (begun.elapsed(), begun.elapsed().as_millis());
            if took > WORTH_TELLING {
                tracing::info!(%tenant, values = count, duration_ms, "indexes were put in order");
            } else {
                tracing::debug!(%tenant, values = count, duration_ms, "indexes were put in order");
            }
        }
        if waiting() > 0
            && let Some(directory) = self.state_mut().tenants.get_mut(tenant)
        {
            directory.settle();
        }
    }

    /// Asks a tenant's directory while its indexes say all that is applied. They were put in order before; what came since
    /// then, which is little, is put in order here: it would be applied, and found by none of them.
    pub(crate) fn with_order<T>(&self, tenant: &Tenant, ask: impl FnOnce(&Directory) -> T) -> Option<T> {
        {
            let state = self.state();
            let directory = state.tenants.get(tenant)?;
            if directory.waiting() == 0 {
                return Some(ask(directory));
            }
        }
        let mut state = self.state_mut();
        let directory = state.tenants.get_mut(tenant)?;
        directory.settle();
        Some(ask(directory))
    }

    /// Puts a tenant's indexes in order, on a thread of its own when it takes long.
    pub(crate) async fn settle_aside(&self, tenant: &Tenant) {
        let waiting = self.with(tenant, Directory::waiting).unwrap_or_default();
        if waiting > IN_PLACE_MAX && !self.inner.store.is_memory() {
            let (projection, tenant) = (self.clone(), tenant.clone());
            // Should it fail, it is done below.
            let _ = tokio::task::spawn_blocking(move || projection.settle(&tenant)).await;
        }
        self.settle(tenant);
    }

    /// Puts all indexes in order when much was left for later and the log's end is reached.
    pub(crate) async fn settle_at_end(&self, end: &mut End) {
        if !end.is_left || !self.is_near(end.last) {
            return;
        }
        let left: Vec<Tenant> = {
            let state = self.state();
            let left = state.tenants.iter().filter(|(_, directory)| directory.waiting() > IN_PLACE_MAX);
            left.map(|(tenant, _)| tenant.clone()).collect()
        };
        if !left.is_empty() {
            // A broker that does not answer is asked again after what comes next.
            let Ok(last) = self.inner.log.last_sequence().await else { return };
            end.last = last;
            if !self.is_near(last) {
                return;
            }
        }
        for tenant in left {
            self.settle_aside(&tenant).await;
        }
        end.is_left = false;
    }

    fn is_near(&self, last: u64) -> bool {
        self.state().applied() + NEAR >= last
    }
}

#[cfg(test)]
mod tests {
    use proto::Kind;

    use super::*;
    use crate::writer::tests::{projection, told};

    const PIECES: u64 = 300;
    const PIECE: u64 = 16;

    #[tokio::test]
    async fn whoever_asks_while_much_comes_finds_all_that_is_applied() {
        let (projection, tenant) = (projection().await, "corp".parse::<Tenant>().unwrap());
        let hear = || {
            for piece in 0..PIECES {
                let first = piece * PIECE + 1;
                // Somebody is made, who has one value in an index.
                let made = |sequence: u64| {
                    let kind = Kind::Created { members_added: Vec::new() };
                    told(&tenant, sequence, kind, vec![(1, format!("u{sequence}"))])
                };
                let some = (first..first + PIECE).map(made).collect();
                projection.state_mut().hear(some, true).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(hear);
            let mut applied = 0;
            while applied < PIECES * PIECE {
                let found = projection.with_order(&tenant, |directory| {
                    let found = directory.values().order(1).map_or(0, |order| order.len());
                    (directory.applied(), found as u64)
                });
                let Some((there, found)) = found else { continue };
                assert_eq!(found, there, "of those who are there not all are found");
                applied = there;
            }
        });
    }
}
