//! Indexes of a history that is read are put in order once, before its end is shown, and answer rightly.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use common::answers::found;
use common::{Running, World, config, deadline};
use projector::{Moment, Projection};
use tracing::Level;

/// Each has a name, a name to show and an `externalId` in an index: together more than is put in order in place.
const PEOPLE: usize = 1_800;
/// What is said when indexes are put in order aside.
const SORTED: &str = "indexes were put in order";

async fn people(world: &mut World, from: usize) {
    for number in from..from + PEOPLE {
        world.user(&format!("User-{number:05}")).await;
    }
}

/// How often it was said.
fn sorted(said: &std::path::Path) -> usize {
    std::fs::read_to_string(said).unwrap().matches(SORTED).count()
}

async fn is_found(world: &World, projection: &Projection, number: usize) {
    for filter in [
        format!(r#"userName eq "USER-{number:05}""#),
        format!(r#"displayName sw "the user-{number:05}""#),
        format!(r#"userName gt "user-{:05}" and userName lt "user-{:05}""#, number - 1, number + 1),
    ] {
        let asked = ("User", filter.as_str());
        let found = found(projection, &world.tenant, &world.registry, asked, Moment::NOW).await;
        let [one] = &found[..] else { panic!("{filter}: {found:?}") };
        assert_eq!(one.document["userName"], format!("User-{number:05}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_in_order_before_its_end_is_shown() {
    let mut world = World::new();
    let said = world.folder.path().join("said");
    let file = std::fs::File::create(&said).unwrap();
    tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(file).with_ansi(false).init();
    people(&mut world, 0).await;
    let running = world.open().await;
    assert_eq!(sorted(&said), 1);
    for number in [1, 700, PEOPLE - 1] {
        is_found(&world, &running.projection, number).await;
    }
    assert_eq!(sorted(&said), 1);
    running.stop().await;

    // Much that was missed is in order as well, and together with what was there.
    people(&mut world, PEOPLE).await;
    let running = world.open().await;
    assert_eq!(sorted(&said), 2);
    for number in [1, PEOPLE, 2 * PEOPLE - 1] {
        is_found(&world, &running.projection, number).await;
    }
    assert_eq!(sorted(&said), 2);
    running.stop().await;

    // Of one that is read up to a place within the log, whoever asks first has it put in order.
    let folder = tempfile::tempdir().unwrap();
    let until = Some(PEOPLE as u64 - 10);
    let config = projector::Config { until, ..config(folder.path(), &[]) };
    let opened = Projection::open(config, world.log.clone(), world.keyring.clone(), world.registry.clone());
    let running = Running::start(opened.await.unwrap());
    running.projection.wait_until(PEOPLE as u64 - 10, deadline()).await.unwrap();
    assert_eq!(sorted(&said), 2);
    for number in [1, 900, PEOPLE - 11] {
        is_found(&world, &running.projection, number).await;
    }
    assert_eq!(sorted(&said), 3);
    running.stop().await;
}
