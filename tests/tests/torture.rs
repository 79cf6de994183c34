//! A short torture: `make torture` is the long one.

#![cfg(test)]

use std::time::Duration;

use street::random::fresh_seed;
use street::torture::{Plan, run};

#[test]
fn what_was_acknowledged_survives_kills() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        seed: fresh_seed(),
        brokers: 1,
        kills: 16,
        time: Duration::from_secs(40),
        clients: 8,
        folder: folder.path().to_path_buf(),
        talk: false,
    };
    let record = run(&plan);
    println!("{record}");
    assert!(record.is_good(), "seed {}: {record}", plan.seed);
    assert!(record.killed() > 0 && record.counts.acknowledged > 0, "{record}");
}
