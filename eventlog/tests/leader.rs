//! Three brokers whose leader changes while many write: every write ends well, once and whole, and who follows the log
//! sees all of it, in order.

#![cfg(test)]

#[path = "common/foreign.rs"]
#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod foreign;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use bytes::Bytes;
use eventlog::{Append, Broker, Error, Guard, Log, clock, nats};
use futures::StreamExt;
use proto::EventId;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use foreign::Foreign;

const SOON: Duration = Duration::from_secs(120);
const WRITERS: usize = 6;
/// How often the leader changes.
const CHANGES: usize = 5;

struct Cluster {
    folders: Vec<tempfile::TempDir>,
    settings: Vec<String>,
    servers: Vec<Option<Foreign>>,
}

impl Cluster {
    fn start() -> Self {
        let free: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = free.iter().map(|port| port.local_addr().unwrap().port()).collect();
        drop(free);
        let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let folders: Vec<_> = ports.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let settings: Vec<String> = (0..3)
            .map(|number| {
                format!(
                    "server_name: s{number}\nmax_payload: 8MB\njetstream {{ store_dir: \"{}\" }}\n\
                     cluster {{ name: c, listen: \"127.0.0.1:{}\", routes: [{}] }}",
                    folders[number].path().display(),
                    ports[number],
                    routes.join(", ")
                )
            })
            .collect();
        let start = |number: usize| Some(Foreign::start(folders[number].path(), 0, &settings[number]));
        let servers = (0..3).map(start).collect();
        Self { folders, settings, servers }
    }

    /// Kills a server and starts it again on its store.
    fn restart(&mut self, number: usize) {
        drop(self.servers[number].take());
        self.servers[number] = Some(Foreign::start(self.folders[number].path(), 0, &self.settings[number]));
    }

    async fn connect(&self) -> Broker {
        let urls: Vec<String> = self.servers.iter().flatten().map(|server| server.url.clone()).collect();
        let config =
            nats::Config { url: urls.join(","), replicas: 3, connect_timeout: SOON, ..Default::default() };
        let begun = Instant::now();
        loop {
            match nats::connect(&config).await {
                Ok(broker) => return broker,
                Err(error) => assert!(begun.elapsed() < SOON, "{error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn operator(&self) -> jetstream::Context {
        let urls: Vec<String> = self.servers.iter().flatten().map(|server| server.url.clone()).collect();
        jetstream::new(async_nats::connect(urls).await.unwrap())
    }
}

fn write(subject: String, guard: Guard) -> Append {
    Append {
        subject: format!("identity.corp.User.{subject}"),
        guard,
        id: clock::new_event_id(),
        payload: Bytes::from_static(b"x"),
        headers: eventlog::Headers::default(),
    }
}

/// Writes in turn a guarded message, an unguarded one and a batch, until told to stop; what stands where.
async fn writer(log: Arc<dyn Log>, writer: usize, stop: Arc<AtomicBool>) -> Vec<(EventId, u64)> {
    let mut told = Vec::new();
    let mut last = 0;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let deadline = Instant::now() + SOON;
        let own = format!("own-{writer}");
        match number % 3 {
            0 => {
                let append = write(own, Guard::Last(last));
                let id = append.id;
                last = log.append(append, deadline).await.unwrap();
                told.push((id, last));
            }
            1 => {
                let append = write("shared".to_string(), Guard::None);
                told.push((append.id, log.append(append, deadline).await.unwrap()));
            }
            _ => {
                let batch = vec![
                    write(format!("new-{writer}-{number}"), Guard::Last(0)),
                    write(own, Guard::Last(last)),
                ];
                let ids: Vec<EventId> = batch.iter().map(|append| append.id).collect();
                let sequences = log.append_atomic(batch, deadline).await.unwrap();
                last = sequences[1];
                told.extend(ids.into_iter().zip(sequences));
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_change_while_many_write() {
    let mut cluster = Cluster::start();
    let broker = cluster.connect().await;
    let mut followed = broker.identity.follow(1);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(writer(broker.identity.clone(), number, stop.clone()));
    }
    let operator = cluster.operator().await;
    for change in 0..CHANGES {
        // Between two changes something is written, so each falls into the middle of writing.
        let before = broker.identity.last_sequence().await.unwrap_or_default();
        let begun = Instant::now();
        while broker.identity.last_sequence().await.unwrap_or_default() < before + 30 {
            assert!(begun.elapsed() < SOON, "nothing is written");
            sleep(Duration::from_millis(20)).await;
        }
        if change == 2 {
            cluster.restart(0);
        } else {
            let nothing = serde_json::json!({});
            let _: Result<serde_json::Value, _> =
                operator.request("STREAM.LEADER.STEPDOWN.IDENTITY", &nothing).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let told: Vec<(EventId, u64)> = writers.join_all().await.into_iter().flatten().collect();
    let mut expected: BTreeMap<u64, EventId> = BTreeMap::new();
    for (id, sequence) in told {
        assert!(expected.insert(sequence, id).is_none(), "two stand at {sequence}");
    }
    for (place, (sequence, id)) in expected.iter().enumerate() {
        assert_eq!(*sequence, place as u64 + 1, "something stands that nobody was told of");
        let message = timeout(SOON, followed.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((message.sequence, message.id), (*sequence, Some(*id)));
    }
    // The other streams may still be without a leader.
    answered(|| broker.verify()).await;
    assert_eq!(answered(|| broker.identity.last_sequence()).await, expected.len() as u64);
}

/// What is asked until the cluster can say it.
async fn answered<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_retryable() && begun.elapsed() < SOON, "{error}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}
