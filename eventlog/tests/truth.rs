//! The broker is not what it was: deleted, made again, cut short, restored, full, wrong by the clock. Each is noticed,
//! and the message says what, where and what to do.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;
#[path = "common/foreign.rs"]
mod foreign;
#[path = "common/wire.rs"]
#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod wire;

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::Compression;
use bytes::Bytes;
use eventlog::server::{self, Server};
use eventlog::{Append, Broker, Error, Guard, Keyring, Message, clock, nats, subject_secret};
use futures::StreamExt;
use futures::stream::BoxStream;
use proto::sealing::DataKey;
use tokio::time::{Instant, sleep, timeout};

use common::House;
use foreign::Foreign;
use wire::Wire;

const SOON: Duration = Duration::from_secs(60);

fn master() -> DataKey {
    DataKey::new([1; 32])
}

fn append(subject: &str, payload: Bytes) -> Append {
    let subject = format!("identity.corp.User.{subject}");
    Append {
        subject,
        guard: Guard::Last(0),
        id: clock::new_event_id(),
        payload,
        headers: eventlog::Headers::default(),
    }
}

async fn write(broker: &Broker, name: &str, count: usize) {
    for number in 0..count {
        let append = append(&format!("{name}-{number}"), Bytes::from_static(b"x"));
        broker.identity.append(append, Instant::now() + SOON).await.unwrap();
    }
}

/// An operator's own connection.
async fn operator(url: &str) -> jetstream::Context {
    let address: async_nats::ServerAddr = url.parse().unwrap();
    let user = address.username().unwrap_or_default().to_string();
    let password = address.password().unwrap_or_default().to_string();
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    jetstream::new(options.connect(url).await.unwrap())
}

async fn set_limit(context: &jetstream::Context, limit: i64) {
    let mut config = context.get_stream("IDENTITY").await.unwrap().cached_info().config.clone();
    config.max_messages = limit;
    context.update_stream(config).await.unwrap();
}

/// What verifying says once it says something.
async fn verdict(broker: &Broker) -> String {
    let begun = Instant::now();
    loop {
        match broker.verify().await {
            Err(error) if !error.is_retryable() => return error.to_string(),
            Ok(()) | Err(_) => assert!(begun.elapsed() < SOON, "nothing is found"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Reads on until the follower ends; what it says then.
async fn end(followed: &mut BoxStream<'static, Result<Message, Error>>) -> String {
    loop {
        match timeout(SOON, followed.next()).await.expect("the follower notices") {
            Some(Ok(_)) => {}
            Some(Err(error @ Error::Damaged { .. })) => return error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

async fn read(followed: &mut BoxStream<'static, Result<Message, Error>>, count: u64) {
    for sequence in 1..=count {
        assert_eq!(timeout(SOON, followed.next()).await.unwrap().unwrap().unwrap().sequence, sequence);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_is_not_made_again() {
    let house = House::start();
    let broker = house.broker().await;
    subject_secret(&broker, &master()).await.unwrap();
    Keyring::new(broker.keys.clone(), master()).issue(&"corp".parse().unwrap()).await.unwrap();
    write(&broker, "a", 3).await;
    let context = operator(house.server.url()).await;
    context.delete_stream("IDENTITY").await.unwrap();
    says(&verdict(&broker).await, &["IDENTITY", "deleted", "Restore"]);
    let late = append("late", Bytes::new());
    let error = broker.identity.append(late, Instant::now() + Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let error = nats::connect(&house.config()).await.err().unwrap().to_string();
    says(&error, &["IDENTITY", "gone", "KEYS", "Restore"]);
    // The same for the streams that hold tokens and what apps were told.
    for name in ["CONTROL", "PROVISIONING"] {
        let house = House::start();
        let broker = house.broker().await;
        Keyring::new(broker.keys.clone(), master()).issue(&"corp".parse().unwrap()).await.unwrap();
        operator(house.server.url()).await.delete_stream(name).await.unwrap();
        says(&nats::connect(&house.config()).await.err().unwrap().to_string(), &[name, "gone"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_and_made_again_is_another_one() {
    let house = House::start();
    let broker = house.broker().await;
    subject_secret(&broker, &master()).await.unwrap();
    Keyring::new(broker.keys.clone(), master()).issue(&"corp".parse().unwrap()).await.unwrap();
    write(&broker, "a", 5).await;
    let mut followed = broker.identity.follow(1);
    read(&mut followed, 5).await;
    let context = operator(house.server.url()).await;
    let mut config = context.get_stream("IDENTITY").await.unwrap().cached_info().config.clone();
    config.metadata.clear();
    context.delete_stream("IDENTITY").await.unwrap();
    context.create_stream(config).await.unwrap();
    says(&verdict(&broker).await, &["IDENTITY", "deleted and made again", "start this process again"]);
    says(&end(&mut followed).await, &["following IDENTITY", "sequence 5", "ends at 0"]);
    assert!(followed.next().await.is_none());
    // A process that starts then is not told that everything is new.
    let error = subject_secret(&house.broker().await, &master()).await.unwrap_err().to_string();
    says(&error, &["IDENTITY", "made anew", "KEYS", "Restore"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_a_limit_deleted_is_missed() {
    let house = House::start();
    let broker = house.broker().await;
    write(&broker, "a", 5).await;
    let context = operator(house.server.url()).await;
    set_limit(&context, 2).await;
    set_limit(&context, -1).await;
    says(&verdict(&broker).await, &["IDENTITY", "3 of its 5 events are missing", "sequence 4", "backup"]);
    says(&nats::connect(&house.config()).await.err().unwrap().to_string(), &["3 of its 5 events"]);
    says(&end(&mut broker.identity.follow(1)).await, &["sequence 1 is missing", "backup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_compressed_is_compressed_no_further() {
    let house = House::start();
    write(&house.broker().await, "a", 3).await;
    let context = operator(house.server.url()).await;
    let compression = async || {
        let stream = context.get_stream("IDENTITY").await.unwrap();
        stream.cached_info().config.compression.clone().filter(|kind| *kind != Compression::None)
    };
    assert_eq!(compression().await, None);
    let mut config = context.get_stream("IDENTITY").await.unwrap().cached_info().config.clone();
    config.compression = Some(Compression::S2);
    context.update_stream(config).await.unwrap();
    assert_eq!(compression().await, Some(Compression::S2));
    let broker = house.broker().await;
    assert_eq!(compression().await, None);
    write(&broker, "b", 2).await;
    read(&mut broker.identity.follow(1), 5).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The managed broker again, where its clients look for it.
fn again(folder: &Path, url: &str) -> Server {
    let binary = server::find(None, "").unwrap();
    let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
    let begun = std::time::Instant::now();
    loop {
        // The port is free once the last connection has let go of it.
        match Server::start(&server::Config {
            binary: binary.clone(),
            folder: folder.join("nats"),
            port,
            processors: None,
        }) {
            Ok(server) => return server,
            Err(error) => assert!(begun.elapsed() < SOON, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_is_noticed_while_running() {
    let House { folder, server } = House::start();
    let (url, store, backup) =
        (server.url().to_string(), folder.path().join("nats/jetstream"), folder.path().join("backup"));
    let wire = Wire::to(url.rsplit_once('@').unwrap().1.parse().unwrap());
    let config = |url: String| nats::Config { url, replicas: 1, connect_timeout: SOON, ..Default::default() };
    let direct = nats::connect(&config(url.clone())).await.unwrap();
    write(&direct, "kept", 5).await;
    server.stop();
    copy(&store, &backup);
    let server = again(folder.path(), &url);
    write(&direct, "lost", 5).await;
    let away = nats::connect(&config(wire.url(&url))).await.unwrap();
    let (mut followed, mut elsewhere) = (direct.identity.follow(1), away.identity.follow(1));
    direct.verify().await.unwrap();
    away.verify().await.unwrap();
    read(&mut followed, 10).await;
    read(&mut elsewhere, 10).await;
    wire.go_away();
    server.stop();
    std::fs::remove_dir_all(&store).unwrap();
    copy(&backup, &store);
    let server = again(folder.path(), &url);
    says(
        &verdict(&direct).await,
        &["IDENTITY", "went to sequence 10 and now ends at 5", "start this process again"],
    );
    says(&end(&mut followed).await, &["following IDENTITY", "up to sequence 10", "ends at 5", "backup"]);
    // The other one comes back only when the log is longer than what it has read.
    let fresh = nats::connect(&config(url)).await.unwrap();
    write(&fresh, "other", 8).await;
    wire.come_back();
    says(
        &end(&mut elsewhere).await,
        &["following IDENTITY", "at sequence 10 it holds another event", "backup"],
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_far_off_is_noticed() {
    let house = House::start();
    let wire = Wire::to(house.server.url().rsplit_once('@').unwrap().1.parse().unwrap());
    let config = nats::Config { url: wire.url(house.server.url()), ..house.config() };
    let broker = nats::connect(&config).await.unwrap();
    let limit = i64::try_from(nats::CLOCK_SKEW_MAX.as_millis()).unwrap();
    assert!(broker.clock_skew_ms().abs() < limit, "both run on this machine");
    wire.shift_the_clock();
    broker.verify().await.unwrap();
    let year_ms = 365 * 24 * 60 * 60 * 1_000;
    assert!(broker.clock_skew_ms() > 4 * year_ms, "{}", broker.clock_skew_ms());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_for_small_messages_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("jetstream {{ store_dir: \"{}\" }}", folder.path().display());
    let foreign = Foreign::start(folder.path(), 0, &settings);
    let error = nats::connect(&foreign.config()).await.err().unwrap().to_string();
    says(&error, &["max_payload", "1048576", "8388608", "max_payload: 8MB"]);
}

#[tokio::test]
async fn who_has_the_wrong_password_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = Foreign::start(folder.path(), 0, "authorization { user: u, password: p }");
    let url = foreign.url.replace("nats://", "nats://u:secret@");
    let error = nats::connect(&nats::Config { url, ..foreign.config() }).await.err().unwrap().to_string();
    says(&error, &["authorization", "the user and the password"]);
    assert!(!error.contains("secret"), "{error}");
}

/// The broker answers nothing to what it does not permit, so that it looks like one that is not ready.
#[tokio::test(flavor = "multi_thread")]
async fn what_its_user_may_not_do_is_named() {
    for (denied, at) in [
        ("$JS.API.STREAM.CREATE.IDENTITY", "opening the stream IDENTITY"),
        ("$JS.API.STREAM.INFO.KV_LEASES", "opening the bucket LEASES"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "max_payload: 8MB\njetstream {{ store_dir: \"{}\" }}\nauthorization {{ users: [ {{ user: u, password: p, \
             permissions: {{ publish: {{ deny: \"{denied}\" }} }} }} ] }}",
            folder.path().display()
        );
        let foreign = Foreign::start(folder.path(), 0, &settings);
        let url = foreign.url.replace("nats://", "nats://u:p@");
        let begun = Instant::now();
        let error = nats::connect(&nats::Config { url, ..foreign.config() }).await.err().unwrap().to_string();
        says(&error, &[at, "may not", denied]);
        assert!(begun.elapsed() < nats::READY_TIMEOUT, "it does not wait for what will not come");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_account_may_not_have_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "max_payload: 8MB\njetstream {{ store_dir: \"{}\" }}\naccounts {{ A {{ jetstream {{ max_streams: 5 }}, users: [ {{ user: u, \
         password: p }} ] }} }}",
        folder.path().display()
    );
    let foreign = Foreign::start(folder.path(), 0, &settings);
    let url = foreign.url.replace("nats://", "nats://u:p@");
    let error = nats::connect(&nats::Config { url, ..foreign.config() }).await.err().unwrap().to_string();
    says(&error, &["opening the bucket REQUESTS", "maximum number of streams", "limits of its account"]);
    assert!(!error.contains("A cluster serves"), "{error}");
}

/// It is there and answers, so that it is not waited for, and nobody is told to start one.
#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_not_taken_for_absent() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = Foreign::start(folder.path(), 0, "max_payload: 8MB");
    let url = foreign.url.replace("nats://", "tls://");
    let begun = Instant::now();
    let error = nats::connect(&nats::Config { url, ..foreign.config() }).await.err().unwrap().to_string();
    says(&error, &["connecting to the NATS server", "See --nats-ca", "whether the server speaks TLS"]);
    assert!(!error.contains("Start a NATS server") && begun.elapsed() < SOON / 2, "{error}");
}

#[tokio::test]
async fn a_broker_without_jetstream_is_told_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = Foreign::start(folder.path(), 0, "max_payload: 8MB");
    let config = nats::Config { ready_timeout: Duration::from_secs(1), ..foreign.config() };
    let error = nats::connect(&config).await.err().unwrap().to_string();
    says(&error, &["opening the stream IDENTITY", "start nats-server with JetStream enabled"]);
}

/// The store has reached its limit: writes wait and are then refused, reading goes on, and so does writing afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_full_refuses_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |limit: &str| {
        let store = folder.path().display();
        format!("max_payload: 8MB\njetstream {{ store_dir: \"{store}\", max_file_store: {limit} }}")
    };
    let foreign = Foreign::start(folder.path(), 0, &settings("2MB"));
    let (config, port) = (foreign.config(), foreign.url.rsplit_once(':').unwrap().1.parse().unwrap());
    let broker = nats::connect(&config).await.unwrap();
    let noise: Bytes = (0..300_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(300_000)
        .collect();
    let mut stand = Vec::new();
    let error = loop {
        let append = append(&format!("big-{}", stand.len()), noise.clone());
        let id = append.id;
        match broker.identity.append(append, Instant::now() + Duration::from_secs(3)).await {
            Ok(sequence) => stand.push((sequence, id)),
            Err(error) => break error,
        }
        assert!(stand.len() < 100, "the limit is not reached");
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    says(&error.to_string(), &["appending to IDENTITY", "10023", "max_file_store", "make room", "restart"]);
    let waiting = append("waiting", noise);
    let (log, write) = (broker.identity.clone(), waiting.clone());
    let waited = tokio::spawn(async move { log.append(write, Instant::now() + SOON).await });
    drop(foreign);
    let _larger = Foreign::start(folder.path(), port, &settings("200MB"));
    stand.push((waited.await.unwrap().unwrap(), waiting.id));
    for (sequence, id) in &stand {
        assert_eq!(broker.identity.read(*sequence).await.unwrap().unwrap().id, Some(*id));
    }
    assert_eq!(broker.identity.last_sequence().await.unwrap(), stand.len() as u64);
}
