//! Messages that nobody can read, on the real broker: who is given what in their place, and who is not.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::time::Duration;

use bytes::Bytes;
use eventlog::passed_over::{self, Pass};
use eventlog::{Append, Broker, Error, Guard, Log, Message, clock};
use futures::StreamExt;
use proto::{Kind, codec, provisioning};
use tokio::time::{Instant, timeout};

use common::House;

const SOON: Duration = Duration::from_secs(60);
const KEY: &str = "01890a5dac96774bbcceb302099a8057";

/// Somebody else who may publish.
async fn stranger(house: &House, subject: &str, payload: &'static str) {
    let address: async_nats::ServerAddr = house.server.url().parse().unwrap();
    let (user, password) = (address.username().unwrap(), address.password().unwrap());
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_string(), password.to_string());
    let client = options.connect(house.server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    context.publish(subject.to_string(), payload.into()).await.unwrap().await.unwrap();
}

fn ours(key: &str, last: u64) -> Append {
    Append {
        subject: format!("identity.corp.User.{key}"),
        guard: Guard::Last(last),
        id: clock::new_event_id(),
        payload: Bytes::from_static(b"damaged"),
        headers: eventlog::Headers::default(),
    }
}

async fn write(broker: &Broker, append: Append) -> Result<u64, Error> {
    broker.identity.append(append, Instant::now() + SOON).await
}

/// Every message of a log, as it is followed; it must be the same when it is read alone.
async fn all(log: &dyn Log) -> Vec<Message> {
    let count = usize::try_from(log.last_sequence().await.unwrap()).unwrap();
    let followed: Vec<_> = timeout(SOON, log.follow(1).take(count).collect::<Vec<_>>()).await.unwrap();
    let followed: Vec<Message> = followed.into_iter().map(Result::unwrap).collect();
    for message in &followed {
        assert_eq!(log.read(message.sequence).await.unwrap().as_ref(), Some(message));
    }
    followed
}

fn kind_of(message: &Message) -> Kind {
    codec::decode(message.payload.clone()).unwrap().event.kind
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_of_ours_wrote_is_passed_over_in_every_stream() {
    let house = House::start();
    let broker = house.broker().await;
    stranger(&house, &format!("identity.corp.User.{KEY}"), "hello").await;
    stranger(&house, "identity.what.ever", "hello").await;
    stranger(&house, &format!("provisioning.corp.wiki.User.{KEY}"), "hello").await;
    stranger(&house, "control.x", "hello").await;
    let identity = all(&*broker.identity).await;
    assert_eq!(identity.iter().map(kind_of).collect::<Vec<_>>(), [Kind::PassedOver, Kind::PassedOver]);
    let subject = format!("identity.corp.User.{KEY}");
    assert_eq!(identity[0].subject, subject);
    assert_eq!(broker.identity.next_on(&subject, 1).await.unwrap().as_ref(), Some(&identity[0]));
    assert_eq!(broker.identity.last_on(&subject).await.unwrap().as_ref(), Some(&identity[0]));
    assert!(proto::subject::parse_identity(&identity[1].subject).is_ok());
    let [told] = &all(&*broker.provisioning).await[..] else { panic!("one message") };
    let event = provisioning::decode(told.payload.clone()).unwrap().event;
    assert_eq!((event.kind, event.app.as_str()), (provisioning::Kind::PassedOver, "wiki"));
    let [told] = &all(&*broker.control).await[..] else { panic!("one message") };
    assert!(proto::control::decode(told.payload.clone()).is_ok());
    // It counts for whoever writes on that subject all the same.
    assert!(matches!(write(&broker, ours(KEY, 0)).await, Err(Error::Conflict { .. })));
    assert_eq!(write(&broker, ours(KEY, 1)).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bears_an_id_is_passed_over_only_when_an_operator_says_so_of_this_very_message() {
    let house = House::start();
    let broker = house.broker().await;
    for (key, last) in [(KEY, 0), (KEY, 1)] {
        write(&broker, ours(key, last)).await.unwrap();
    }
    let as_written = all(&*broker.identity).await;
    assert!(as_written.iter().all(|message| codec::decode(message.payload.clone()).is_err()));
    let other = Message { payload: Bytes::from_static(b"other"), ..as_written[1].clone() };
    for (sequence, message) in [(1, &as_written[0]), (2, &other)] {
        passed_over::note(&*broker.rollcall, "IDENTITY", sequence, &Pass::of(message, "a bad disk"))
            .await
            .unwrap();
    }
    let again = passed_over::note(&*broker.rollcall, "IDENTITY", 1, &Pass::of(&as_written[0], "twice")).await;
    assert!(matches!(again, Err(Error::Conflict { .. })));
    // Whoever runs goes on as before; who starts is given it.
    assert_eq!(all(&*broker.identity).await, as_written);
    let started = house.broker().await;
    let given = all(&*started.identity).await;
    let event = codec::decode(given[0].payload.clone()).unwrap().event;
    assert_eq!((event.kind, event.reason.as_str()), (Kind::PassedOver, "a bad disk"));
    assert_eq!(given[1], as_written[1], "another message was meant");
    assert_eq!(all(&*house.broker().await.identity).await, given, "everybody is given the same");
}
