//! Whether the broker that answers still leads. One that is cut off or was frozen goes on answering what it knew until it
//! notices, which takes nats-server 2.15 up to fifteen seconds, while the others choose a leader after four.
//!
//! It hears of each replica every second. One that heard of all of them lately is the only leader, since none of them has
//! begun to choose. Where some are away, two that hear each other may have chosen already; but whoever did says so in its next
//! answer to the old leader. So that one is believed once most have answered it after the question was asked.

use std::time::Duration;

use async_nats::jetstream::stream::{ClusterInfo, Info};
use tokio::time::Instant;

use super::unavailable;
use crate::Error;

/// How lately all replicas must have been heard of. They choose another leader after four seconds at the earliest.
const LATELY: Duration = Duration::from_millis(1_500);
/// How long most of them may take to answer after a question was asked, before it is given up.
const WAIT_MAX: Duration = Duration::from_millis(2_500);
/// How often to look whether they have.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
#[error("the broker that answers does not hear of most replicas of the stream, so others may lead it")]
struct Doubtful;

/// Refuses what a broker says of a stream when it has not heard of most replicas lately.
pub(super) fn check(info: &Info, doing: impl FnOnce() -> String) -> Result<(), Error> {
    if most(info.cluster.as_ref(), LATELY) { Ok(()) } else { Err(unavailable(doing(), Doubtful)) }
}

/// What the stream's leader says, once nobody else can have been it when this was called.
pub(super) async fn ask<F>(doing: impl Fn() -> String, info: impl Fn() -> F) -> Result<Info, Error>
where
    F: Future<Output = Result<Info, Error>>,
{
    let begun = Instant::now();
    loop {
        let since = begun.elapsed();
        let found = info().await?;
        let cluster = found.cluster.as_ref();
        if all(cluster, LATELY) || most(cluster, since) {
            return Ok(found);
        }
        if since >= WAIT_MAX {
            return Err(unavailable(doing(), Doubtful));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn all(cluster: Option<&ClusterInfo>, within: Duration) -> bool {
    cluster.is_none_or(|cluster| cluster.leader.is_some() && heard(cluster, within) == cluster.replicas.len())
}

fn most(cluster: Option<&ClusterInfo>, within: Duration) -> bool {
    cluster.is_none_or(|cluster| {
        cluster.leader.is_some() && heard(cluster, within) + 1 > cluster.replicas.len().div_ceil(2)
    })
}

/// How many replicas were heard of so lately. One that never was has a time of nothing.
fn heard(cluster: &ClusterInfo, within: Duration) -> usize {
    let is_heard = |active: Duration| !active.is_zero() && active < within;
    cluster.replicas.iter().filter(|replica| !replica.offline && is_heard(replica.active)).count()
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::PeerInfo;

    use super::*;

    /// What a leader says that heard of the others so many milliseconds ago.
    fn said<const REPLICAS: usize>(milliseconds: [u64; REPLICAS]) -> ClusterInfo {
        let replica = |milliseconds: u64| PeerInfo {
            name: "other".to_string(),
            current: true,
            active: Duration::from_millis(milliseconds),
            offline: false,
            lag: None,
        };
        let mut cluster: ClusterInfo = serde_json::from_str(r#"{"leader": "one"}"#).unwrap();
        cluster.replicas = milliseconds.map(replica).into();
        cluster
    }

    #[track_caller]
    fn check<const REPLICAS: usize>(milliseconds: [u64; REPLICAS], is_all: bool, is_most: bool) {
        let cluster = said(milliseconds);
        assert_eq!((all(Some(&cluster), LATELY), most(Some(&cluster), LATELY)), (is_all, is_most));
    }

    #[test]
    fn a_leader_is_one_of_those_that_it_hears_of() {
        check([], true, true);
        check([10], true, true);
        check([4_800], false, false);
        check([10, 990], true, true);
        check([990, 60_000], false, true);
        check([4_800, 4_800], false, false);
        check([10, 990, 60_000, 60_000], false, true);
        check([10, 4_800, 4_800, 4_800], false, false);
        // Never heard of.
        check([0, 4_800], false, false);
        check([0, 10], false, true);
        assert!(all(None, LATELY) && most(None, LATELY), "there is one broker");
    }

    #[test]
    fn who_is_offline_or_follows_nobody_does_not_count() {
        let mut offline = said([10, 10]);
        offline.replicas.iter_mut().for_each(|replica| replica.offline = true);
        let mut leaderless = said([10, 10]);
        leaderless.leader = None;
        for cluster in [offline, leaderless] {
            assert!(!all(Some(&cluster), LATELY) && !most(Some(&cluster), LATELY));
        }
    }

    #[test]
    fn who_answered_before_the_question_does_not_count() {
        let cluster = said([300, 60_000]);
        assert!(!most(Some(&cluster), Duration::from_millis(200)));
        assert!(most(Some(&cluster), Duration::from_millis(400)));
    }
}
