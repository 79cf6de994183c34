//! What listeners hear.

use std::time::Duration;

use eventlog::{Append, Broker, Guard, clock, memory};
use jiff::Timestamp;
use proto::Kind;
use proto::sealing::DataKey;
use tokio::time::Instant;

use super::*;

fn herald() -> (Herald, Broker) {
    let broker = memory::broker(memory::Faults::default());
    let keyring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
    (Herald::new(broker.identity.clone(), keyring), broker)
}

fn deleted() -> Event {
    Event {
        id: clock::new_event_id(),
        tenant: "corp".parse().unwrap(),
        resource_type: "User".to_string(),
        resource_id: proto::ResourceId::new(clock::new_uuid()),
        source: "hr".to_string(),
        actor: "hr".to_string(),
        txn: String::new(),
        occurred_at: Timestamp::UNIX_EPOCH,
        reason: String::new(),
        key_ref: None,
        continued: false,
        kind: Kind::Deleted,
    }
}

async fn write(broker: &Broker, count: u64) {
    for _ in 0..count {
        let event = deleted();
        let append = Append {
            subject: format!("identity.corp.User.{}", event.resource_id),
            guard: Guard::None,
            id: event.id,
            payload: proto::codec::encode(&event, None),
            headers: Vec::new(),
        };
        broker.identity.append(append, Instant::now() + Duration::from_secs(10)).await.unwrap();
    }
}

async fn hears(listener: &mut Listener, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        assert_eq!(listener.next().await.unwrap().unwrap().sequence, sequence);
    }
}

fn voices(herald: &Herald) -> usize {
    herald.voices.lock().unwrap().iter().filter(|voice| voice.strong_count() > 0).count()
}

#[tokio::test]
async fn all_hear_everything_from_one_voice() {
    let (herald, broker) = herald();
    let (mut one, mut two) = (herald.listen(1), herald.listen(1));
    write(&broker, 5).await;
    hears(&mut one, 1..=5).await;
    hears(&mut two, 1..=3).await;
    let mut three = herald.listen(2);
    hears(&mut three, 2..=5).await;
    assert_eq!(voices(&herald), 1);
    let later = tokio::spawn(async move { hears(&mut one, 6..=8).await });
    let latest = tokio::spawn(async move { hears(&mut three, 6..=8).await });
    write(&broker, 3).await;
    later.await.unwrap();
    latest.await.unwrap();
    hears(&mut two, 4..=8).await;
}

#[tokio::test]
async fn whoever_is_far_behind_catches_up_alone_and_joins_the_others() {
    let (herald, broker) = herald();
    let many = 2 * REMEMBERED as u64;
    write(&broker, many).await;
    let (mut ahead, mut behind) = (herald.listen(1), herald.listen(1));
    hears(&mut ahead, 1..=many).await;
    hears(&mut behind, 1..=10).await;
    assert_eq!(voices(&herald), 2, "what it needs is forgotten");
    hears(&mut behind, 11..=many).await;
    write(&broker, 2).await;
    hears(&mut behind, many + 1..=many + 2).await;
    hears(&mut ahead, many + 1..=many + 2).await;
    assert!(behind.next().now_or_never().is_none() && ahead.next().now_or_never().is_none());
    assert_eq!(voices(&herald), 1);
    assert!(Arc::ptr_eq(&ahead.voice, &behind.voice));
}

#[tokio::test]
async fn what_was_not_waited_for_is_heard_later() {
    let (herald, broker) = herald();
    let (mut one, mut two) = (herald.listen(1), herald.listen(1));
    let writer = tokio::spawn(async move { write(&broker, 300).await });
    let mut heard = (1, 1);
    while heard != (301, 301) {
        for (listener, next) in [(&mut one, &mut heard.0), (&mut two, &mut heard.1)] {
            if *next < 301
                && let Some(event) = listener.next().now_or_never()
            {
                assert_eq!(event.unwrap().unwrap().sequence, *next);
                *next += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

#[test]
fn large_events_are_not_remembered_for_long() {
    let mut said = Said { first: 1, next: 1, events: VecDeque::new(), bytes: 0, is_over: false };
    for sequence in 1..=100 {
        let heard = Heard {
            sequence,
            event: deleted(),
            body: None,
            bytes: REMEMBERED_BYTES / 10,
            naming: OnceLock::new(),
        };
        said.add(heard);
    }
    assert_eq!((said.events.len(), said.first, said.next), (10, 91, 101));
    said.add(Heard {
        sequence: 101,
        event: deleted(),
        body: None,
        bytes: REMEMBERED_BYTES * 2,
        naming: OnceLock::new(),
    });
    assert_eq!((said.events.len(), said.first, said.next), (1, 101, 102));
    assert!(said.knows(101) && !said.knows(100));
}
