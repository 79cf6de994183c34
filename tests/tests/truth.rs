//! The broker changes underneath a running house: it says which stream and what, and ends rather than write on.

#![cfg(test)]

use std::path::Path;

use eventlog::server::{self, Server};
use street::House;
use street::house::{Options, eventually, user};

/// A house that looks at its broker every second.
fn watchful(more: &[&str]) -> House {
    let flags = ["--no-demo"].iter().chain(more).map(ToString::to_string).collect();
    let configuration = Some("[nats]\nverify_interval_s = 1\n".to_string());
    House::start_with(Options { flags, configuration, ..Options::default() })
}

/// Does something to the broker as its operator.
fn operate<F: Future<Output = ()>>(house: &House, act: impl FnOnce(async_nats::jetstream::Context) -> F) {
    let url = house.env("NATS_URL").to_string();
    let address: async_nats::ServerAddr = url.parse().unwrap();
    let (user, password) = (address.username().unwrap().to_string(), address.password().unwrap().to_string());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let options = async_nats::ConnectOptions::with_user_and_password(user, password);
        act(async_nats::jetstream::new(options.connect(&url).await.unwrap())).await;
    });
}

/// Waits until the house has ended by itself, and returns its last words.
fn last_words(house: &House) -> String {
    let corp = house.corp();
    eventually("the house ends", || corp.try_send("GET", "/Users?count=0", &[], None).err());
    eventually("it says why", || {
        house.log().lines().rev().find(|line| line.starts_with("rollcall: ")).map(str::to_string)
    })
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn a_setting_that_drifts_ends_the_house() {
    let house = watchful(&[]);
    house.corp().post("/Users", &user("ada")).expect(201);
    operate(&house, |context| async move {
        let mut config = context.get_stream("IDENTITY").await.unwrap().cached_info().config.clone();
        config.max_messages = 1_000;
        context.update_stream(config).await.unwrap();
    });
    says(
        &last_words(&house),
        &["IDENTITY", "max_msgs is 1000, should be unlimited", "nats stream edit IDENTITY"],
    );
}

#[test]
fn a_stream_that_is_deleted_ends_the_house_and_is_not_made_again() {
    let mut house = watchful(&[]);
    house.corp().post("/Users", &user("ada")).expect(201);
    operate(&house, |context| async move {
        context.delete_stream("IDENTITY").await.unwrap();
    });
    says(&last_words(&house), &["IDENTITY", "deleted underneath us", "Restore"]);
    assert!(!house.stop(), "it ended with an error");
    let output = house.command().output().unwrap();
    assert!(!output.status.success());
    let log = house.log();
    says(log.lines().next_back().unwrap(), &["IDENTITY", "gone", "KEYS", "Restore"]);
}

/// Without the secret no process can start; the one that runs still knows it, so it must go on.
#[test]
fn a_secret_that_vanishes_is_said_while_there_is_time() {
    let house = watchful(&[]);
    house.corp().post("/Users", &user("ada")).expect(201);
    operate(&house, |context| async move {
        context.get_key_value("ROLLCALL").await.unwrap().purge("subject-secret").await.unwrap();
    });
    eventually("the loss is said", || house.log().contains("subject secret is gone").then_some(()));
    house.corp().post("/Users", &user("eve")).expect(201);
}

/// What it meant nobody knows, and it bears an id as ours do, so it cannot be passed over: the house ends, and so does each
/// start.
#[test]
fn a_message_that_may_be_ours_and_cannot_be_read_ends_the_house_and_every_start() {
    let mut house = watchful(&[]);
    house.corp().post("/Users", &user("ada")).expect(201);
    operate(&house, |context| async move {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", "01890a5d-ac96-774b-bcce-b302099a8057");
        let subject = "identity.corp.user.strange";
        context.publish_with_headers(subject, headers, "hello".into()).await.unwrap().await.unwrap();
    });
    says(&last_words(&house), &["the message at sequence", "not an event of rollcall"]);
    assert!(!house.stop(), "it ended with an error");
    std::fs::remove_dir_all(house.data_dir().join("projection")).unwrap();
    let mut again = house.command().spawn().unwrap();
    let ended = eventually("the start ends", || again.try_wait().unwrap());
    assert!(!ended.success());
    let log = house.log();
    says(
        log.lines().next_back().unwrap(),
        &["rollcall: ", "the message at sequence", "not an event of rollcall"],
    );
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

fn broker(folder: &Path, port: u16) -> Server {
    let binary = server::find(None, "").expect("`make test` fetches the broker: run `make broker`");
    let config = server::Config { binary, folder: folder.to_path_buf(), port, processors: None };
    eventually("the broker starts", || Server::start(&config).ok())
}

/// The broker comes back with an older store while the house runs: the house ends, and starts with what the log has.
#[test]
fn a_broker_restored_from_an_older_backup_ends_the_house() {
    let folder = tempfile::tempdir().unwrap();
    let (place, backup) = (folder.path().join("broker"), folder.path().join("backup"));
    let server = broker(&place, 0);
    let url = server.url().to_string();
    let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut house = watchful(&["--nats", &url]);
    house.corp().post("/Users", &user("kept")).expect(201);
    server.stop();
    copy(&place.join("jetstream"), &backup);
    let server = broker(&place, port);
    let corp = house.corp();
    eventually("the house writes again", || (corp.post("/Users", &user("lost")).status == 201).then_some(()));
    server.stop();
    let put_back = || {
        std::fs::remove_dir_all(place.join("jetstream")).unwrap();
        copy(&backup, &place.join("jetstream"));
        broker(&place, port)
    };
    let server = put_back();
    says(&last_words(&house), &["IDENTITY", "restored from a backup", "start this process again"]);
    assert!(!house.stop(), "it ended with an error");
    house.start_again();
    let corp = house.corp();
    assert!(corp.find("/Users", "userName", "kept").is_some());
    assert!(corp.find("/Users", "userName", "lost").is_none());
    corp.post("/Users", &user("lost")).expect(201);

    // Once more while nothing runs: only what was derived from the newer log still knows of it, once a start finds it there.
    let is_there = (0..20).any(|_| {
        assert!(house.stop());
        house.start_again();
        house.log().contains("projection opened applied=2")
    });
    assert!(is_there && house.stop());
    server.stop();
    let _server = put_back();
    house.start_again();
    says(&house.log(), &["ERROR", "are gone from the log, and no restore took them away", "it ends at 1"]);
    assert!(house.corp().find("/Users", "userName", "lost").is_none());
}
