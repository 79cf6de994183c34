//! The buckets are part of the truth: without the data keys nothing that was written can be read. What would let values
//! vanish is noticed while they are there, and a bucket that vanished is not made again behind our back.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use eventlog::server::Server;
use eventlog::{Append, Broker, Error, Guard, Keyring, clock, nats, subject_secret};
use proto::sealing::DataKey;
use tokio::time::Instant;

use common::House;

const SOON: Duration = Duration::from_secs(60);

fn master() -> DataKey {
    DataKey::new([1; 32])
}

/// An operator's own connection.
async fn operator(house: &House) -> jetstream::Context {
    let address: async_nats::ServerAddr = house.server.url().parse().unwrap();
    let (user, password) = (address.username().unwrap().to_string(), address.password().unwrap().to_string());
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    jetstream::new(options.connect(house.server.url()).await.unwrap())
}

async fn edit(context: &jetstream::Context, name: &str, change: impl FnOnce(&mut stream::Config)) {
    let mut config = context.get_stream(name).await.unwrap().cached_info().config.clone();
    change(&mut config);
    context.update_stream(config).await.unwrap();
}

/// A broker whose log holds an event under a data key.
async fn written(house: &House) -> Broker {
    let broker = house.broker().await;
    subject_secret(&broker, &master()).await.unwrap();
    Keyring::new(broker.keys.clone(), master()).issue(&"corp".parse().unwrap()).await.unwrap();
    let append = Append {
        subject: "identity.corp.User.a".to_string(),
        guard: Guard::Last(0),
        id: clock::new_event_id(),
        payload: Bytes::from_static(b"x"),
        headers: eventlog::Headers::default(),
    };
    broker.identity.append(append, Instant::now() + SOON).await.unwrap();
    broker.verify().await.unwrap();
    broker
}

#[track_caller]
fn says(result: Result<(), Error>, words: &[&str]) {
    let text = result.expect_err("it is not noticed").to_string();
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_let_values_vanish_is_refused_by_name() {
    let house = House::start();
    let broker = written(&house).await;
    let context = operator(&house).await;
    let again = async || nats::connect(&house.config()).await.map(drop);
    edit(&context, "KV_KEYS", |config| config.max_age = Duration::from_secs(3_600)).await;
    let words = ["KV_KEYS", "max_age is 3600s, should be 0ns", "nats stream edit KV_KEYS"];
    says(broker.verify().await, &words);
    says(again().await, &words);
    edit(&context, "KV_KEYS", |config| {
        config.max_age = Duration::ZERO;
        // What was erased would stay readable.
        config.max_messages_per_subject = 5;
    })
    .await;
    says(broker.verify().await, &["KV_KEYS", "max_msgs_per_subject is 5, should be 1"]);
    edit(&context, "KV_KEYS", |config| config.max_messages_per_subject = 1).await;
    broker.verify().await.unwrap();
    edit(&context, "KV_ROLLCALL", |config| config.max_bytes = 1 << 20).await;
    says(broker.verify().await, &["KV_ROLLCALL", "max_bytes is 1048576, should be unlimited"]);
    edit(&context, "KV_ROLLCALL", |config| config.max_bytes = -1).await;
    broker.verify().await.unwrap();
    again().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_is_noticed_and_not_made_again_where_the_log_needs_it() {
    for name in ["KV_KEYS", "KV_ROLLCALL"] {
        let house = House::start();
        let broker = written(&house).await;
        let context = operator(&house).await;
        let config = context.get_stream(name).await.unwrap().cached_info().config.clone();
        context.delete_stream(name).await.unwrap();
        says(broker.verify().await, &[name, "deleted underneath us", "backup"]);
        says(nats::connect(&house.config()).await.map(drop), &[name, "gone", "IDENTITY", "backup"]);
        // Made by hand, it is another one.
        context.create_stream(config).await.unwrap();
        says(broker.verify().await, &[name, "deleted and made again"]);
    }
    // What only eases the work is made again by who starts next.
    let house = House::start();
    let broker = written(&house).await;
    operator(&house).await.delete_stream("KV_LEASES").await.unwrap();
    says(broker.verify().await, &["KV_LEASES", "deleted underneath us"]);
    house.broker().await.verify().await.unwrap();
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

/// Where the broker keeps a stream.
fn stream_folder(folder: &Path, name: &str) -> PathBuf {
    let accounts = std::fs::read_dir(folder.join("nats/jetstream/jetstream")).unwrap();
    let mut folders = accounts.map(|account| account.unwrap().path().join("streams").join(name));
    folders.find(|folder| folder.is_dir()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_gone_are_missed_at_once_and_by_the_next_start() {
    for removed in ["$KV.KEYS.page.>", "$KV.KEYS.>"] {
        let house = House::start();
        let broker = written(&house).await;
        let keys = operator(&house).await.get_stream("KV_KEYS").await.unwrap();
        keys.purge().filter(removed).await.unwrap();
        let words = ["KV_KEYS", "of its 2 values are gone", "backup"];
        says(broker.verify().await, &words);
        says(nats::connect(&house.config()).await.map(drop), &words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_deleted_is_missed_at_once_and_by_the_next_start() {
    let house = House::start();
    let broker = written(&house).await;
    let keys = operator(&house).await.get_key_value("KEYS").await.unwrap();
    let names = broker.keys.keys().await.unwrap();
    let page = names.iter().find(|name| name.starts_with("page.")).unwrap();
    // Others are made and changed meanwhile.
    let issue = async |tenant: &str| {
        Keyring::new(broker.keys.clone(), master()).issue(&tenant.parse().unwrap()).await.unwrap();
    };
    issue("acme").await;
    broker.verify().await.unwrap();
    keys.delete(page).await.unwrap();
    issue("other").await;
    let words = ["KV_KEYS", page, "was deleted", "backup"];
    says(broker.verify().await, &words);
    says(nats::connect(&house.config()).await.map(drop), &words);
}

/// One stream of the broker's is older than the others: its disk lost what was written last, or somebody copied it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_its_end_while_nobody_ran_is_missed() {
    for name in ["KV_KEYS", "PROVISIONING", "CONTROL"] {
        let House { folder, server } = House::start();
        let config = |server: &Server| nats::Config { url: server.url().to_string(), ..Default::default() };
        let write = async |broker: &Broker| {
            Keyring::new(broker.keys.clone(), master()).issue(&"corp".parse().unwrap()).await.unwrap();
            for (log, subject) in [
                (&broker.provisioning, "provisioning.corp.wiki.User.u1"),
                (&broker.control, "control.corp.token"),
            ] {
                let append = Append {
                    subject: subject.to_string(),
                    guard: Guard::None,
                    id: clock::new_event_id(),
                    payload: Bytes::from_static(b"x"),
                    headers: eventlog::Headers::default(),
                };
                log.append(append, Instant::now() + SOON).await.unwrap();
            }
            broker.verify().await.unwrap();
        };
        let broker = nats::connect(&config(&server)).await.unwrap();
        subject_secret(&broker, &master()).await.unwrap();
        write(&broker).await;
        drop(broker);
        server.stop();
        let (there, older) = (stream_folder(folder.path(), name), folder.path().join("older"));
        copy(&there, &older);
        let server = House::server(folder.path());
        write(&nats::connect(&config(&server)).await.unwrap()).await;
        server.stop();
        std::fs::remove_dir_all(&there).unwrap();
        copy(&older, &there);
        let server = House::server(folder.path());
        let otherwise = if name == "KV_KEYS" { "Nothing else opens" } else { "rollcall backup" };
        let words = [name, "and now ends at", otherwise];
        says(nats::connect(&config(&server)).await.map(drop), &words);
        // Where there is no other, what is there is restored, as another timeline.
        let (kept, other) = (folder.path().join("backup"), House::start());
        let backup = nats::backup(&config(&server), &kept, &|_| ()).await.unwrap();
        nats::restore(&other.config(), &backup, None, &master(), &|_| ()).await.unwrap();
        other.broker().await.verify().await.unwrap();
        other.broker().await;
        server.stop();
    }
}
