//! What listeners hear.

use std::time::Duration;

use eventlog::{Append, Broker, Guard, clock, memory};
use proto::sealing::DataKey;
use proto::{Event, Kind};
use tokio::time::Instant;

use super::*;
use crate::sample;

fn herald() -> (Herald, Broker) {
    let broker = memory::broker(memory::Faults::default());
    let keyring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
    (Herald::new(broker.identity.clone(), keyring), broker)
}

fn deleted() -> Event {
    sample::identity(proto::ResourceId::new(clock::new_uuid()), Kind::Deleted)
}

async fn write(broker: &Broker, count: u64) {
    for _ in 0..count {
        let event = deleted();
        let append = Append {
            subject: format!("identity.corp.User.{}", event.resource_id),
            guard: Guard::None,
            id: event.id,
            payload: proto::codec::encode(&event, None),
            headers: eventlog::Headers::default(),
        };
        broker.identity.append(append, Instant::now() + Duration::from_secs(10)).await.unwrap();
    }
}

/// A listener, and what he took and did not hear yet.
struct Ear {
    listener: Listener,
    taken: VecDeque<u64>,
}

impl Ear {
    async fn next(&mut self) -> u64 {
        while self.taken.is_empty() {
            self.taken.extend(self.listener.next().await.unwrap().unwrap().sequences());
        }
        self.taken.pop_front().unwrap()
    }
}

impl Herald {
    fn ear(&self, from: u64) -> Ear {
        Ear { listener: self.listen(from), taken: VecDeque::new() }
    }
}

async fn hears(ear: &mut Ear, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        assert_eq!(ear.next().await, sequence);
    }
}

fn voices(herald: &Herald) -> usize {
    herald.voices.lock().unwrap().iter().filter(|voice| voice.strong_count() > 0).count()
}

#[tokio::test]
async fn all_hear_everything_from_one_voice() {
    let (herald, broker) = herald();
    let (mut one, mut two) = (herald.ear(1), herald.ear(1));
    write(&broker, 5).await;
    hears(&mut one, 1..=5).await;
    hears(&mut two, 1..=3).await;
    let mut three = herald.ear(2);
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
    let (mut ahead, mut behind) = (herald.ear(1), herald.ear(1));
    hears(&mut ahead, 1..=many).await;
    hears(&mut behind, 1..=10).await;
    assert_eq!(voices(&herald), 2, "what it needs is forgotten");
    hears(&mut behind, 11..=many).await;
    write(&broker, 2).await;
    hears(&mut behind, many + 1..=many + 2).await;
    hears(&mut ahead, many + 1..=many + 2).await;
    assert!(behind.next().now_or_never().is_none() && ahead.next().now_or_never().is_none());
    assert_eq!(voices(&herald), 1);
    assert!(Arc::ptr_eq(&ahead.listener.voice, &behind.listener.voice));
}

#[tokio::test]
async fn what_was_not_waited_for_is_heard_later() {
    let (herald, broker) = herald();
    let (mut one, mut two) = (herald.ear(1), herald.ear(1));
    let writer = tokio::spawn(async move { write(&broker, 300).await });
    let mut next = (1, 1);
    while next != (301, 301) {
        for (ear, next) in [(&mut one, &mut next.0), (&mut two, &mut next.1)] {
            if *next < 301
                && let Some(sequence) = ear.next().now_or_never()
            {
                assert_eq!(sequence, *next);
                *next += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

fn passage(sequence: u64, bytes: usize) -> Passage {
    Passage::new(vec![Heard::new(sequence, deleted(), None, bytes)]).unwrap()
}

#[tokio::test]
async fn what_cannot_be_read_ends_a_voice_and_nothing_before_it_is_lost() {
    let (herald, broker) = herald();
    write(&broker, 40).await;
    let append = Append {
        subject: "identity.corp.User.odd".to_string(),
        guard: Guard::None,
        id: clock::new_event_id(),
        payload: vec![0xff; 8].into(),
        headers: eventlog::Headers::default(),
    };
    broker.identity.append(append, Instant::now() + Duration::from_secs(10)).await.unwrap();
    let (mut one, mut two) = (herald.ear(1), herald.ear(1));
    hears(&mut one, 1..=40).await;
    hears(&mut two, 1..=40).await;
    for ear in [&mut one, &mut two] {
        let heard = ear.listener.next().await;
        assert!(matches!(heard, Err(Error::Event { sequence: 41, .. })), "{heard:?}");
    }
}

#[test]
fn large_events_are_not_remembered_for_long() {
    let mut said = Said::from(1);
    for sequence in 1..=100 {
        said.add(passage(sequence, REMEMBERED_BYTES / 10));
    }
    assert_eq!((said.passages.len(), said.events, said.first, said.next), (10, 10, 91, 101));
    said.add(passage(101, REMEMBERED_BYTES * 2));
    assert_eq!((said.passages.len(), said.events, said.first, said.next), (1, 1, 101, 102));
    assert!(said.knows(101) && !said.knows(100));
}

#[test]
fn a_stretch_begins_in_the_middle_of_a_passage() {
    let needs = crate::scope::Needs::default();
    let mut said = Said::from(1);
    let stranger = Event { tenant: "other".parse().unwrap(), ..deleted() };
    let events = [deleted(), stranger, deleted(), deleted()];
    let heard = (1..).zip(events).map(|(sequence, event)| Heard::new(sequence, event, None, 1));
    said.add(Passage::new(heard.collect()).unwrap());
    said.add(passage(5, 1));
    let whose = |next| {
        let stretch: Stretch = said.after(next).unwrap();
        let steps = stretch.steps(&"corp".parse().unwrap(), needs);
        let ends = steps.all().filter(|step| step.ends).map(|step| step.sequence).collect::<Vec<_>>();
        let own = |step: &Step| stretch.event(step).is_some_and(|of| of.sequence == step.sequence);
        assert!(steps.all().all(own));
        assert_eq!((steps.pressing().count(), steps.waiting()), (2 * ends.len(), 0), "an end presses");
        (ends, stretch.last())
    };
    assert_eq!(whose(1), (vec![1, 3, 4], 4), "not those of another tenant");
    assert_eq!(whose(2), (vec![3, 4], 4));
    assert_eq!(whose(4), (vec![4], 4));
    assert_eq!(whose(5), (vec![5], 5));
    assert!(said.after(6).is_none());
}
