//! What only a real broker can show: death, drift, ports, folders.

#![cfg(test)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use eventlog::server::{self, Server};
use eventlog::{Append, Guard, clock, nats};
use futures::{StreamExt, TryStreamExt};
use tokio::time::{Instant, timeout};

use common::House;

const SOON: Duration = Duration::from_secs(60);

fn append(subject: &str, guard: Guard) -> Append {
    let subject = format!("identity.corp.User.{subject}");
    Append {
        subject,
        guard,
        id: clock::new_event_id(),
        payload: Bytes::from_static(b"x"),
        headers: eventlog::Headers::default(),
    }
}

/// Sends a signal to the broker's process.
fn signal(house: &House, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(house.server.pid()).unwrap();
    // SAFETY: a signal to a child of ours, by its id.
    #[expect(unsafe_code, reason = "the standard library can only kill what it started itself")]
    unsafe {
        libc::kill(pid, signal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_the_broker_is_killed() {
    let house = House::start();
    let broker = house.broker().await;
    let mut followed = broker.identity.follow(1);
    let mut expected = Vec::new();
    for round in 0..3 {
        for number in 0..20 {
            if number == 10 {
                signal(&house, libc::SIGKILL);
            }
            let write = append(&format!("kill-{round}-{number}"), Guard::Last(0));
            expected.push(write.id);
            broker.identity.append(write, Instant::now() + SOON).await.unwrap();
        }
    }
    assert_eq!(broker.identity.last_sequence().await.unwrap(), expected.len() as u64);
    for (index, id) in expected.iter().enumerate() {
        let message = timeout(SOON, followed.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((message.sequence, message.id), (index as u64 + 1, Some(*id)));
    }
}

/// What the broker's operator reaches it by.
async fn operator(house: &House) -> async_nats::jetstream::Context {
    let address: async_nats::ServerAddr = house.server.url().parse().unwrap();
    let (user, password) = (address.username().unwrap().to_string(), address.password().unwrap().to_string());
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    async_nats::jetstream::new(options.connect(house.server.url()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_vanished_is_made_anew() {
    let house = House::start();
    let broker = house.broker().await;
    let mut followed = broker.identity.follow(1);
    let stream = operator(&house).await.get_stream("IDENTITY").await.unwrap();
    for sequence in 1..=3 {
        let write = append(&format!("vanished-{sequence}"), Guard::Last(0));
        broker.identity.append(write, Instant::now() + SOON).await.unwrap();
        let message = timeout(SOON, followed.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(message.sequence, sequence);
        let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
        assert!(!names.is_empty());
        for name in names {
            stream.delete_consumer(&name).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_settings_were_changed_is_refused_by_name() {
    let house = House::start();
    let broker = house.broker().await;
    broker.verify().await.unwrap();
    let context = operator(&house).await;
    let mut config = context.get_stream("IDENTITY").await.unwrap().cached_info().config.clone();
    config.max_messages = 5;
    context.update_stream(config).await.unwrap();
    let error = broker.verify().await.unwrap_err().to_string();
    assert!(error.contains("IDENTITY") && error.contains("max_msgs is 5"), "{error}");
    let error = nats::connect(&house.config()).await.err().unwrap().to_string();
    assert!(error.contains("max_msgs is 5"), "{error}");
}

#[test]
fn start_up_mistakes_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let binary = server::find(None, "").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = server::Config { binary, folder: folder.path().join("nats"), port, processors: None };
    let error = Server::start(&config).err().unwrap().to_string();
    assert!(error.contains(&port.to_string()) && error.contains("--nats-port"), "{error}");

    let odd = folder.path().join("so \"called\"");
    let config = server::Config { folder: odd.join("nats"), port: 0, ..config };
    let error = Server::start(&config).err().unwrap().to_string();
    assert!(error.contains("quotation mark") && error.contains("--data-dir"), "{error}");
    assert!(!odd.exists(), "nothing is made there");

    let nothing = folder.path().join("nothing");
    let error = server::find(Some(&nothing), "").unwrap_err().to_string();
    assert!(error.contains("does not run") && error.contains("make broker"), "{error}");
}

#[test]
fn one_folder_has_one_broker() {
    let house = House::start();
    let binary = server::find(None, "").unwrap();
    let config =
        server::Config { binary, folder: house.folder.path().join("nats"), port: 0, processors: None };
    let error = Server::start(&config).err().unwrap().to_string();
    assert!(error.contains("another rollcall") && error.contains("--data-dir"), "{error}");
}

#[test]
fn a_broker_uses_as_many_processors_as_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let binary = server::find(None, "").unwrap();
    let config = server::Config { binary, folder: folder.path().join("nats"), port: 0, processors: Some(3) };
    let server = Server::start(&config).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
    let set: Vec<&[u8]> =
        environment.split(|byte| *byte == 0).filter(|entry| entry.starts_with(b"GOMAXPROCS=")).collect();
    assert_eq!(set, [b"GOMAXPROCS=3"]);
}

/// Whoever is killed and started again at once finds the broker of before, which the kernel has not ended yet.
#[test]
fn a_broker_that_is_still_ending_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let binary = server::find(None, "").expect("`make test` fetches the broker: run `make broker`");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = server::Config {
        binary,
        folder: folder.path().to_path_buf(),
        port: port.local_addr().unwrap().port(),
        processors: None,
    };
    let lock = std::fs::File::create(folder.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let (done, started) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let server = Server::start(&config).map(Server::stop);
            done.send(server.map_err(|error| error.to_string())).unwrap();
        });
        let early = started.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "{early:?}");
        // The last that goes with a process is what it opened last.
        drop(lock);
        let early = started.recv_timeout(Duration::from_millis(100));
        assert!(early.is_err(), "{early:?}");
        drop(port);
        assert_eq!(started.recv_timeout(SOON).unwrap(), Ok(()));
    });
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_without_its_password() {
    let config = nats::Config {
        url: "nats://user:secret@127.0.0.1:9".to_string(),
        connect_timeout: Duration::from_secs(2),
        ..Default::default()
    };
    let error = nats::connect(&config).await.err().unwrap().to_string();
    assert!(
        error.contains("127.0.0.1:9") && error.contains("--nats") && !error.contains("secret"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart() {
    let house = House::start();
    let broker = house.broker().await;
    let write = append("restart", Guard::Last(0));
    let sequence = broker.identity.append(write.clone(), Instant::now() + SOON).await.unwrap();
    let House { folder, server } = house;
    server.stop();
    let server = House::server(folder.path());
    let broker = House { folder, server };
    let log = broker.broker().await.identity;
    assert_eq!(log.read(sequence).await.unwrap().unwrap().id, Some(write.id));
}

/// The broker cuts a client off that has more than 64 MB to take, and with it every write that is under way there.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_are_read_without_being_cut_off() {
    let house = House::start();
    let broker = house.broker().await;
    let payload = Bytes::from(vec![b'x'; 2 << 20]);
    for number in 0..100 {
        let write = Append { payload: payload.clone(), ..append(&format!("large-{number}"), Guard::Last(0)) };
        broker.identity.append(write, Instant::now() + SOON).await.unwrap();
    }
    let fresh = house.broker().await;
    let mut followed = fresh.identity.follow(1);
    for sequence in 1..=100 {
        let message = timeout(SOON, followed.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((message.sequence, message.payload.len()), (sequence, payload.len()));
    }
    let log = std::fs::read_to_string(house.folder.path().join("nats/nats-server.log")).unwrap();
    assert!(!log.contains("Slow Consumer"), "{log}");
}
