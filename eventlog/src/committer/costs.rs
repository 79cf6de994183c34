//! What a message costs alone and in a batch, as measured lately.

use std::time::Duration;

/// How much the newest figure counts.
const NEW: f64 = 0.1;
/// Bounds of the switch point, whatever was measured.
const BATCH_FROM: std::ops::RangeInclusive<f64> = 4.0..=300.0;

/// Moving averages, in seconds.
#[derive(Debug)]
pub(super) struct Costs {
    /// Of one message among others that are under way alone.
    single: f64,
    /// Of a batch, however large.
    batch: f64,
}

impl Default for Costs {
    /// As on a disk that takes a third of a millisecond to sync; a few messages correct it.
    fn default() -> Self {
        Self { single: 0.000_3, batch: 0.005 }
    }
}

impl Costs {
    /// A message took so long beside so many, itself among them: they share the broker.
    pub(super) fn single(&mut self, took: Duration, beside: usize) {
        let share = took.as_secs_f64() / beside.max(1) as f64;
        self.single += NEW * (share - self.single);
    }

    /// A batch took so long. What grows with its messages is taken out, at a tenth of what they cost alone.
    pub(super) fn batch(&mut self, took: Duration, messages: usize) {
        let fixed = took.as_secs_f64() - 0.1 * self.single * messages as f64;
        self.batch += NEW * (fixed.max(0.0) - self.batch);
    }

    /// From how many waiting messages on a batch is the faster way.
    pub(super) fn batch_from(&self) -> usize {
        let from = (self.batch / (0.9 * self.single).max(1e-9)).ceil();
        from.clamp(*BATCH_FROM.start(), *BATCH_FROM.end()) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_point_follows_what_is_measured() {
        let mut costs = Costs::default();
        assert!((10..30).contains(&costs.batch_from()), "{}", costs.batch_from());
        // A broker that does not sync: messages cost next to nothing.
        for _ in 0..200 {
            costs.single(Duration::from_micros(400), 16);
            costs.batch(Duration::from_millis(3), 64);
        }
        assert!(costs.batch_from() > 80, "{}", costs.batch_from());
        // A slow disk.
        for _ in 0..200 {
            costs.single(Duration::from_millis(5), 1);
            costs.batch(Duration::from_millis(15), 64);
        }
        assert_eq!(costs.batch_from(), 4);
    }
}
