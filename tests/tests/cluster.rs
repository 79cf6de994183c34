//! Three brokers, three replicas: a leader dies, a follower is cut off, all are restarted one by one, a majority is gone.
//! Writes go on or are refused for the moment; nothing that was acknowledged is lost, and nobody is lied to.

#![cfg(test)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use eventlog::{Append, Broker, Guard, Headers, clock, nats};
use jiff::SignedDuration;
use serde_json::json;
use street::Client;
use street::cluster::Cluster;
use street::history::check;
use street::house::{eventually, pause, user};
use street::random::fresh_seed;
use street::site::{GATEWAYS, Site};
use street::torture::verdict::{against_log, everything};
use street::workload::Workload;

/// How long a gateway may try; an election among the brokers takes about as long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How much later than that a client may hear of it: reading keys has its own limit, and the machine may be slow.
const LATE_MAX: Duration = Duration::from_secs(20);
/// How long the state that an answer names may have ended: a broker's time is that of a proposal.
const SLACK: SignedDuration = SignedDuration::from_secs(20);
/// How long a broker stays cut off or frozen at most.
const CUT_OFF_MAX: Duration = Duration::from_secs(15);
const CLIENTS: usize = 6;

/// Does `work` while clients write through both gateways, then checks everything that they were told.
fn while_clients_write(work: impl FnOnce(&mut Site, &Workload)) {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(folder.path(), 3, REQUEST_TIMEOUT);
    let seed = fresh_seed();
    println!("seed {seed}");
    let clients: [Client; GATEWAYS] = std::array::from_fn(|gateway| site.client(gateway));
    let workload = Workload::new(seed, clients);
    std::thread::scope(|scope| {
        let stop = scopeguard(&workload);
        for number in 0..CLIENTS {
            let workload = &workload;
            scope.spawn(move || workload.work(number));
        }
        more_acknowledged(&workload, 40);
        work(&mut site, &workload);
        more_acknowledged(&workload, 40);
        drop(stop);
    });
    site.cluster.until_healthy("the test");
    assert_eq!(site.until_ready("the test").len(), 0, "nobody ended by themselves");
    assert_eq!(site.cluster.ended(), Vec::<String>::new());
    let (events, history) = (site.events(), workload.history());
    let violations = check(&history, &events, SLACK);
    if !violations.is_empty() {
        let logs: String = (0..site.count()).map(|number| site.log(number)).collect();
        let events: String = events.iter().map(|event| format!("{event:?}\n")).collect();
        panic!("{violations:#?}\n---- events ----\n{events}---- what the processes said ----\n{logs}");
    }
    for operation in &history {
        let took = Duration::try_from(operation.ended.duration_since(operation.begun)).unwrap();
        assert!(took < REQUEST_TIMEOUT + LATE_MAX, "{took:?}: {operation:?}");
    }
    let shown = [0, 1].map(|gateway| everything(&site.client(gateway)));
    assert_eq!(shown[0], shown[1], "both gateways answer alike");
    assert_eq!(against_log("the gateway", &shown[0], &events), Vec::<String>::new());
    println!("{:?}, {} events", workload.counts(), events.len());
}

/// Tells the clients to end, also when an assertion fails.
fn scopeguard(workload: &Workload) -> impl Drop + '_ {
    struct Stop<'a>(&'a Workload);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    Stop(workload)
}

fn more_acknowledged(workload: &Workload, count: u64) {
    let before = workload.counts().acknowledged;
    eventually("clients are acknowledged", || {
        (workload.counts().acknowledged >= before + count).then_some(())
    });
}

/// The same while a broker is out of reach. Gateways whose connection is to that one are put off until it is back; if all
/// are, nobody goes on, so this ends by itself.
fn acknowledged_meanwhile(workload: &Workload, count: u64) {
    let (before, begun) = (workload.counts().acknowledged, Instant::now());
    while workload.counts().acknowledged < before + count && begun.elapsed() < CUT_OFF_MAX {
        street::house::pause();
    }
}

fn leader(cluster: &Cluster) -> usize {
    eventually("the stream has a leader", || cluster.leader("IDENTITY"))
}

#[test]
fn a_leader_that_dies_takes_nothing_along() {
    while_clients_write(|site, workload| {
        let old = leader(&site.cluster);
        assert!(site.cluster.kill(old));
        // Two of three choose another and go on, without the dead one.
        let new = eventually("another leader", || site.cluster.leader("IDENTITY").filter(|new| *new != old));
        assert_ne!(old, new);
        more_acknowledged(workload, 40);
        site.cluster.start_again(old);
        site.cluster.until_healthy("the old leader came back");
    });
}

#[test]
fn a_follower_that_is_cut_off_or_frozen_catches_up() {
    while_clients_write(|site, workload| {
        let follower = (leader(&site.cluster) + 1) % 3;
        site.cluster.cut_off(follower);
        acknowledged_meanwhile(workload, 150);
        site.cluster.mend();
        site.cluster.until_healthy("the follower is reached again");
        more_acknowledged(workload, 20);
        let follower = (leader(&site.cluster) + 1) % 3;
        site.cluster.freeze(follower);
        acknowledged_meanwhile(workload, 60);
        site.cluster.thaw(follower);
        site.cluster.until_healthy("the follower goes on");
        more_acknowledged(workload, 20);
    });
}

#[test]
fn a_leader_that_is_cut_off_is_replaced() {
    while_clients_write(|site, workload| {
        let old = leader(&site.cluster);
        site.cluster.cut_off(old);
        let others = (0..3).filter(|number| *number != old);
        let others: Vec<usize> = others.collect();
        eventually("the others choose a leader", || {
            let info = site.cluster.ask(others[0], "$JS.API.STREAM.INFO.IDENTITY")?;
            let name = info["cluster"]["leader"].as_str()?.to_string();
            (name != street::routes::server_name(old)).then_some(())
        });
        acknowledged_meanwhile(workload, 20);
        site.cluster.mend();
        site.cluster.until_healthy("the old leader is reached again");
        more_acknowledged(workload, 20);
    });
}

/// It calls itself the leader for some time yet, while the others have chosen one and go on.
#[test]
fn a_leader_that_was_cut_off_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path(), 3);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connect = |number: usize| {
        let config = nats::Config { url: cluster.url_of(number), replicas: 3, ..Default::default() };
        eventually("the broker is connected to", || runtime.block_on(nats::connect(&config)).ok())
    };
    let last_sequence = |broker: &Broker| runtime.block_on(broker.identity.last_sequence());
    let connected = [0, 1, 2].map(connect);
    let old = leader(&cluster);
    cluster.cut_off(old);
    let acknowledged = eventually("the others acknowledge", || {
        let append = Append {
            subject: "identity.corp.User.ada".to_string(),
            guard: Guard::None,
            id: clock::new_event_id(),
            payload: Bytes::from_static(b"x"),
            headers: Headers::default(),
        };
        let other = &connected[(old + 1) % 3].identity;
        runtime.block_on(other.append(append, tokio::time::Instant::now() + REQUEST_TIMEOUT)).ok()
    });
    let mut deceived = 0;
    loop {
        let before = last_sequence(&connected[old]);
        assert!(before.as_ref().map_or(true, |last| *last >= acknowledged), "{before:?}");
        let Some(info) = cluster.ask(old, "$JS.API.STREAM.INFO.IDENTITY") else { continue };
        if info["cluster"]["leader"] != street::routes::server_name(old) {
            break;
        }
        assert!(info["state"]["last_seq"].as_u64().unwrap() < acknowledged);
        deceived += 1;
        pause();
    }
    assert!(deceived > 0, "it did not believe to lead any more");
    cluster.mend();
    let last = eventually("it answers again", || last_sequence(&connected[old]).ok());
    assert!(last >= acknowledged);
}

#[test]
fn brokers_are_restarted_one_after_the_other() {
    while_clients_write(|site, workload| {
        for number in 0..3 {
            assert!(site.cluster.kill(number));
            site.cluster.start_again(number);
            site.cluster.until_healthy("one broker was restarted");
            more_acknowledged(workload, 10);
        }
    });
}

#[test]
fn without_a_majority_reads_go_on_and_writes_are_put_off() {
    while_clients_write(|site, workload| {
        let clients: Vec<Client> = (0..GATEWAYS).map(|gateway| site.client(gateway)).collect();
        let id = clients[0].post("/Users", &user("reader")).expect(201).id();
        let path = format!("/Users/{id}");
        eventually("both gateways show the user", || {
            clients.iter().all(|client| client.get(&path).status == 200).then_some(())
        });
        for number in [0, 1] {
            assert!(site.cluster.kill(number));
        }
        // From when on nobody can be acknowledged: what the last leader had taken may still have been on its way.
        let silent = eventually("writes are put off", || {
            let reply = clients[0].post("/Users", &user("first-without-majority"));
            (reply.status == 503).then(Instant::now)
        });
        let before = workload.counts();
        for (number, client) in clients.iter().enumerate() {
            let begun = Instant::now();
            let reply = client.post("/Users", &user(&format!("without-majority-{number}"))).expect(503);
            assert!(begun.elapsed() < REQUEST_TIMEOUT + LATE_MAX, "{:?}", begun.elapsed());
            assert_eq!(reply.header("retry-after"), Some("1"));
            assert_eq!(client.get(&path).expect(200).body["userName"], "reader");
            let found = client.find("/Users", "userName", "reader").unwrap();
            assert_eq!(found["id"], json!(id));
        }
        eventually("the clients are put off", || {
            (workload.counts().unknown >= before.unknown + CLIENTS as u64).then_some(())
        });
        println!("{:?} without a majority", silent.elapsed());
        for number in [0, 1] {
            site.cluster.start_again(number);
        }
        site.cluster.until_healthy("the majority is back");
        more_acknowledged(workload, 40);
        for (number, client) in clients.iter().enumerate() {
            let name = format!("after-{number}");
            client.post("/Users", &user(&name)).expect(201);
        }
    });
}

/// Everything is started at the same moment, as after a power failure: whoever needs the brokers waits for them.
#[test]
fn a_cluster_that_is_not_ready_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(folder.path(), 3, REQUEST_TIMEOUT);
    site.client(0).post("/Users", &user("ada")).expect(201);
    let file = folder.path().join("rollcall.toml");
    let configuration = std::fs::read_to_string(&file).unwrap();
    let impatient =
        |ready_timeout_ms| format!("{configuration}[nats]\nready_timeout_ms = {ready_timeout_ms}\n");
    std::fs::write(&file, impatient(5_000)).unwrap();
    for number in 0..3 {
        site.cluster.kill(number);
    }
    for number in 0..site.count() {
        site.kill(number);
        site.start_again(number);
    }
    eventually("the gateway says what it waits for", || {
        site.log(0).contains("the NATS server does not answer yet; waiting").then_some(())
    });
    // One of three is connected to, and cannot serve: the end says what is awaited.
    site.cluster.start_again(0);
    let ended = eventually("the gateway gives up", || {
        site.ended().into_iter().find(|ended| ended.text.contains("gateway-0"))
    });
    assert!(!ended.after_ready);
    let said = ended.text.lines().find(|line| line.contains("rollcall: ")).unwrap();
    assert!(said.contains("more than half of its servers") && said.contains("within 5 s"), "{}", ended.text);
    std::fs::write(&file, impatient(30_000)).unwrap();
    for number in [1, 2] {
        site.cluster.start_again(number);
    }
    site.cluster.until_healthy("all brokers run");
    site.until_ready("all brokers run");
    assert!(site.client(1).find("/Users", "userName", "ada").is_some());
    pause();
}
