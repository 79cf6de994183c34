//! The disk of the managed broker is full: no success is lost, and when room is made writing goes on by itself.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use eventlog::server::{self, Server};
use eventlog::{Append, Error, Guard, clock, nats};
use tokio::time::{Instant, sleep};

use common::House;

const SOON: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(3);

fn append(number: usize) -> Append {
    Append {
        subject: format!("identity.corp.User.room-{number}"),
        guard: Guard::Last(0),
        id: clock::new_event_id(),
        payload: Bytes::from(vec![7; 2_000]),
        headers: eventlog::Headers::default(),
    }
}

/// A small disk of its own, gone when this is dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Nothing where only root may mount and we are not root.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).unwrap();
        for size in [1024 * 1024, 4096, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Without room nats-server cannot say where it listens, and would be waited for.
#[test]
fn a_start_without_any_room_is_refused_with_the_reason() {
    let Some(disk) = Disk::mount() else { return };
    let config = |folder: &Path| server::Config {
        binary: server::find(None, "").unwrap(),
        folder: folder.join("nats"),
        port: 0,
        processors: None,
    };
    Server::start(&config(disk.path())).unwrap().stop();
    disk.fill();
    let error = Server::start(&config(disk.path())).err().unwrap().to_string();
    assert!(error.contains("No space left") && error.contains("Make room"), "{error}");
    disk.make_room();
    Server::start(&config(disk.path())).unwrap().stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_no_success_and_writing_goes_on_when_there_is_room() {
    let Some(disk) = Disk::mount() else {
        // SAFETY: asks for a number.
        #[expect(unsafe_code, reason = "the standard library does not tell who we are")]
        let user = unsafe { libc::geteuid() };
        assert_ne!(user, 0, "root may mount, so this must not be passed over");
        return;
    };
    let server = House::server(disk.path());
    let config = nats::Config {
        url: server.url().to_string(),
        replicas: 1,
        connect_timeout: SOON,
        ..Default::default()
    };
    let broker = nats::connect(&config).await.unwrap();
    let mut told = Vec::new();
    let mut unsure = Vec::new();
    for number in 0..5 {
        let append = append(number);
        let id = append.id;
        told.push((broker.identity.append(append, Instant::now() + SOON).await.unwrap(), id));
    }
    disk.fill();
    let mut number = 5;
    let error = loop {
        let append = append(number);
        let id = append.id;
        match broker.identity.append(append, Instant::now() + SHORT).await {
            Ok(sequence) => told.push((sequence, id)),
            Err(error) => {
                unsure.push(id);
                break error;
            }
        }
        number += 1;
        assert!(number < 10_000, "the disk is not full");
    };
    assert!(matches!(error, Error::Unknown { .. } | Error::Unavailable { .. }), "{error}");
    let pid = server.pid();
    disk.make_room();
    let again = append(number + 1);
    let id = again.id;
    told.push((broker.identity.append(again, Instant::now() + SOON).await.unwrap(), id));
    assert_ne!(server.pid(), pid, "a server that gave up writing does not begin again by itself");
    for (sequence, id) in &told {
        assert_eq!(broker.identity.read(*sequence).await.unwrap().unwrap().id, Some(*id));
    }
    let last = broker.identity.last_sequence().await.unwrap();
    assert!(last <= (told.len() + unsure.len()) as u64, "nothing stands twice");
    server.stop();
}

/// What the server says is what counts, also where no disk can be filled.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_complains_is_started_again_where_there_is_room() {
    let house = House::start();
    let broker = house.broker().await;
    broker.identity.append(append(1), Instant::now() + SOON).await.unwrap();
    let pid = house.server.pid();
    let path = house.folder.path().join("nats/nats-server.log");
    let mut log = File::options().append(true).open(path).unwrap();
    writeln!(log, "[1] [ERR] JetStream file resource limits exceeded for server").unwrap();
    let begun = Instant::now();
    while house.server.pid() == pid {
        assert!(begun.elapsed() < SOON, "it is not started again");
        sleep(Duration::from_millis(20)).await;
    }
    broker.identity.append(append(2), Instant::now() + SOON).await.unwrap();
    assert_eq!(broker.identity.last_sequence().await.unwrap(), 2);
}
