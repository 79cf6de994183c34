//! The directory over HTTP: a real `rollcall up` that holds the population, each question beside a server that has the
//! same answers in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eventlog::{Keyring, nats, read_subject_secret};
use proto::sealing::DataKey;
use street::house::{Options, pause};
use street::{Client, House};

use super::inside::WORKING;
use super::population::{Population, SOURCE, TENANT};
use super::{fill, sealed, served, table};
use crate::floor::Running;
use crate::load::{self, Connection, Figures, Pace, Target, Work};

const CONNECTIONS: usize = 64;
/// How long one cell is measured, and how often the pair is measured in turn.
const CELL: Duration = Duration::from_millis(2_000);
const ROUNDS: usize = 3;
/// How long the house may take to apply everything.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// Answers to one question that the floor holds.
const HELD: usize = 20_000;
/// How many are drawn at random.
const DRAWN: usize = 100_000;
/// Resources of a list, and lists.
const PAGE: usize = 100;
const LISTS: usize = 100;

/// What is asked, of whom.
struct Asked {
    title: &'static str,
    /// Of the working set, which is asked for again and again.
    working: Vec<String>,
    /// Of anybody; nothing when the working set is everybody.
    random: Vec<String>,
    wanted: [&'static str; 2],
}

pub(crate) fn run(population: &Population) {
    table::head(&format!("over HTTP, {CONNECTIONS} connections, {ROUNDS} rounds in turn with the floor"));
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    inhabit(&house, population);
    let token = house.token_of(TENANT, SOURCE, "rfc");
    let target = Target::new(house.env("SCIM_URL"), &token);
    for asked in questions(population) {
        compare(&target, &asked);
    }
}

/// Writes the population into the house's own log and waits until it has applied it.
fn inhabit(house: &House, population: &Population) {
    let work = tempfile::tempdir().expect("a temporary folder");
    let text = std::fs::read_to_string(house.data_dir().join("master.key")).expect("the house has a key");
    let master = DataKey::from_hex(text.trim()).expect("64 hexadecimal digits");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = nats::Config { url: house.env("NATS_URL").to_string(), ..nats::Config::default() };
        let broker = nats::connect(&config).await.expect("the broker listens");
        let secret = read_subject_secret(&broker, &master).await.expect("the secret can be read");
        let keyring = Keyring::new(broker.keys.clone(), master);
        sealed::write(work.path(), population, &keyring, &secret.expect("the house made one")).await;
    });
    let begun = Instant::now();
    let count = fill::fill(house.env("NATS_URL"), work.path());
    let published = begun.elapsed().as_secs_f64();
    let admin = Client::new(house.env("ADMIN_URL"), "");
    while applied(&admin) < count {
        assert!(begun.elapsed() < PATIENCE, "the house does not apply everything in time");
        pause();
    }
    let took = begun.elapsed().as_secs_f64();
    let figure = format!("{published:.1} s, {took:.1} s");
    table::plain(&format!("{count} events published, and applied meanwhile"), &figure);
}

/// How far the house's directory is.
fn applied(admin: &Client) -> u64 {
    let metrics = admin.get("/metrics").expect(200).text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("rollcall_projection_applied_sequence "));
    line.and_then(|number| number.trim().parse::<f64>().ok()).map_or(0, |number| number as u64)
}

fn questions(population: &Population) -> Vec<Asked> {
    let working: Vec<usize> = population.spread(WORKING).collect();
    let random: Vec<usize> =
        if working.len() < population.users { population.by_chance(DRAWN).collect() } else { Vec::new() };
    let by_id = |user: &usize| format!("/Users/{}", population.user_id(*user));
    let by_name =
        |user: &usize| format!("/Users?filter=userName%20eq%20%22{}%22", population.user_name(*user));
    let list = |user: &usize| {
        // No page is cut off at the end.
        let first = (*user).min(population.users.saturating_sub(PAGE)) + 1;
        format!("/Users?count={PAGE}&startIndex={first}")
    };
    let group = |group: usize| format!("/Groups/{}?excludedAttributes=members", population.group_id(group));
    let some: Vec<usize> = population.spread(LISTS).collect();
    let of = |users: &[usize], path: &dyn Fn(&usize) -> String| users.iter().map(path).collect();
    vec![
        Asked {
            title: "get by id",
            working: of(&working, &by_id),
            random: of(&random, &by_id),
            wanted: ["0.5", "0.3"],
        },
        Asked {
            title: "userName eq",
            working: of(&working, &by_name),
            random: of(&random, &by_name),
            wanted: ["0.5", "0.3"],
        },
        Asked {
            title: "group without members",
            working: (0..population.groups()).map(group).collect(),
            random: Vec::new(),
            wanted: ["0.5", "0.3"],
        },
        Asked {
            title: "list of 100",
            working: of(&some, &list),
            random: of(&random, &list),
            wanted: ["0.4", "0.3"],
        },
    ]
}

/// Measures a question and its floor in turn, of the working set and of anybody.
fn compare(target: &Target, asked: &Asked) {
    let Asked { title, working, random, wanted } = asked;
    let held: Vec<String> = working.iter().take(HELD).cloned().collect();
    // All of the working set, so that it is what was asked for last.
    let answers: Vec<(String, Bytes)> = fetched(target, working, held.len());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("answers");
    served::write(&file, &answers);
    let bytes = answers.iter().map(|(_, answer)| answer.len()).sum::<usize>() / answers.len().max(1);
    drop(answers);
    let running = Running::of(served::ROLE, file.as_os_str());
    let floor = Target { address: running.target.address.clone(), ..target.clone() };
    let measure = |target: &Target, paths: &[String]| {
        let gets = Gets { target: target.clone(), paths: paths.to_vec() };
        load::run(target, CONNECTIONS, Pace::Closed, CELL, Arc::new(gets))
    };
    let mut cells: [Vec<Figures>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let [floors, hot, any] = &mut cells;
        floors.push(measure(&floor, &held));
        hot.push(measure(target, working));
        if !random.is_empty() {
            any.push(measure(target, random));
        }
    }
    println!("  {title}, answers of {bytes} bytes");
    let [floors, hot, any] = cells;
    let floor = load::median(floors);
    table::latency(&format!("  floor: {:.0}/s", floor.rate), &floor, "");
    for (of, cell, wanted) in
        [(format!("{} of them", working.len()), hot, wanted[0]), ("anybody".to_string(), any, wanted[1])]
    {
        if !cell.is_empty() {
            let figures = load::median(cell);
            let ratio = figures.rate / floor.rate;
            let further = format!("{ratio:.2} x the floor's rate; asked: {wanted} x");
            table::latency(&format!("  {of}: {:.0}/s", figures.rate), &figures, &further);
        }
    }
}

/// Asks for every path once; the first of them, so many, with what the house answers.
fn fetched(target: &Target, paths: &[String], kept: usize) -> Vec<(String, Bytes)> {
    let (next, paths) = (Arc::new(AtomicUsize::new(0)), Arc::new(paths.to_vec()));
    let answers = Arc::new(Mutex::new(Vec::with_capacity(kept)));
    load::on_one_thread(async {
        let clients = (0..CONNECTIONS).map(|_| {
            let (target, next, paths, answers) =
                (target.clone(), next.clone(), paths.clone(), answers.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(&target).await;
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = paths.get(place) else { return };
                    let (status, body) = connection.send(&target.request("GET", path, "")).await;
                    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(body));
                    if place < kept {
                        let whole = format!("{}{path}", target.prefix);
                        let answer = (whole, Bytes::copy_from_slice(body));
                        answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                    }
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client goes well");
        }
    });
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *answers)
}

/// One path after another, and again.
struct Gets {
    target: Target,
    paths: Vec<String>,
}

impl Work for Gets {
    fn request(&self, number: usize) -> Vec<u8> {
        let path = self.paths.get(number % self.paths.len()).expect("an index within bounds");
        self.target.request("GET", path, "")
    }

    fn answered(&self, _: usize, status: u16, body: &[u8]) {
        assert!(status == 200 && body.len() > 100, "{status}: {}", String::from_utf8_lossy(body));
    }
}
