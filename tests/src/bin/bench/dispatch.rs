//! What keeping an app in step costs: how many accounts are made and changed in a second at a strict app that answers at
//! once, beside the same requests without us; and how soon a leaver's access has ended while others wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use street::apps::{App, Kind};
use street::house::{Options, eventually, user};
use street::{Client, House};

use crate::floor;
use crate::load::{self, Pace, Target, Work};

/// People, when nothing else is said.
const PEOPLE: usize = 5_000;
/// Calls at the same time: the app takes as many as come, and more of them share a sync of the broker's disk.
const CONCURRENCY: usize = 256;
/// And at an app that takes few.
const FEW: usize = 32;
/// Connections that make and change people.
const WRITERS: usize = 64;
/// Leavers, one after another.
const LEAVERS: usize = 50;
/// People whose changes wait while they leave, when nothing else is said.
const BACKLOG: usize = 50_000;
/// What the app takes in a second while they leave.
const ALLOWED: u32 = 10;
/// Between two leavers.
const APART: Duration = Duration::from_millis(1_500);
/// Apps that mark the same events, and the events, when nothing else is said.
const APPS: usize = 50;
const EVENTS: usize = 20_000;
/// Changes whose way to a healthy app is timed, when nothing else is said.
const SAMPLES: usize = 300;
/// Between two of them.
const BETWEEN: Duration = Duration::from_millis(30);
/// How long anything may take.
const LONG: Duration = Duration::from_secs(1_800);

/// Words: a number of people or events, `leave` (with `budget` the app's limit is configured), `mark`, `sick`.
pub(crate) fn run(words: &[String]) {
    println!("client, gateway, broker, dispatcher and app share this machine");
    let number = words.iter().find_map(|word| word.parse().ok());
    if words.iter().any(|word| word == "leave") {
        leave(number.unwrap_or(BACKLOG), words.iter().any(|word| word == "budget"));
    } else if words.iter().any(|word| word == "mark") {
        mark(number.unwrap_or(EVENTS));
    } else if words.iter().any(|word| word == "sick") {
        sick(number.unwrap_or(SAMPLES));
    } else {
        converge(number.unwrap_or(PEOPLE));
    }
}

fn house(app: &App, concurrency: usize) -> House {
    let more = format!("concurrency = {concurrency}");
    let configuration = Some(app.configuration("wiki", &more));
    House::start_with(Options { configuration, flags: vec!["--no-demo".to_string()], ..Options::default() })
}

fn converge(people: usize) {
    let floor = App::start(Kind::Scim);
    floor.remember_nothing();
    let target = Target::new(&floor.url(), floor.token());
    let lasts = Duration::from_secs(3);
    load::run(
        &target,
        CONCURRENCY,
        Pace::Closed,
        lasts,
        Arc::new(Floor { target: target.clone(), path: "/Users" }),
    )
    .show("floor: the same POSTs, without us");

    let app = App::start(Kind::Scim);
    app.remember_nothing();
    let house = house(&app, CONCURRENCY);
    let created = converged(&house, "create", people, || make(&house, people));
    let writes = floor::Running::start(house.env("NATS_URL"));
    let works = Arc::new(Floor { target: writes.target.clone(), path: "/floor" });
    let writes = load::run(&writes.target, CONCURRENCY, Pace::Closed, lasts, works);
    writes.show("floor: one guarded publish, at the same broker");
    println!(
        "  made:    {people} accounts, {created:.0}/s, {:.2} x the publishes that they need",
        2.0 * created / writes.rate
    );
    let ids = created_ids(&house);
    let changed = converged(&house, "update", people, || retitle(&house, &ids, "Converged"));
    println!("  changed: {people} accounts, {changed:.0}/s, {:.2} x", 2.0 * changed / writes.rate);
    let held = house.rollcall(&["app", "show", "wiki"]);
    println!("{held}");
}

/// So many calls a second were done and written down, after everything waited.
fn converged(house: &House, call: &str, count: usize, work: impl FnOnce()) -> f64 {
    let before = done(house, call);
    operate(house, "pause");
    // It is obeyed within half a second.
    nap(Duration::from_secs(2));
    work();
    let begun_with = done(house, call);
    operate(house, "resume");
    let first = soon("the first", || (done(house, call) > begun_with).then(Instant::now));
    soon("the last", || (done(house, call) >= before + count as u64).then_some(()));
    (before + count as u64 - begun_with) as f64 / first.elapsed().as_secs_f64()
}

fn operate(house: &House, what: &str) {
    house.rollcall(&["app", what, "wiki", "--by", "bench"]);
}

/// How many calls of this kind were done, after the metrics.
fn done(house: &House, call: &str) -> u64 {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let text = admin.get("/metrics").text;
    let is_it = |line: &&str| {
        line.starts_with("rollcall_app_calls_total{")
            && line.contains(&format!("call=\"{call}\""))
            && line.contains("outcome=\"done\"")
    };
    let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
    text.lines().filter(is_it).filter_map(count).sum::<f64>() as u64
}

fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LONG, "not within {LONG:?}: {what}");
        street::house::pause();
    }
}

fn make(house: &House, people: usize) {
    let target = Target::new(house.env("SCIM_URL"), house.env("SCIM_TOKEN"));
    let work = Arc::new(Counted::new(people, move |number| {
        target.request("POST", "/Users", &user(&format!("person-{number}")).to_string())
    }));
    work.run(&Target::new(house.env("SCIM_URL"), house.env("SCIM_TOKEN")));
}

fn created_ids(house: &House) -> Vec<String> {
    let corp = house.corp();
    let mut ids = Vec::new();
    loop {
        let page =
            corp.get(&format!("/Users?startIndex={}&count=200&attributes=id", ids.len() + 1)).expect(200);
        let found = page.body["Resources"].as_array().cloned().unwrap_or_default();
        if found.is_empty() {
            return ids;
        }
        ids.extend(found.iter().filter_map(|user| user["id"].as_str().map(str::to_string)));
    }
}

fn retitle(house: &House, ids: &[String], title: &str) {
    let target = Target::new(house.env("SCIM_URL"), house.env("SCIM_TOKEN"));
    let (ids, title) = (ids.to_vec(), title.to_string());
    let work = Arc::new(Counted::new(ids.len(), {
        let target = target.clone();
        move |number| {
            let body = json!({
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                "Operations": [{"op": "replace", "path": "title", "value": title}],
            });
            target.request("PATCH", &format!("/Users/{}", ids[number]), &body.to_string())
        }
    }));
    work.run(&target);
}

/// A number of requests, each once.
struct Counted {
    count: usize,
    request: Box<dyn Fn(usize) -> Vec<u8> + Send + Sync>,
}

impl Counted {
    fn new(count: usize, request: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self { count, request: Box::new(request) }
    }

    fn run(self: &Arc<Self>, target: &Target) {
        load::on_one_thread(async {
            let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let mut writers = Vec::new();
            for _ in 0..WRITERS {
                let mut connection = load::Connection::open(target).await;
                let (next, work) = (next.clone(), self.clone());
                writers.push(tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if number >= work.count {
                            return;
                        }
                        let (status, body) = connection.send(&(work.request)(number)).await;
                        assert!(status < 300, "{status} {}", String::from_utf8_lossy(body));
                    }
                }));
            }
            for writer in writers {
                writer.await.expect("a writer goes well");
            }
        });
    }
}

struct Floor {
    target: Target,
    path: &'static str,
}

impl Work for Floor {
    fn request(&self, number: usize) -> Vec<u8> {
        self.target.request("POST", self.path, &user(&format!("floor-{number}")).to_string())
    }

    fn answered(&self, _: usize, status: u16, body: &[u8]) {
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(body));
    }
}

fn leave(backlog: usize, with_budget: bool) {
    let app = App::start(Kind::Scim);
    app.remember_nothing();
    let mut house = house(&app, FEW);
    make(&house, backlog);
    soon("everybody has an account", || (done(&house, "create") >= backlog as u64).then_some(()));
    let ids = created_ids(&house);
    app.allow(ALLOWED, Duration::from_secs(1));
    if with_budget {
        assert!(house.stop());
        let budget = format!("concurrency = {FEW}\n[app.wiki.budget]\nrate_per_second = {ALLOWED}\n");
        house.configure(&app.configuration("wiki", &budget));
        house.start_again();
    }
    retitle(&house, &ids, "Waiting");
    let corp = house.corp();
    let took: Mutex<Vec<Duration>> = Mutex::default();
    let begun = Instant::now();
    for leaver in 0..LEAVERS {
        let place = leaver * (ids.len() / LEAVERS);
        let name = corp.get(&format!("/Users/{}", ids[place])).expect(200).body["userName"].clone();
        let name = name.as_str().unwrap_or_default().to_string();
        corp.delete(&format!("/Users/{}", ids[place])).expect(204);
        let acknowledged = Instant::now();
        eventually("the access ends", || app.account(&name).is_none().then_some(()));
        took.lock().unwrap_or_else(PoisonError::into_inner).push(acknowledged.elapsed());
        while begun.elapsed() < APART * u32::try_from(leaver + 1).unwrap_or(u32::MAX) {
            street::house::pause();
        }
    }
    let took = took.into_inner().unwrap_or_else(PoisonError::into_inner);
    load::figures(took, begun.elapsed())
        .show(&format!("leavers, {backlog} changes waiting, {ALLOWED} calls/s"));
    println!("  what the house itself measured, to the verified end:");
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    for line in admin.get("/metrics").text.lines().filter(|line| line.contains("access_end")) {
        println!("    {line}");
    }
}

/// How soon many apps, whose calls are paused, have marked whom the events concern that came while they were away.
fn mark(events: usize) {
    let events = events / 2 * 2;
    let app = App::start(Kind::Scim);
    let names: Vec<String> = (0..APPS).map(|number| format!("app{number}")).collect();
    let configuration: String = names.iter().map(|name| app.configuration(name, "")).collect();
    let flags = vec!["--no-demo".to_string()];
    let mut house = House::start_with(Options {
        configuration: Some(configuration.clone()),
        flags,
        ..Options::default()
    });
    for name in &names {
        house.rollcall(&["app", "pause", name, "--by", "bench"]);
    }
    soon("every app has begun", || (due(&house).len() == APPS).then_some(()));
    assert!(house.stop());
    house.configure("");
    house.start_again();
    // Half of them are people who come, half are changes.
    make(&house, events / 2);
    retitle(&house, &created_ids(&house), "Engineer");
    assert!(house.stop());
    house.configure(&configuration);
    house.start_again();
    let begun = Instant::now();
    let mut first = None;
    let (first, last) = soon("every app has heard everything", || {
        let now = (Instant::now(), heard(&house));
        if now.1 == 0 {
            return None;
        }
        let first = *first.get_or_insert(now);
        (now.1 >= (APPS * events) as u64).then_some((first, now))
    });
    soon("everybody is marked", || (due(&house).iter().sum::<usize>() == APPS * events).then_some(()));
    let whole = events as f64 / begun.elapsed().as_secs_f64();
    let rate = (last.1 - first.1) as f64 / (last.0 - first.0).as_secs_f64() / APPS as f64;
    println!(
        "  marked:  {events} events by {APPS} apps, {rate:.0} events/s, {:.0} marks/s",
        rate * APPS as f64
    );
    println!(
        "  (while it goes on; {whole:.0} events/s from the process being ready to a status that shows all of them)"
    );
}

/// How many events all apps together have heard of.
fn heard(house: &House) -> u64 {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let metrics = admin.get("/metrics").text;
    let counts = metrics.lines().filter(|line| line.starts_with("rollcall_app_events_total{"));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// How many resources wait at each app that has begun.
fn due(house: &House) -> Vec<usize> {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let status = admin.get("/api/v1/status").expect(200).body;
    let apps = status["apps"].as_object().cloned().unwrap_or_default();
    let begun =
        apps.values().filter(|app| app["waitingFor"].as_str().is_none_or(|why| why.starts_with("paused")));
    begun.filter_map(|app| app["due"].as_u64().and_then(|due| usize::try_from(due).ok())).collect()
}

/// How long a change takes from its acknowledgement to a healthy app: alone, and beside one that is dead, one that answers
/// after five seconds and one that answers 429.
fn sick(samples: usize) {
    let [well, dead, late, busy] = [(); 4].map(|()| App::start(Kind::Scim));
    for app in [&well, &dead, &late, &busy] {
        app.remember_nothing();
    }
    dead.stop();
    late.delay(Duration::from_secs(5));
    busy.answer_all_with(429);
    let alone = House::feeding(&[("well", &well, "")]);
    let before = arrivals(&alone, &well, "alone", samples);
    before.show("a change, alone");
    drop(alone);
    let apps = [("well", &well, ""), ("dead", &dead, ""), ("late", &late, ""), ("busy", &busy, "")];
    let beside = arrivals(&House::feeding(&apps), &well, "beside", samples);
    beside.show("a change, beside three sick apps");
    println!("  p99 beside the sick ones: {:.2} x of alone", beside.p99 / before.p99);
}

/// Somebody's title is changed again and again.
fn arrivals(house: &House, app: &App, name: &str, samples: usize) -> load::Figures {
    let corp = house.corp();
    let id = corp.post("/Users", &user(name)).expect(201).id();
    soon("the account", || app.account(name));
    let title = |number: usize| json!(format!("Title {number}"));
    let (begun, mut took) = (Instant::now(), Vec::new());
    for number in 0..samples {
        let operations = json!([{"op": "replace", "path": "title", "value": title(number)}]);
        corp.patch(&format!("/Users/{id}"), operations).expect(200);
        let acknowledged = Instant::now();
        while app.account(name).is_none_or(|account| account.get("title") != Some(&title(number))) {
            nap(Duration::from_millis(1));
        }
        took.push(acknowledged.elapsed());
        nap(BETWEEN);
    }
    load::figures(took, begun.elapsed())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a condition that is looked at every twenty milliseconds measures those"
)]
fn nap(time: Duration) {
    std::thread::sleep(time);
}
