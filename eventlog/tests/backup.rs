//! Backup and restore on a real broker: nothing changes on the way, what is broken is refused, writers do not disturb.

#![cfg(test)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eventlog::nats::{self, Backup, MANIFEST, Progress, STREAMS};
use eventlog::{Append, Broker, Guard, Keyring, clock, subject_secret};
use futures::TryStreamExt;
use proto::sealing::DataKey;
use proto::{KeyRef, Tenant};
use tokio::time::Instant;

use common::House;

const SOON: Duration = Duration::from_secs(60);

fn master() -> DataKey {
    DataKey::new([7; 32])
}

fn silent(_: Progress<'_>) {}

fn append(subject: &str, payload: impl Into<Bytes>) -> Append {
    let headers = [("ce-type", "test".to_string())].into();
    let (subject, id) = (subject.to_string(), clock::new_event_id());
    Append { subject, guard: Guard::Last(0), id, payload: payload.into(), headers }
}

fn soon() -> Instant {
    Instant::now() + SOON
}

async fn context(house: &House) -> async_nats::jetstream::Context {
    let address: async_nats::ServerAddr = house.server.url().parse().unwrap();
    let (user, password) = (address.username().unwrap().to_string(), address.password().unwrap().to_string());
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    async_nats::jetstream::new(options.connect(house.server.url()).await.unwrap())
}

/// A broker with something of everything in it.
async fn filled(house: &House) -> Broker {
    let broker = house.broker().await;
    subject_secret(&broker, &master()).await.unwrap();
    for number in 0..300 {
        let event =
            append(&format!("identity.corp.User.u{number}"), clock::random::<3000>().unwrap().to_vec());
        broker.identity.append(event, soon()).await.unwrap();
    }
    let batch = (0..3).map(|number| append(&format!("identity.corp.User.b{number}"), "batch")).collect();
    broker.identity.append_atomic(batch, soon()).await.unwrap();
    broker.provisioning.append(append("provisioning.corp.wiki.User.u1", "done"), soon()).await.unwrap();
    broker.control.append(append("control.corp.token", "token"), soon()).await.unwrap();
    broker.keys.create("page.1", Bytes::from_static(b"keys")).await.unwrap();
    let revision = broker.leases.create("watermark.wiki", Bytes::from_static(b"1")).await.unwrap();
    broker.leases.update("watermark.wiki", Bytes::from_static(b"2"), revision).await.unwrap();
    broker.requests.create("r1", Bytes::from_static(b"request")).await.unwrap();
    broker.requests.create("r2", Bytes::from_static(b"request")).await.unwrap();
    broker.requests.purge("r2").await.unwrap();
    broker.completions.create("r2", Bytes::from_static(b"done")).await.unwrap();
    broker
}

type Seen = (u64, String, Vec<(String, String)>, Bytes, i128);

/// Every message of a stream, with everything that the broker keeps of it, and the stream's last sequence.
async fn contents(context: &async_nats::jetstream::Context, name: &str) -> (Vec<Seen>, u64) {
    let stream = context.get_stream(name).await.unwrap();
    let state = stream.cached_info().state.clone();
    let mut seen = Vec::new();
    for sequence in state.first_sequence.max(1)..=state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, values) in message.headers.iter() {
            headers.extend(values.iter().map(|value| (name.to_string(), value.as_str().to_string())));
        }
        headers.sort();
        let time = message.time.unix_timestamp_nanos();
        seen.push((message.sequence, message.subject.to_string(), headers, message.payload, time));
    }
    (seen, state.last_sequence)
}

async fn everything(house: &House) -> BTreeMap<&'static str, (Vec<Seen>, u64)> {
    let context = context(house).await;
    let mut all = BTreeMap::new();
    for name in STREAMS {
        all.insert(name, contents(&context, name).await);
    }
    all
}

async fn backup(house: &House, folder: &Path) -> Backup {
    nats::backup(&house.config(), folder, &silent).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_header_time_and_revision_is_the_same_after_a_restore() {
    let house = House::start();
    filled(&house).await;
    let names: BTreeSet<String> = context(&house).await.stream_names().try_collect().await.unwrap();
    assert_eq!(names, STREAMS.map(str::to_string).into(), "a stream or bucket is not in the backup");
    let before = everything(&house).await;
    let folder = house.folder.path().join("backups/one");
    let taken = backup(&house, &folder).await;
    taken.verify(&|_, _, _| {}).unwrap();
    assert!(!folder.with_file_name("one.partial").exists());

    let other = House::start();
    let timeline = nats::restore(&other.config(), &taken, None, &master(), &silent).await.unwrap();
    let mut after = everything(&other).await;
    // The restore itself is written down, and nothing else.
    let rollcall = after.get_mut("KV_ROLLCALL").unwrap();
    let written = rollcall.0.pop().unwrap();
    assert!(written.1.ends_with("timeline"), "{written:?}");
    rollcall.1 -= 1;
    assert_eq!(before["IDENTITY"].0.len(), 303);
    for name in STREAMS {
        assert_eq!(before[name], after[name], "{name}");
    }

    // Guards and revisions go on from there.
    let broker = other.broker().await;
    assert_eq!(broker.timeline.clone().unwrap(), timeline);
    assert_eq!((timeline.identity, timeline.provisioning), (303, 1));
    let taken_name = broker.identity.append(append("identity.corp.User.u7", "again"), soon()).await;
    assert!(matches!(taken_name, Err(eventlog::Error::Conflict { .. })), "{taken_name:?}");
    assert_eq!(broker.identity.append(append("identity.corp.User.new", "new"), soon()).await.unwrap(), 304);
    let (value, revision) = broker.leases.get("watermark.wiki").await.unwrap().unwrap();
    assert_eq!((value.as_ref(), revision), (b"2".as_slice(), 2));
    broker.leases.update("watermark.wiki", Bytes::from_static(b"3"), revision).await.unwrap();
    broker.verify().await.unwrap();
    subject_secret(&broker, &master()).await.unwrap();
}

/// What a restore of this folder says.
/// Whoever is told to stop waits no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_given_up_leaves_nothing() {
    let (house, place) = (House::start(), tempfile::tempdir().unwrap());
    filled(&house).await;
    let folder = place.path().join("backup");
    let begun = tokio::sync::Notify::new();
    let told = |_: Progress<'_>| begun.notify_one();
    let config = house.config();
    tokio::select! {
        biased;
        () = begun.notified() => {}
        taken = nats::backup(&config, &folder, &told) => panic!("{taken:?} is done already"),
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

async fn refusal(folder: &Path, into: &House, master: &DataKey) -> String {
    let backup = match Backup::open(folder).and_then(|backup| backup.verify(&|_, _, _| {}).map(|()| backup)) {
        Ok(backup) => backup,
        Err(error) => return error.to_string(),
    };
    nats::restore(&into.config(), &backup, None, master, &silent).await.unwrap_err().to_string()
}

#[track_caller]
fn says(refusal: &str, words: &[&str]) {
    assert!(words.iter().all(|word| refusal.contains(word)), "{refusal:?} lacks one of {words:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_or_would_be_overwritten_is_refused() {
    let house = House::start();
    filled(&house).await;
    let folder = house.folder.path().join("backup");
    backup(&house, &folder).await;
    let error = nats::backup(&house.config(), &folder, &silent).await.unwrap_err().to_string();
    says(&error, &["exists", "nothing is overwritten"]);
    says(&refusal(&folder, &house, &master()).await, &["IDENTITY", "KV_KEYS", "nothing is overwritten"]);

    let empty = House::start();
    says(&refusal(&folder, &empty, &DataKey::new([8; 32])).await, &["another master key"]);

    let file = folder.join("IDENTITY.snapshot");
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    says(
        &refusal(&folder, &empty, &master()).await,
        &["IDENTITY.snapshot", "digest", "must not be restored"],
    );
    std::fs::write(&file, &good[..good.len() - 10]).unwrap();
    says(&refusal(&folder, &empty, &master()).await, &["IDENTITY.snapshot", "cut off"]);
    std::fs::remove_file(&file).unwrap();
    says(&refusal(&folder, &empty, &master()).await, &["IDENTITY.snapshot", "cannot be read"]);
    std::fs::write(&file, &good).unwrap();

    let manifest = folder.join(MANIFEST);
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("\"format\": 1", "\"format\": 9", 1)).unwrap();
    says(&refusal(&folder, &empty, &master()).await, &["format is 9"]);
    std::fs::write(&manifest, text.replacen("IDENTITY.snapshot", "../IDENTITY.snapshot", 1)).unwrap();
    says(&refusal(&folder, &empty, &master()).await, &["../IDENTITY.snapshot", "does not know"]);
    // Numbers that are not those of the snapshot show only once it is restored.
    std::fs::write(&manifest, text.replacen("\"messages\": 303", "\"messages\": 304", 1)).unwrap();
    says(&refusal(&folder, &empty, &master()).await, &["messages is 303, should be 304"]);
    std::fs::remove_file(&manifest).unwrap();
    says(&refusal(&folder, &empty, &master()).await, &[MANIFEST, "not finished"]);

    // What was left of the restore that failed is not in the way of the next, but nobody works with it.
    let error = nats::connect(&empty.config()).await.err().unwrap().to_string();
    says(&error, &["IDENTITY", "being restored"]);
    std::fs::write(&manifest, &text).unwrap();
    let whole = Backup::open(&folder).unwrap();
    nats::restore(&empty.config(), &whole, None, &master(), &silent).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_is_run_again_and_a_process_that_runs_on_is_told() {
    let house = House::start();
    let broker = filled(&house).await;
    let folder = house.folder.path().join("backup");
    let taken = backup(&house, &folder).await;
    let context = context(&house).await;
    for name in STREAMS {
        context.delete_stream(name).await.unwrap();
    }
    // It ends in the middle of the first stream.
    let (config, copy) = (house.config(), taken.clone());
    let (begun, begins) = std::sync::mpsc::channel();
    let restoring = tokio::spawn(async move {
        let told = move |progress: Progress<'_>| {
            if progress.stream == "IDENTITY" && progress.bytes > 100_000 {
                let _ = begun.send(());
            }
        };
        nats::restore(&config, &copy, None, &master(), &told).await
    });
    tokio::task::spawn_blocking(move || begins.recv_timeout(SOON)).await.unwrap().unwrap();
    restoring.abort();
    let _ = restoring.await;

    nats::restore(&house.config(), &taken, None, &master(), &silent).await.unwrap();
    assert_eq!(house.broker().await.identity.last_sequence().await.unwrap(), 303);
    let error = broker.verify().await.unwrap_err();
    assert!(!error.is_retryable());
    says(&error.to_string(), &["restored", "start it again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_newer_backup_keep_the_erased_erased() {
    let house = House::start();
    let broker = filled(&house).await;
    let old = backup(&house, &house.folder.path().join("old")).await;
    broker.keys.update("page.1", Bytes::from_static(b"erased"), 1).await.unwrap();
    let new = backup(&house, &house.folder.path().join("new")).await;

    let other = House::start();
    let error =
        nats::restore(&other.config(), &new, Some(&old), &master(), &silent).await.unwrap_err().to_string();
    says(&error, &["older"]);
    nats::restore(&other.config(), &old, Some(&new), &master(), &silent).await.unwrap();
    let (value, _) = other.broker().await.keys.get("page.1").await.unwrap().unwrap();
    assert_eq!(value.as_ref(), b"erased");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_replaced_during_the_snapshot_is_not_lost() {
    let house = House::start();
    let broker = filled(&house).await;
    // More than the broker sends before it waits for acknowledgements, so that the last value is not read yet.
    for number in 0..100 {
        let value = Bytes::from(clock::random::<100_000>().unwrap().to_vec());
        broker.leases.create(&format!("v{number}"), value).await.unwrap();
    }
    let (_, revision) = broker.leases.get("v99").await.unwrap().unwrap();
    let replaced = AtomicBool::new(false);
    let told = |progress: Progress<'_>| {
        if progress.stream == "KV_LEASES" && !replaced.swap(true, Ordering::SeqCst) {
            let replacing = broker.leases.update("v99", Bytes::from_static(b"replaced"), revision);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(replacing)).unwrap();
        }
    };
    let taken = nats::backup(&house.config(), &house.folder.path().join("backup"), &told).await.unwrap();
    assert!(replaced.load(Ordering::SeqCst));
    let other = House::start();
    nats::restore(&other.config(), &taken, None, &master(), &silent).await.unwrap();
    let (value, _) = other.broker().await.leases.get("v99").await.unwrap().expect("the value is lost");
    assert_eq!(value.as_ref(), b"replaced");
}

/// One writer: a person under a key, what an app was told of it, a watermark behind both; and a request for it.
async fn write(broker: Broker, keyring: Keyring, writer: usize, stop: Arc<AtomicBool>) {
    let tenant: Tenant = "corp".parse().unwrap();
    let mut number = 0_u64;
    let watermark = format!("watermark.{writer}");
    let mut revision = broker.leases.create(&watermark, Bytes::from_static(b"0")).await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let name = format!("w{writer}-{number}");
        let accepted = number.is_multiple_of(20);
        if accepted {
            broker.requests.create(&name, Bytes::from_static(b"request")).await.unwrap();
        }
        let (at, _) = keyring.issue(&tenant).await.unwrap();
        let person = append(&format!("identity.corp.User.{name}"), at.page.simple().to_string());
        let sequence = broker.identity.append(person, soon()).await.unwrap();
        let told = append(&format!("provisioning.corp.wiki.User.{name}"), sequence.to_string());
        let outcome = broker.provisioning.append(told, soon()).await.unwrap();
        if accepted {
            broker.completions.create(&name, Bytes::from(sequence.to_string())).await.unwrap();
            broker.requests.purge(&name).await.unwrap();
            let value = Bytes::from(format!("{sequence} {outcome}"));
            revision = broker.leases.update(&watermark, value, revision).await.unwrap();
        }
    }
}

/// Numbers that stand in a value.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    std::str::from_utf8(bytes).unwrap().split(' ').map(|part| part.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_fits_together_while_four_write() {
    let house = House::start();
    let broker = house.broker().await;
    subject_secret(&broker, &master()).await.unwrap();
    let keyring = Keyring::new(broker.keys.clone(), master());
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        writers.spawn(write(broker.clone(), keyring.clone(), writer, stop.clone()));
    }
    for round in 0..3 {
        let before = broker.identity.last_sequence().await.unwrap();
        while broker.identity.last_sequence().await.unwrap() < before + 200 {
            tokio::task::yield_now().await;
        }
        let taken = backup(&house, &house.folder.path().join(format!("round-{round}"))).await;
        let during = broker.identity.last_sequence().await.unwrap();
        let last = taken.manifest.stream("IDENTITY").unwrap().last_sequence;
        assert!(last >= before && last <= during);
        let other = House::start();
        nats::restore(&other.config(), &taken, None, &master(), &silent).await.unwrap();
        fits(&other, last).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

/// Nothing refers to what is missing.
async fn fits(house: &House, last: u64) {
    let all = everything(house).await;
    let broker = house.broker().await;
    let keyring = Keyring::new(broker.keys.clone(), master());
    let tenant: Tenant = "corp".parse().unwrap();
    let pages: BTreeSet<String> =
        all["IDENTITY"].0.iter().map(|seen| String::from_utf8(seen.3.to_vec()).unwrap()).collect();
    assert!(!pages.is_empty() && all["IDENTITY"].0.len() as u64 == last);
    for page in pages {
        let at = KeyRef { page: page.parse().unwrap(), slot: 0 };
        assert!(keyring.key(&tenant, at).await.unwrap().is_some(), "page {page}");
    }
    let outcomes = all["PROVISIONING"].1;
    for seen in &all["PROVISIONING"].0 {
        assert!(numbers(&seen.3)[0] <= last, "an outcome for a person that is not there");
    }
    assert_eq!(all["KV_LEASES"].0.len(), 4, "a watermark is missing");
    for seen in all["KV_LEASES"].0.iter().filter(|seen| seen.3.as_ref() != b"0") {
        let [sequence, outcome] = numbers(&seen.3)[..] else { panic!("{seen:?}") };
        assert!(sequence <= last && outcome <= outcomes, "a watermark beyond what is there: {seen:?}");
    }
    for seen in &all["KV_COMPLETIONS"].0 {
        assert!(numbers(&seen.3)[0] <= last, "a completion of what did not happen");
    }
    // A request that was written is there, or what came of it.
    let known: BTreeSet<&str> = ["KV_REQUESTS", "KV_COMPLETIONS"]
        .iter()
        .flat_map(|name| all[name].0.iter())
        .filter_map(|seen| seen.1.rsplit('.').next())
        .collect();
    for seen in &all["PROVISIONING"].0 {
        let name = seen.1.rsplit('.').next().unwrap();
        let number: u64 = name.split('-').nth(1).unwrap().parse().unwrap();
        assert!(!number.is_multiple_of(20) || known.contains(name), "request {name} is lost");
    }
}
