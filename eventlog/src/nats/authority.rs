//! Whether the broker that answers still leads. One that is cut off or was frozen goes on answering what it knew until it
//! notices, which takes nats-server 2.15 up to fifteen seconds, while the others choose a leader after four.

use std::time::Duration;

use async_nats::jetstream::stream::{ClusterInfo, Info};

use super::unavailable;
use crate::Error;

/// A leader that heard of most replicas so lately is the only one. It hears of them every second; they choose another
/// after four seconds at the earliest.
const HEARD_MAX: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
#[error("the broker that answers has not heard of most replicas of the stream for {} s, so others may lead it", HEARD_MAX.as_secs())]
struct Doubtful;

/// Refuses what a broker says of a stream that others may lead.
pub(super) fn check(info: &Info, doing: impl FnOnce() -> String) -> Result<(), Error> {
    match &info.cluster {
        Some(cluster) if !leads(cluster) => Err(unavailable(doing(), Doubtful)),
        Some(_) | None => Ok(()),
    }
}

fn leads(cluster: &ClusterInfo) -> bool {
    // A replica that was never heard of has a time of nothing.
    let heard = cluster
        .replicas
        .iter()
        .filter(|replica| !replica.offline && !replica.active.is_zero() && replica.active < HEARD_MAX);
    let (heard, all) = (heard.count() + 1, cluster.replicas.len() + 1);
    cluster.leader.is_some() && heard > all / 2
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::PeerInfo;

    use super::*;

    /// What a leader says that heard of the others so many milliseconds ago.
    fn heard<const REPLICAS: usize>(milliseconds: [u64; REPLICAS]) -> ClusterInfo {
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

    #[test]
    fn who_hears_of_most_leads() {
        assert!(leads(&heard([])));
        assert!(leads(&heard([10, 990])));
        assert!(leads(&heard([990, 60_000])));
        assert!(leads(&heard([10, 990, 60_000, 60_000])));
    }

    #[test]
    fn who_hears_of_few_may_have_lost_its_office() {
        assert!(!leads(&heard([4_800, 4_800])));
        assert!(!leads(&heard([0, 4_800])), "never heard of counts as not heard of");
        assert!(!leads(&heard([10, 4_800, 4_800, 4_800])));
        let mut offline = heard([10, 4_800]);
        offline.replicas.iter_mut().for_each(|replica| replica.offline = true);
        assert!(!leads(&offline));
        let mut nobody = heard([10, 10]);
        nobody.leader = None;
        assert!(!leads(&nobody));
    }
}
