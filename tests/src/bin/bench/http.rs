//! Create, get and filter over HTTP, against a real `rollcall up`, each beside a floor of the same run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use street::house::{Options, group, user};
use street::{Client, House};

/// How long one cell is measured.
const CELL: Duration = Duration::from_secs(3);

/// Runs `work` on so many connections and prints rate and latency.
fn cell(title: &str, connections: usize, work: impl Fn(&Client, usize) + Sync, client: &Client) -> f64 {
    let (number, begun) = (AtomicUsize::new(0), Instant::now());
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let run = || {
            let mut latencies = Vec::new();
            while begun.elapsed() < CELL {
                let one = Instant::now();
                work(client, number.fetch_add(1, Ordering::Relaxed));
                latencies.push(one.elapsed());
            }
            latencies
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(run)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("the work goes well")).collect()
    });
    latencies.sort();
    let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    let at = |part: usize| {
        latencies.get(latencies.len() * part / 100).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    println!(
        "{title:<34} {connections:>3} connections  {rate:>8.0}/s  p50 {:>7.2} ms  p99 {:>7.2} ms",
        at(50),
        at(99)
    );
    rate
}

pub(crate) fn run() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let corp = house.corp();
    let admin = Client::new(house.env("ADMIN_URL"), "");
    let livez = |client: &Client, _: usize| drop(client.get("/livez").expect(200));
    println!("client, rollcall and broker share this machine; sync_interval: always; one replica\n");
    for connections in [1, 16, 64, 256] {
        let floor = cell("floor: GET of a constant", connections, livez, &admin);
        let create = |client: &Client, number: usize| {
            drop(client.post("/Users", &user(&format!("bench-{connections}-{number}"))).expect(201));
        };
        let before = committer(&admin);
        let created = cell("create a user", connections, create, &corp);
        let after = committer(&admin);
        println!(
            "  committed: {:.0} alone, {:.0} batches of {:.0} on average",
            after[0] - before[0],
            after[1] - before[1],
            (after[2] - before[2]) / (after[1] - before[1]).max(1.0)
        );
        let ids: Vec<String> = corp.get("/Users?count=200&attributes=id").expect(200).body["Resources"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|user| user["id"].as_str().expect("an id").to_string())
            .collect();
        let id = |number: usize| ids.get(number % ids.len()).expect("an index within bounds").clone();
        let get =
            |client: &Client, number: usize| drop(client.get(&format!("/Users/{}", id(number))).expect(200));
        let got = cell("get a user by id", connections, get, &corp);
        let filter = |client: &Client, number: usize| {
            assert!(
                client.find("/Users", "userName", &format!("bench-{connections}-{}", number % 100)).is_some()
            );
        };
        let filtered = cell("filter userName eq", connections, filter, &corp);
        let path = format!("/Users/{}", id(0));
        let flip = |client: &Client, number: usize| {
            let operations = json!([{"op": "replace", "path": "title", "value": format!("t{number}")}]);
            drop(client.patch(&path, operations).expect(200));
        };
        if connections == 1 {
            cell("patch one user", connections, flip, &corp);
        }
        println!(
            "  against the floor: create {:.2}, get {:.2}, filter {:.2}\n",
            created / floor,
            got / floor,
            filtered / floor
        );
    }
    members(&corp);
}

/// Messages that were sent alone, batches, and messages in batches.
fn committer(admin: &Client) -> [f64; 3] {
    let metrics = admin.get("/metrics").expect(200).text;
    let total = |name: &str| {
        let value = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
        metrics.lines().filter(|line| line.starts_with(name)).filter_map(value).sum()
    };
    [
        "rollcall_committer_singles_total",
        "rollcall_committer_batches_total",
        "rollcall_committer_batch_messages_sum",
    ]
    .map(total)
}

/// One member comes and goes, in a small group and in a large one.
fn members(corp: &Client) {
    let ids = many_users(corp, 10_000);
    for count in [10, 10_000] {
        let listed: Vec<&str> = ids.iter().take(count).map(String::as_str).collect();
        let begun = Instant::now();
        let team = corp.post("/Groups?attributes=displayName", &group("Team", &listed)).expect(201).id();
        println!("create a group of {count} in one request: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
        let one = listed.last().copied().unwrap_or_default();
        let toggle = |client: &Client, number: usize| {
            let operation = if number.is_multiple_of(2) {
                json!({"op": "remove", "path": format!("members[value eq \"{one}\"]")})
            } else {
                json!({"op": "add", "path": "members", "value": [{"value": one}]})
            };
            let reply = client.patch(&format!("/Groups/{team}"), json!([operation]));
            assert!(matches!(reply.status, 200 | 204), "{}", reply.text);
        };
        cell(&format!("one member in a group of {count}"), 1, toggle, corp);
        let list =
            |client: &Client, _: usize| drop(client.get("/Groups?excludedAttributes=members").expect(200));
        cell(&format!("list it without members, {count}"), 1, list, corp);
    }
}

fn many_users(corp: &Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let operations: Vec<Value> = (0..1_000)
            .map(|number| {
                let name = format!("member-{}-{number}", ids.len());
                json!({"method": "POST", "path": "/Users", "bulkId": name, "data": user(&name)})
            })
            .collect();
        let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": operations});
        let done = corp.post("/Bulk", &body).expect(200);
        let made = done.body["Operations"].as_array().expect("operations");
        ids.extend(
            made.iter().filter_map(|one| Some(one["location"].as_str()?.rsplit('/').next()?.to_string())),
        );
    }
    ids
}
