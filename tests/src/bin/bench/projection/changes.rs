//! What changes while it is read: one member of a small and of a large group, and thousands of people a second.

use std::cell::Cell;
use std::time::{Duration, Instant};

use eventlog::Message;
use proto::subject::{self, Key};
use proto::{Kind, ResourceId};

use super::inside::{World, a_cell, timed};
use super::questions::{Readers, show};
use super::sealed::{self, Unsealed};
use super::table;
use crate::load::{self, Figures};

/// Times that one member comes or goes, and how often that is measured in turn.
const TOGGLES: usize = 500;
const ROUNDS: usize = 5;
/// Changes that come in a second, and for how long.
const RATE: usize = 5_000;
const LASTS: Duration = Duration::from_secs(5);
/// How often they come.
const TICK: Duration = Duration::from_millis(2);
/// How long one may take to be applied.
const PATIENCE: Duration = Duration::from_secs(60);
/// What lastly follows the events of the population in number.
const AFTER: usize = 1 << 24;

pub(crate) fn run(world: &World) {
    members(world);
    meanwhile(world);
}

/// A member is added or taken away, and the group is read without its members; a small group and a large one in turn.
fn members(world: &World) {
    let population = &world.population;
    let (few, many) = (population.small_group(), population.large_group());
    let mut cells: [Vec<Figures>; 2] = Default::default();
    for round in 0..ROUNDS {
        for (place, (group, cell)) in [few, many].iter().zip(&mut cells).enumerate() {
            cell.push(toggled(world, *group, AFTER + (2 * round + place) * TOGGLES));
        }
    }
    let [small, large] = cells.map(load::median);
    let title = |group: usize| {
        let count = population.members(group).len();
        format!("one member more or less of {count}: applied and read")
    };
    let ratio = format!("{:.2} x the small group's p50; asked: 1.2 x", large.p50 / small.p50);
    for (group, figures, further) in [(few, small, ""), (many, large, ratio.as_str())] {
        table::latency(&title(group), &figures, further);
    }
}

fn toggled(world: &World, group: usize, number: usize) -> Figures {
    let population = &world.population;
    let id = population.group_id(group);
    // Somebody who is in neither.
    let member = population.user_id(population.users - 1);
    let make = |place: usize| {
        let (one, none) = (vec![member], Vec::new());
        let (added, removed) = if place.is_multiple_of(2) { (one, none) } else { (none, one) };
        let kind = Kind::MembersChanged { added, removed };
        let event = sealed::event(population, number + place, "Group", id, kind);
        sealed::message(0, &Unsealed { event, key: subject::key_of_id(id), body: None }, None)
    };
    let messages: Vec<Message> = (0..TOGGLES).map(make).collect();
    let left = Cell::new(TOGGLES);
    timed(
        |_| left.get() > 0,
        async |place| {
            left.set(left.get() - 1);
            let sequence = world.feed.push(messages.get(place).cloned());
            let deadline = tokio::time::Instant::now() + PATIENCE;
            world.asks.projection.wait_until(sequence, deadline).await.expect("it is applied in time");
            world.asks.get_without_members("Group", id).await;
        },
    )
}

/// People are read while others are changed.
fn meanwhile(world: &World) {
    let count = RATE * usize::try_from(LASTS.as_secs()).expect("seconds");
    let messages = updates(world, count);
    let readers = Readers::warm(world);
    let idle = readers.read(a_cell);
    let (begun, before) = (Instant::now(), world.asks.projection.applied());
    let feed = world.feed.clone();
    let pushing = world.runtime.spawn(async move {
        let (begun, mut pushed) = (tokio::time::Instant::now(), 0);
        let mut ticks = tokio::time::interval(TICK);
        let mut messages = messages.into_iter();
        while pushed < count {
            ticks.tick().await;
            let due = (begun.elapsed().as_secs_f64() * RATE as f64) as usize;
            let come: Vec<Message> = messages.by_ref().take(due.saturating_sub(pushed)).collect();
            pushed += come.len();
            feed.push(come);
        }
    });
    let meanwhile = readers.read(|_| begun.elapsed() < LASTS);
    let applied = (world.asks.projection.applied() - before) as f64 / begun.elapsed().as_secs_f64();
    world.runtime.block_on(pushing).expect("everything is pushed");
    let last = before + count as u64;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    world.runtime.block_on(world.asks.projection.wait_until(last, deadline)).expect("it is applied in time");
    table::rate("changes applied meanwhile", applied, &format!("{RATE}/s come"));
    show(&idle, &meanwhile, "while changes are applied");
}

/// So many people get another title.
fn updates(world: &World, count: usize) -> Vec<Message> {
    let population = &world.population;
    let users: Vec<usize> = population.by_chance(count).collect();
    world.runtime.block_on(async {
        let mut messages = Vec::with_capacity(count);
        for (place, user) in users.into_iter().enumerate() {
            let id = population.user_id(user);
            let (key, key_ref) = {
                let stored = world.asks.stored(id).await;
                (stored.key, stored.key_ref.expect("a data key"))
            };
            let data_key = world.keyring.key(&sealed::tenant(), key_ref).await;
            let data_key = data_key.expect("keys can be read").expect("nobody is erased");
            messages.push(update(
                world,
                AFTER + 2 * ROUNDS * TOGGLES + place,
                user,
                id,
                key,
                key_ref,
                &data_key,
            ));
        }
        messages
    })
}

fn update(
    world: &World,
    number: usize,
    user: usize,
    id: ResourceId,
    key: Key,
    key_ref: proto::KeyRef,
    data_key: &proto::sealing::DataKey,
) -> Message {
    let population = &world.population;
    let kind = Kind::Updated { members_added: Vec::new(), members_removed: Vec::new() };
    let mut event = sealed::event(population, number, "User", id, kind);
    event.key_ref = Some(key_ref);
    let mut document = population.user(user);
    document.insert("title".to_string(), format!("Title {number}").into());
    let body = sealed::body(document, Some(population.external_id(user)));
    sealed::message(0, &Unsealed { event, key, body: Some(body) }, Some(data_key))
}
