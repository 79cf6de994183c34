//! Canary rollout: what a changed configuration would do without an event asking for it is done for a few first, then for
//! more, then for all. Pure: time is an argument.
//!
//! Who comes first is told by a hash of the configuration and the resource, so nobody need be remembered by name: whoever
//! plans everything again after a restart finds the same ones in the same order.

use std::collections::BTreeSet;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::valve::Said;

/// A part of those whom a changed configuration affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(u64),
    /// So many of a hundred.
    Percent(u8),
    /// All of them.
    All,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::All => f.write_str("all"),
        }
    }
}

impl Share {
    /// How many of so many.
    fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).min(all),
            Self::Percent(percent) => all.saturating_mul(usize::from(percent)).div_ceil(100).min(all),
            Self::All => all,
        }
    }
}

/// What `[app.NAME.rollout]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutConfig {
    /// The parts, one after the other; the last is all.
    pub stages: Vec<Share>,
    /// How long it is waited after a part is done.
    pub wait_minutes: u32,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            stages: vec![Share::Count(1), Share::Count(10), Share::Percent(1), Share::All],
            wait_minutes: 10,
        }
    }
}

impl RolloutConfig {
    /// Most stages.
    pub const STAGES_MAX: usize = 20;
    /// Longest wait between two stages: a week.
    pub const WAIT_MINUTES_MAX: u32 = 10_080;

    /// What of it cannot be, for a person to read.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let stages = &self.stages;
        if stages.is_empty() || stages.len() > Self::STAGES_MAX {
            mistakes.push(format!(
                "stages has {} parts, from 1 to {}; without the section nothing is rolled out by stages",
                stages.len(),
                Self::STAGES_MAX
            ));
        } else if stages.iter().position(|share| *share == Share::All) != Some(stages.len() - 1) {
            mistakes.push("stages must end with \"all\", and have it nowhere else".to_string());
        }
        for share in stages {
            let is_none = matches!(share, Share::Count(0) | Share::Percent(0 | 101..));
            if is_none {
                mistakes.push(format!(
                    "stages has {share}; write a number from 1, \"1%\" to \"100%\" or \"all\""
                ));
            }
        }
        let counts = stages.iter().filter_map(|share| match share {
            Share::Count(count) => Some(*count),
            Share::Percent(_) | Share::All => None,
        });
        let percents = stages.iter().filter_map(|share| match share {
            Share::Percent(percent) => Some(*percent),
            Share::Count(_) | Share::All => None,
        });
        if !counts.is_sorted_by(|one, other| one < other) || !percents.is_sorted_by(|one, other| one < other)
        {
            mistakes.push("stages must grow: each part holds the ones before it".to_string());
        }
        if self.wait_minutes > Self::WAIT_MINUTES_MAX {
            mistakes.push(format!(
                "wait_minutes is {}, at most {}; 0 goes on at once",
                self.wait_minutes,
                Self::WAIT_MINUTES_MAX
            ));
        }
        mistakes
    }

    pub(crate) fn wait(&self) -> SignedDuration {
        SignedDuration::from_mins(i64::from(self.wait_minutes))
    }
}

/// The place of a resource in the order in which a configuration reaches them.
pub(crate) type Rank = u64;

/// Behind everybody: whoever was held before is in no part but all.
pub(crate) const LAST: Rank = Rank::MAX;

/// The place of a resource under a configuration.
pub(crate) fn rank(configuration_hash: &str, id: ResourceId) -> Rank {
    let digest = Sha256::digest(format!("{configuration_hash} {id}").as_bytes());
    digest.iter().take(8).fold(0, |rank: Rank, byte| (rank << 8) | Rank::from(*byte)) >> 1
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// How many resources are in it, with those before.
    pub count: usize,
    /// The last place in the order that is let through; hexadecimal, because not every reader of JSON keeps so many digits.
    up_to: String,
}

/// Why a rollout goes no further.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Failed {
    /// Since when.
    pub at: Timestamp,
    /// Of which resource.
    pub id: ResourceId,
    /// Why.
    pub why: String,
}

/// How far a changed configuration is rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The configuration.
    pub configuration_hash: String,
    /// The last one that was carried out as a whole.
    pub before: String,
    /// Who had it applied, where that is known.
    #[serde(default)]
    pub author: Option<String>,
    /// Since when.
    pub began_at: Timestamp,
    /// The last event of IDENTITY that was known then.
    pub known_until: u64,
    /// The parts, each with those before it.
    pub stages: Vec<Stage>,
    /// Which of them is carried out, from 1.
    pub stage: usize,
    /// How many resources it affects.
    pub of: usize,
    /// How many of them are as the configuration says, or held.
    pub done: usize,
    /// Since when this stage is done.
    pub settled_at: Option<Timestamp>,
    /// Why it goes no further.
    pub stopped: Option<Failed>,
    /// Who let it go on last.
    pub released: Option<Said>,
    /// What does not stop it again, because somebody let it go on.
    pub accepted: BTreeSet<String>,
}

/// What became of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It goes no further.
    Stopped,
    /// The next stage begins.
    Stage,
    /// All is done.
    Finished,
}

impl Step {
    /// The name in CONTROL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopped => "rollout_stop",
            Self::Stage => "rollout_stage",
            Self::Finished => "rollout_finish",
        }
    }
}

/// What is seen of the work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The first in the order who is not done.
    pub(crate) first: Option<Rank>,
    /// How many are not done.
    pub(crate) left: usize,
    /// How many it turned out to affect beyond those that were foreseen.
    pub(crate) more: usize,
    /// What failed.
    pub(crate) failed: Option<Failed>,
}

impl Rollout {
    /// The stages of those whom it affects; nothing when the first stage would be all of them.
    pub(crate) fn begin(
        configuration_hash: &str,
        before: &str,
        config: &RolloutConfig,
        affected: &BTreeSet<(Rank, ResourceId)>,
        now: Timestamp,
    ) -> Option<Self> {
        let all = affected.len();
        let mut stages: Vec<Stage> = Vec::new();
        for share in &config.stages {
            let count = share.of(all).max(1);
            if stages.last().is_some_and(|stage| stage.count >= count) {
                continue;
            }
            let up_to = affected.iter().nth(count - 1).map_or(LAST, |(rank, _)| *rank);
            if count >= all || up_to == LAST {
                break;
            }
            stages.push(Stage { count, up_to: hexadecimal(up_to) });
        }
        if stages.is_empty() {
            return None;
        }
        stages.push(Stage { count: all, up_to: hexadecimal(LAST) });
        Some(Self {
            configuration_hash: configuration_hash.to_string(),
            before: before.to_string(),
            author: None,
            began_at: now,
            known_until: 0,
            stages,
            stage: 1,
            of: all,
            done: 0,
            settled_at: None,
            stopped: None,
            released: None,
            accepted: BTreeSet::new(),
        })
    }

    /// Whether everybody is let through.
    pub fn is_last(&self) -> bool {
        self.stage >= self.stages.len()
    }

    fn up_to(&self) -> Rank {
        let stage = self.stages.get(self.stage.saturating_sub(1));
        // What cannot be read lets nobody through.
        stage.and_then(|stage| Rank::from_str_radix(&stage.up_to, 16).ok()).unwrap_or(0)
    }

    /// Whether somebody at this place may be worked on.
    pub(crate) fn lets_through(&self, rank: Rank) -> bool {
        self.stopped.is_none() && rank <= self.up_to()
    }

    /// Whether a resource is in the stage that is carried out, or in one before.
    pub(crate) fn reaches(&self, id: ResourceId) -> bool {
        self.lets_through(rank(&self.configuration_hash, id))
    }

    /// How many are in the stage that is carried out.
    pub(crate) fn count(&self) -> usize {
        self.stages.get(self.stage.saturating_sub(1)).map_or(0, |stage| stage.count)
    }

    /// Goes on, or stops, after what is seen of the work.
    pub(crate) fn step(&mut self, seen: &Seen, wait: SignedDuration, now: Timestamp) -> Option<Step> {
        self.of += seen.more;
        self.done = self.of.saturating_sub(seen.left);
        if self.is_last() {
            return (seen.left == 0).then_some(Step::Finished);
        }
        if self.stopped.is_some() {
            return None;
        }
        if let Some(failed) = seen.failed.clone().filter(|failed| !self.accepted.contains(&failed.why)) {
            (self.stopped, self.settled_at) = (Some(failed), None);
            return Some(Step::Stopped);
        }
        if seen.first.is_some_and(|rank| rank <= self.up_to()) {
            self.settled_at = None;
            return None;
        }
        let since = *self.settled_at.get_or_insert(now);
        if now.duration_since(since) < wait {
            return None;
        }
        (self.stage, self.settled_at) = (self.stage + 1, None);
        Some(Step::Stage)
    }

    /// Somebody lets it go on, and accepts why it stopped; says whether it had.
    pub(crate) fn release(&mut self, said: &Said) -> bool {
        let Some(failed) = self.stopped.take() else { return false };
        self.accepted.insert(failed.why);
        self.released = Some(said.clone());
        true
    }
}

fn hexadecimal(rank: Rank) -> String {
    format!("{rank:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302{number:08x}").parse().unwrap()
    }

    fn affected(count: u32) -> BTreeSet<(Rank, ResourceId)> {
        (0..count).map(|number| (rank("hash", id(number)), id(number))).collect()
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + minutes * 60).unwrap()
    }

    fn begin(count: u32) -> Option<Rollout> {
        Rollout::begin("hash", "before", &RolloutConfig::default(), &affected(count), at(0))
    }

    #[track_caller]
    fn stages(count: u32, expected: &[usize]) {
        let found: Vec<usize> =
            begin(count).map(|one| one.stages.iter().map(|stage| stage.count).collect()).unwrap_or_default();
        assert_eq!(found, expected, "of {count}");
    }

    #[test]
    fn one_then_ten_then_a_hundredth_then_all() {
        stages(5_000, &[1, 10, 50, 5_000]);
        stages(300, &[1, 10, 300]);
        stages(10, &[1, 10]);
        stages(2, &[1, 2]);
        stages(1, &[]);
        stages(0, &[]);
    }

    #[test]
    fn a_stage_lets_through_as_many_as_it_says() {
        let all = affected(5_000);
        let mut rollout = begin(5_000).unwrap();
        for expected in [1, 10, 50, 5_000] {
            let let_through = all.iter().filter(|(rank, _)| rollout.lets_through(*rank)).count();
            assert_eq!((let_through, rollout.count()), (expected, expected));
            assert_eq!(rollout.is_last(), expected == 5_000);
            rollout.stage += 1;
        }
        // Whoever was held before is in no part but all.
        let late: BTreeSet<(Rank, ResourceId)> = [(3, id(1)), (LAST, id(2)), (LAST, id(3))].into();
        let rollout = Rollout::begin("hash", "", &RolloutConfig::default(), &late, at(0)).unwrap();
        assert!(rollout.lets_through(3) && !rollout.lets_through(LAST));
        assert_eq!(rollout.stages.len(), 2);
        let only_late: BTreeSet<(Rank, ResourceId)> = [(LAST, id(2)), (LAST, id(3))].into();
        assert_eq!(Rollout::begin("hash", "", &RolloutConfig::default(), &only_late, at(0)), None);
    }

    fn seen(all: &BTreeSet<(Rank, ResourceId)>) -> Seen {
        Seen { first: all.first().map(|(rank, _)| *rank), left: all.len(), ..Seen::default() }
    }

    #[test]
    fn a_stage_goes_on_when_all_of_it_are_done_and_the_wait_is_over() {
        let wait = RolloutConfig::default().wait();
        let mut all = affected(300);
        let mut rollout = begin(300).unwrap();
        assert_eq!(rollout.step(&seen(&all), wait, at(0)), None);
        assert_eq!(rollout.settled_at, None);
        all.pop_first();
        assert_eq!(rollout.step(&seen(&all), wait, at(1)), None);
        assert_eq!((rollout.settled_at, rollout.done), (Some(at(1)), 1));
        assert_eq!(rollout.step(&seen(&all), wait, at(10)), None);
        assert_eq!(rollout.step(&seen(&all), wait, at(11)), Some(Step::Stage));
        assert_eq!((rollout.stage, rollout.settled_at), (2, None));
        // Nine more belong to it, and one of them is due again while it waits.
        assert_eq!(rollout.step(&seen(&all), wait, at(90)), None);
        let again: Vec<_> = (0..9).filter_map(|_| all.pop_first()).collect();
        assert_eq!(rollout.step(&seen(&all), wait, at(91)), None);
        all.extend(again.last());
        assert_eq!(rollout.step(&seen(&all), wait, at(99)), None);
        assert_eq!(rollout.settled_at, None, "it waits anew");
        all.pop_first();
        assert_eq!(rollout.step(&seen(&all), wait, at(100)), None);
        assert_eq!(rollout.step(&seen(&all), wait, at(110)), Some(Step::Stage));
        assert!(rollout.is_last());
        assert_eq!(rollout.step(&seen(&all), wait, at(111)), None);
        assert_eq!(rollout.step(&Seen { more: 2, ..Seen::default() }, wait, at(112)), Some(Step::Finished));
        assert_eq!((rollout.of, rollout.done), (302, 302));
    }

    #[test]
    fn what_fails_stops_it_until_somebody_accepts_that() {
        let (wait, all) = (SignedDuration::ZERO, affected(300));
        let mut rollout = begin(300).unwrap();
        let failed = |why: &str| Failed { at: at(1), id: id(7), why: why.to_string() };
        let fails = |why: &str| Seen { failed: Some(failed(why)), ..seen(&all) };
        assert_eq!(rollout.step(&fails("400"), wait, at(1)), Some(Step::Stopped));
        assert_eq!(rollout.stopped, Some(failed("400")));
        assert!(!rollout.lets_through(0), "nobody goes on");
        assert_eq!(rollout.step(&fails("500"), wait, at(2)), None, "the first reason stays");
        // Nor does time.
        assert_eq!(rollout.step(&Seen::default(), wait, at(9_999)), None);
        let said = Said { by: "ann".to_string(), at: at(3), why: String::new() };
        assert!(rollout.release(&said) && !rollout.release(&said));
        assert!(rollout.lets_through(0));
        assert_eq!(rollout.step(&fails("400"), wait, at(4)), None, "that was accepted");
        assert_eq!(rollout.step(&fails("500"), wait, at(5)), Some(Step::Stopped));
        // When all are reached, nothing is left to be spared.
        rollout.release(&said);
        rollout.stage = 3;
        assert_eq!(rollout.step(&fails("507"), wait, at(6)), None);
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let rollout = begin(300).unwrap();
        let text = serde_json::to_string(&rollout).unwrap();
        assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), rollout);
        assert!(text.contains("upTo") && text.contains("configurationHash"), "{text}");
        let broken = Rollout { stages: vec![Stage { count: 1, up_to: "?".to_string() }; 2], ..rollout };
        assert!(!broken.lets_through(1));
    }

    #[test]
    fn what_cannot_be_rolled_out_is_a_mistake() {
        let mistakes =
            |stages: &[Share]| RolloutConfig { stages: stages.to_vec(), wait_minutes: 1 }.mistakes();
        assert!(RolloutConfig::default().mistakes().is_empty());
        assert!(mistakes(&[Share::All]).is_empty());
        assert!(mistakes(&[]).concat().contains("0 parts"));
        assert!(mistakes(&[Share::Count(1)]).concat().contains("end with \"all\""));
        assert!(mistakes(&[Share::All, Share::All]).concat().contains("nowhere else"));
        assert!(mistakes(&[Share::Count(0), Share::All]).concat().contains("stages has 0;"));
        assert!(mistakes(&[Share::Percent(101), Share::All]).concat().contains("101%"));
        assert!(mistakes(&[Share::Count(10), Share::Count(10), Share::All]).concat().contains("grow"));
        assert!(mistakes(&[Share::Percent(10), Share::Percent(1), Share::All]).concat().contains("grow"));
        let long = RolloutConfig { wait_minutes: 10_081, ..RolloutConfig::default() };
        assert!(long.mistakes().concat().contains("wait_minutes is 10081"));
    }
}
