//! Questions that many satisfy, and one that no index helps with while others go on reading.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::ResourceId;

use super::asks::Question;
use super::inside::{World, a_cell, timed};
use super::population::RARE_TITLE;
use super::{population, table};
use crate::load::{self, Figures};

/// Results that are wanted.
const COUNT: usize = 20;
/// People who are read while others are busy.
const READ: usize = 10_000;
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
    let readers = Readers::warm(world);
    let idle = readers.read(a_cell);
    let ended = AtomicBool::new(false);
    let (scans, total, meanwhile) = std::thread::scope(|scope| {
        let scanning = scope.spawn(|| {
            let mut total = 0;
            let scans = timed(a_cell, async |_| total = world.asks.list(question).await.total);
            ended.store(true, Ordering::SeqCst);
            (scans, total)
        });
        let meanwhile = readers.read(|_| !ended.load(Ordering::SeqCst));
        let (scans, total) = scanning.join().expect("answers");
        (scans, total, meanwhile)
    });
    let title = format!("title co, without an index, of {}", world.population.users);
    table::latency(&title, &scans, &format!("asked: < 5 s; {total} found"));
    show(&idle, &meanwhile, "meanwhile");
}

pub(crate) fn show(idle: &Figures, meanwhile: &Figures, when: &str) {
    table::latency("get by id, idle", idle, "");
    let further = format!("{:.2} x its p99 when idle; asked: < 3 x", meanwhile.p99 / idle.p99);
    table::latency(&format!("get by id, {when}"), meanwhile, &further);
}

/// Who gets by id, of people who are asked for again and again.
pub(crate) struct Readers<'a> {
    world: &'a World,
    ids: Vec<ResourceId>,
}

impl<'a> Readers<'a> {
    /// Everybody who is asked for was asked for once.
    pub(crate) fn warm(world: &'a World) -> Self {
        let users = world.population.spread(READ);
        let readers = Self { world, ids: users.map(|user| world.population.user_id(user)).collect() };
        load::on_one_thread(async {
            for number in 0..readers.ids.len() {
                readers.get(number).await;
            }
        });
        readers
    }

    async fn get(&self, number: usize) {
        let id = self.ids.get(number % self.ids.len()).expect("an index within bounds");
        self.world.asks.get("User", *id).await;
    }

    /// On this thread, for as long as it goes on.
    pub(crate) fn read(&self, goes_on: impl Fn(Duration) -> bool) -> Figures {
        timed(goes_on, async |number| self.get(number).await)
    }
}
