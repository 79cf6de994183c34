//! What a write costs, beside the floor of the same run: creates and PATCHes of users of about a kilobyte.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use street::House;
use street::cluster::Cluster;
use street::house::Options;

use crate::broker::Lazy;
use crate::floor;
use crate::load::{self, Figures, Pace, Target, Work};

/// How long one cell is measured, and how often the pair is measured in turn.
const CELL: Duration = Duration::from_millis(2_500);
const ROUNDS: usize = 3;
/// Of a cluster.
const REPLICAS: usize = 3;

/// A broker that can be named, and what measures writes with it.
type Broker = (&'static str, fn(&[String]));

const BROKERS: [Broker; 3] = [("sync", always_synced), ("lazy", lazily_synced), ("replicated", replicated)];

/// Words narrow it down: the name of a broker (`sync` and `lazy` when none is given), `open`, a number of connections.
pub(crate) fn run(words: &[String]) {
    println!(
        "client, gateway and broker share this machine; each cell in {ROUNDS} rounds, in turn with its floor"
    );
    let is_given = |name: &str| words.iter().any(|word| word == name);
    let none = !BROKERS.iter().any(|(name, _)| is_given(name));
    for (name, run) in BROKERS {
        if is_given(name) || (none && name != "replicated") {
            run(words);
        }
    }
}

fn always_synced(words: &[String]) {
    println!("\none replica, sync_interval: always");
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    pairs(&house, house.env("NATS_URL"), "sync", words);
}

fn lazily_synced(words: &[String]) {
    println!("\none replica, lazy sync (the broker's own default: acknowledges before the disk has it)");
    let broker = Lazy::start();
    let flags = ["--no-demo", "--nats", broker.url()].map(str::to_string).to_vec();
    let house = House::start_with(Options { flags, ..Options::default() });
    pairs(&house, broker.url(), "lazy", words);
}

fn replicated(words: &[String]) {
    println!("\nthree brokers on this machine, three replicas, sync_interval: always");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let brokers = Cluster::start(folder.path(), REPLICAS);
    let (url, replicas) = (brokers.url(), REPLICAS.to_string());
    let flags = ["--no-demo", "--nats", &url, "--nats-replicas", &replicas].map(str::to_string).to_vec();
    let house = House::start_with(Options { flags, ..Options::default() });
    pairs(&house, &url, "replicated", words);
}

/// Creates until a million are there, beside a floor whose own log stays small: what its rate loses meanwhile is the machine's.
pub(crate) fn run_million(_: &[String]) {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let target = Target::new(house.env("SCIM_URL"), house.env("SCIM_TOKEN"));
    let floor = floor::Running::start(house.env("NATS_URL"));
    println!("creates at 256 connections, sync_interval: always, from an empty log, in turn with the floor");
    let mut made = 0;
    while made < 1_000_000 {
        let floors = Arc::new(Floors { target: floor.target.clone() });
        let beside = load::run(&floor.target, 256, Pace::Closed, CELL, floors);
        let creates = Arc::new(Creates::new(target.clone(), &format!("million-{made}")));
        let figures = load::run(&target, 256, Pace::Closed, Duration::from_secs(15), creates.clone());
        made += creates.count();
        figures.show(&format!("after {made}"));
        println!("    {:.2} x the floor's {:.0}/s", figures.rate / beside.rate, beside.rate);
    }
}

fn pairs(house: &House, nats: &str, name: &str, words: &[String]) {
    let floor = floor::Running::start(nats);
    let target = Target::new(house.env("SCIM_URL"), house.env("SCIM_TOKEN"));
    let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let narrowed = !numbers.is_empty();
    for connections in if narrowed { numbers } else { vec![1, 16, 64, 256] } {
        println!(" {connections} connections, closed loop");
        let mut cells: [Vec<Figures>; 3] = Default::default();
        for round in 0..ROUNDS {
            let floors = Arc::new(Floors { target: floor.target.clone() });
            let creates = Arc::new(Creates::new(target.clone(), &format!("{name}-{connections}-{round}")));
            let measured = [
                load::run(&floor.target, connections, Pace::Closed, CELL, floors),
                load::run(&target, connections, Pace::Closed, CELL, creates.clone()),
                load::run(&target, connections, Pace::Closed, CELL, Arc::new(Patches::of(&creates))),
            ];
            for (cell, figures) in cells.iter_mut().zip(measured) {
                cell.push(figures);
            }
        }
        let [floors, creates, patches] = cells.map(load::median);
        floors.show("floor: one guarded publish");
        for (title, figures) in [("create", creates), ("patch", patches)] {
            figures.show(title);
            println!(
                "    {:.2} x the floor's rate, {:.2} x its p50",
                figures.rate / floors.rate,
                figures.p50 / floors.p50
            );
        }
    }
    if narrowed && !words.iter().any(|word| word == "open") {
        return;
    }
    for rate in [500.0, 2_000.0, 4_000.0] {
        let creates = Arc::new(Creates::new(target.clone(), &format!("{name}-open-{rate}")));
        load::run(&target, 512, Pace::Open(rate), CELL, creates)
            .show(&format!("create, open loop, {rate}/s come"));
    }
}

/// A user of about a kilobyte.
fn body(name: &str) -> String {
    json!({
        "schemas": [
            "urn:ietf:params:scim:schemas:core:2.0:User",
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
        ],
        "userName": name,
        "externalId": format!("00u{name}"),
        "displayName": format!("Person {name}"),
        "name": {"formatted": format!("Ms. Barbara J {name}"), "givenName": "Barbara", "familyName": name},
        "title": "Vice President, Regional Operations",
        "preferredLanguage": "en-US",
        "locale": "en-US",
        "timezone": "America/Los_Angeles",
        "active": true,
        "emails": [
            {"value": format!("{name}@corp.test"), "type": "work", "primary": true},
            {"value": format!("{name}@home.test"), "type": "home"},
        ],
        "phoneNumbers": [{"value": "+1-555-0100", "type": "work"}, {"value": "+1-555-0101", "type": "mobile"}],
        "addresses": [{
            "type": "work", "streetAddress": "100 Universal City Plaza", "locality": "Hollywood",
            "region": "CA", "postalCode": "91608", "country": "US", "primary": true,
        }],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {
            "employeeNumber": format!("E-{name}"), "costCenter": "4130", "organization": "Universal Studios",
            "division": "Theme Park", "department": "Tour Operations",
        },
    })
    .to_string()
}

struct Floors {
    target: Target,
}

impl Work for Floors {
    fn request(&self, number: usize) -> Vec<u8> {
        self.target.request("POST", "/floor", &body(&format!("floor-{number}")))
    }

    fn answered(&self, _: usize, status: u16, _: &[u8]) {
        assert_eq!(status, 201);
    }
}

struct Creates {
    target: Target,
    run: String,
    ids: Mutex<Vec<String>>,
}

impl Creates {
    fn new(target: Target, run: &str) -> Self {
        Self { target, run: run.to_string(), ids: Mutex::default() }
    }

    fn count(&self) -> usize {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Work for Creates {
    fn request(&self, number: usize) -> Vec<u8> {
        self.target.request("POST", "/Users", &body(&format!("{}-{number}", self.run)))
    }

    fn answered(&self, _: usize, status: u16, body: &[u8]) {
        let text = std::str::from_utf8(body).unwrap_or_default();
        assert_eq!(status, 201, "{text}");
        let id = text.split_once("\"id\":\"").and_then(|(_, rest)| rest.get(..36)).expect("an id");
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_string());
    }
}

/// Changes of one attribute, each time of the next user.
struct Patches {
    target: Target,
    ids: Vec<String>,
}

impl Patches {
    fn of(creates: &Creates) -> Self {
        let ids = creates.ids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { target: creates.target.clone(), ids }
    }
}

impl Work for Patches {
    fn request(&self, number: usize) -> Vec<u8> {
        let id = self.ids.get(number % self.ids.len()).expect("an index within bounds");
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "title", "value": format!("Title {number}")}],
        });
        self.target.request("PATCH", &format!("/Users/{id}"), &body.to_string())
    }

    fn answered(&self, _: usize, status: u16, body: &[u8]) {
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
    }
}
