//! Alone or together: which way moves more messages a second, measured while both are used.
//!
//! What a message costs alone and in a batch depends on the disk, on replicas, on how the broker syncs and on who else
//! needs the processors, so nothing of it is a constant here. While many want to write, one way is used for a while and
//! its rate is taken; the other is tried now and then, the more rarely the worse it was. The same writers are a smaller
//! crowd where they are answered sooner, so what a change of the way brings counts for the crowd that it was made for.
//! Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Fewer than so many at once always go alone: a batch is never worth its store at the broker for them.
pub(super) const CROWD: usize = 8;
/// How long a way is used before its rate counts.
const EPOCH: Duration = Duration::from_millis(60);
/// How long the better way is used before the other is tried again, when both are about as good.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// And when the other is far worse.
const TRY_AGAIN_MAX: Duration = Duration::from_secs(30);
/// How much the newest rate counts.
const NEW: f64 = 0.4;
/// Sizes of crowds are told apart by powers of two.
const LEVELS: usize = 12;

/// A way to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Each message by itself, as many beside one another as want to.
    Alone,
    /// One batch at a time.
    Together,
}

impl Way {
    fn other(self) -> Self {
        match self {
            Self::Alone => Self::Together,
            Self::Together => Self::Alone,
        }
    }
}

/// What is known for crowds of one size.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    /// Messages a second.
    alone: Option<f64>,
    together: Option<f64>,
    /// When the other way is tried again.
    try_at: Option<Instant>,
}

impl Rates {
    fn of(&mut self, way: Way) -> &mut Option<f64> {
        match way {
            Way::Alone => &mut self.alone,
            Way::Together => &mut self.together,
        }
    }

    /// The way to use next, after `way`.
    fn next(&mut self, way: Way, now: Instant) -> Way {
        let (Some(alone), Some(together)) = (self.alone, self.together) else {
            return if self.together.is_none() { Way::Together } else { Way::Alone };
        };
        let best = if alone > together { Way::Alone } else { Way::Together };
        match self.try_at {
            Some(at) if at <= now && way == best => {
                self.try_at = None;
                best.other()
            }
            Some(_) => best,
            None => {
                let ratio = (alone.max(together) / alone.min(together).max(1.0)).powi(2);
                let wait = TRY_AGAIN_MAX.min(TRY_AGAIN.mul_f64(ratio.min(1e3)));
                self.try_at = Some(now + wait);
                best
            }
        }
    }
}

#[derive(Debug)]
struct Epoch {
    begun: Instant,
    messages: usize,
    peak: usize,
}

#[derive(Debug)]
pub(super) struct Pace {
    way: Way,
    levels: [Rates; LEVELS],
    epoch: Option<Epoch>,
    /// The way was just changed for a crowd of this size.
    changed_for: Option<usize>,
}

impl Default for Pace {
    fn default() -> Self {
        let levels = [Rates::default(); LEVELS];
        Self { way: Way::Together, levels, epoch: None, changed_for: None }
    }
}

fn level_of(present: usize) -> usize {
    usize::try_from(present.max(1).ilog2()).unwrap_or_default().min(LEVELS - 1)
}

impl Pace {
    /// The way for so many who want to write.
    pub(super) fn way(&self, present: usize) -> Way {
        if present < CROWD { Way::Alone } else { self.way }
    }

    /// So many messages were written; so many wanted to write.
    pub(super) fn finished(&mut self, messages: usize, present: usize, now: Instant) {
        let Some(epoch) = &mut self.epoch else {
            // What led up to this moment was not seen whole.
            self.epoch = Some(Epoch { begun: now, messages: 0, peak: present });
            return;
        };
        epoch.messages += messages;
        epoch.peak = epoch.peak.max(present);
        let lasted = now.duration_since(epoch.begun);
        if lasted < EPOCH {
            return;
        }
        let (rate, peak) = (epoch.messages as f64 / lasted.as_secs_f64(), epoch.peak);
        self.epoch = None;
        let level = self.changed_for.take().unwrap_or_else(|| level_of(peak));
        // An idle while in it says nothing about how fast a way is.
        if peak >= CROWD && lasted < 8 * EPOCH {
            self.learn(level, rate, now);
        }
    }

    fn learn(&mut self, level: usize, rate: f64, now: Instant) {
        let Some(rates) = self.levels.get_mut(level) else { return };
        let known = rates.of(self.way);
        *known = Some(known.map_or(rate, |known| known + NEW * (rate - known)));
        let next = rates.next(self.way, now);
        self.changed_for = (next != self.way).then_some(level);
        self.way = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker with these rates, asked by so many for so long; the share of messages that went together.
    fn use_for(
        pace: &mut Pace,
        now: &mut Instant,
        present: usize,
        alone: f64,
        together: f64,
        lasts: Duration,
    ) -> f64 {
        let end = *now + lasts;
        let mut shares = (0.0, 0.0);
        while *now < end {
            let (messages, rate) = match pace.way(present) {
                Way::Alone => (1, alone),
                Way::Together => (present, together),
            };
            *now += Duration::from_secs_f64(messages as f64 / rate);
            pace.finished(messages, present, *now);
            if messages > 1 { shares.1 += messages as f64 } else { shares.0 += 1.0 }
        }
        shares.1 / (shares.0 + shares.1)
    }

    #[tokio::test(start_paused = true)]
    async fn the_faster_way_is_found_and_kept() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let ten = Duration::from_secs(10);
        assert!(use_for(&mut pace, &mut now, 64, 3_400.0, 6_400.0, ten) > 0.9);
        // The same crowd at a broker that does not sync.
        use_for(&mut pace, &mut now, 64, 20_000.0, 6_400.0, ten);
        assert!(use_for(&mut pace, &mut now, 64, 20_000.0, 6_400.0, ten) < 0.1);
        // And back.
        use_for(&mut pace, &mut now, 64, 1_000.0, 6_400.0, ten * 4);
        assert!(use_for(&mut pace, &mut now, 64, 1_000.0, 6_400.0, ten) > 0.9);
    }

    /// Writers with something else to do between two messages: alone they wait less, and are fewer at once.
    #[tokio::test(start_paused = true)]
    async fn a_way_is_not_forgotten_because_it_makes_the_crowd_smaller() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let (end, mut together) = (now + Duration::from_secs(10), 0);
        while now < end {
            let (messages, present, rate) = match pace.way(12) {
                Way::Alone => (1, 12, 3_500.0),
                Way::Together => (32, 40, 2_000.0),
            };
            now += Duration::from_secs_f64(messages as f64 / rate);
            pace.finished(messages, present, now);
            together += messages - 1;
        }
        assert!(together < 3_500, "{together} messages of 35,000 went the slower way");
    }

    #[tokio::test(start_paused = true)]
    async fn few_always_go_alone() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert_eq!(use_for(&mut pace, &mut now, CROWD - 1, 100.0, 6_400.0, Duration::from_secs(5)), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn crowds_of_different_sizes_are_told_apart() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let long = Duration::from_secs(5);
        for _ in 0..3 {
            use_for(&mut pace, &mut now, 10, 3_000.0, 1_500.0, long);
            use_for(&mut pace, &mut now, 200, 3_000.0, 9_000.0, long);
        }
        assert!(use_for(&mut pace, &mut now, 10, 3_000.0, 1_500.0, long) < 0.2);
        assert!(use_for(&mut pace, &mut now, 200, 3_000.0, 9_000.0, long) > 0.8);
    }
}
