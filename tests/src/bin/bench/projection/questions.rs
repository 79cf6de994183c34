//! Questions that many satisfy, and one that no index helps with while others go on reading.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::asks::Question;
use super::inside::{WORKING, World, a_cell, timed};
use super::population::RARE_TITLE;
use super::{population, table};
use crate::load::{self, Figures};

/// Results that are wanted.
const COUNT: usize = 20;
/// People who were created last.
const LATE: usize = 50;

pub(crate) fn run(world: &World) {
    let population = &world.population;
    let one = population.users / 3;
    let email = format!("emails.value eq \"{}\"", population.email(one));
    let prefix = format!("userName sw \"{}\"", population.name_prefix(one));
    let since = population::instant(population.users.saturating_sub(LATE + 1));
    let late = format!("meta.lastModified gt \"{since}\"");
    let group = format!("groups.value eq \"{}\"", population.group_id(3));
    for (title, filter, sort) in [
        ("emails.value eq", Some(email.as_str()), None),
        ("userName sw", Some(prefix.as_str()), None),
        ("meta.lastModified gt", Some(late.as_str()), None),
        ("groups.value eq", Some(group.as_str()), None),
        ("sorted by userName, first page", None, Some("userName")),
    ] {
        ask(world, title, Question { kind: "User", filter, sort, count: COUNT });
    }
    scan(world);
}

fn ask(world: &World, title: &str, question: Question<'_>) {
    let mut last = (0, 0, 0);
    let figures = timed(a_cell, async |_| {
        let answer = world.asks.list(question).await;
        last = (answer.total, answer.shown, answer.json.len());
    });
    let (total, shown, bytes) = last;
    let further = format!("asked: < 1 ms; {shown} of {total} shown, {bytes} bytes");
    table::latency(title, &figures, &further);
}

/// Nobody else waits for it.
fn scan(world: &World) {
    let filter = format!("title co \"{}\"", RARE_TITLE.get(7..).unwrap_or_default());
    let question = Question { kind: "User", filter: Some(&filter), sort: None, count: COUNT };
    let idle = gets(world, a_cell);
    let ended = AtomicBool::new(false);
    let (took, total, meanwhile) = std::thread::scope(|scope| {
        let scanning = scope.spawn(|| {
            let begun = Instant::now();
            let answer = load::on_one_thread(world.asks.list(question));
            let took = begun.elapsed();
            ended.store(true, Ordering::SeqCst);
            (took, answer.total)
        });
        let meanwhile = gets(world, |_| !ended.load(Ordering::SeqCst));
        let (took, total) = scanning.join().expect("an answer");
        (took, total, meanwhile)
    });
    let figure = format!("{:.2} s", took.as_secs_f64());
    table::row(&format!("title co, without an index ({total} found)"), &figure, "< 5 s");
    table::latency("get by id, idle", &idle, "");
    let further = format!("{:.2} x its p99 when idle; asked: < 3 x", meanwhile.p99 / idle.p99);
    table::latency("get by id, meanwhile", &meanwhile, &further);
}

/// Gets by id, of people who are asked for again and again.
pub(crate) fn gets(world: &World, goes_on: impl Fn(Duration) -> bool) -> Figures {
    let ids: Vec<_> =
        world.population.spread(WORKING / 10).map(|user| world.population.user_id(user)).collect();
    let get = async |number: usize| {
        world.asks.get("User", *ids.get(number % ids.len()).expect("an index within bounds")).await;
    };
    load::on_one_thread(async {
        for number in 0..ids.len() {
            get(number).await;
        }
    });
    timed(goes_on, get)
}
