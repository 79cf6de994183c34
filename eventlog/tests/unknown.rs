//! Nobody knows what came of a write: every way in which an answer can be lost, late or a refusal, with the message
//! written or not, on a real broker behind a wire that makes it so. What is told is true, nothing stands twice or half.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;
#[path = "common/wire.rs"]
#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Append, Broker, Error, Guard, clock, nats};
use proto::EventId;
use tokio::time::Instant;

use common::House;
use wire::{Fault, Wire};

const SOON: Duration = Duration::from_secs(60);
/// Enough for some attempts that are answered.
const SHORT: Duration = Duration::from_secs(3);

/// A broker, reached by us over a wire and by others directly.
struct Scene {
    house: House,
    wire: Wire,
    ours: Broker,
    others: Broker,
}

impl Scene {
    async fn start() -> Self {
        let house = House::start();
        let address = house.server.url().rsplit_once('@').unwrap().1.parse().unwrap();
        let wire = Wire::to(address);
        let config = nats::Config { url: wire.url(house.server.url()), ..house.config() };
        let ours = nats::connect(&config).await.unwrap();
        let others = house.broker().await;
        Self { house, wire, ours, others }
    }

    async fn append(&self, append: &Append, time: Duration) -> Result<u64, Error> {
        self.ours.identity.append(append.clone(), Instant::now() + time).await
    }

    async fn pair(&self, pair: &[Append], time: Duration) -> Result<Vec<u64>, Error> {
        self.ours.identity.append_atomic(pair.to_vec(), Instant::now() + time).await
    }

    /// Somebody else writes, undisturbed.
    async fn other(&self, subject: &str, guard: Guard) -> u64 {
        self.others.identity.append(write(subject, guard), Instant::now() + SOON).await.unwrap()
    }

    /// How often each id stands in the log.
    async fn standing(&self) -> BTreeMap<EventId, usize> {
        let log = &self.others.identity;
        let mut found = BTreeMap::new();
        for sequence in 1..=log.last_sequence().await.unwrap() {
            *found.entry(log.read(sequence).await.unwrap().unwrap().id.unwrap()).or_default() += 1;
        }
        found
    }

    async fn stands(&self, append: &Append) -> usize {
        self.standing().await.get(&append.id).copied().unwrap_or_default()
    }

    fn answered(&self, word: &str) -> bool {
        self.wire.answers().iter().any(|answer| answer.contains(word))
    }

    /// The same fault on a single message and on a batch: both come to stand once, where we are told that they do.
    async fn survives(&self, faults: &[Fault]) {
        let struck = self.wire.struck();
        for guard in [Guard::Last(0), Guard::None] {
            let single = write(&format!("s{:?}", self.wire.struck()), guard);
            self.wire.next(faults.to_vec());
            let sequence = self.append(&single, SOON).await.unwrap();
            assert_eq!(self.stands(&single).await, 1, "{faults:?}");
            let read = self.others.identity.read(sequence).await.unwrap().unwrap();
            assert_eq!(read.id, Some(single.id), "{faults:?}");
        }
        let (new, old) = (format!("n{}", self.wire.struck()), format!("o{}", self.wire.struck()));
        let before = self.other(&old, Guard::Last(0)).await;
        let pair = [write(&new, Guard::Last(0)), write(&old, Guard::Last(before))];
        self.wire.next(faults.to_vec());
        let sequences = self.pair(&pair, SOON).await.unwrap();
        for (append, sequence) in pair.iter().zip(sequences) {
            assert_eq!(self.stands(append).await, 1, "{faults:?}");
            let read = self.others.identity.read(sequence).await.unwrap().unwrap();
            assert_eq!(read.id, Some(append.id), "{faults:?}");
        }
        assert_eq!(self.wire.struck() - struck, 3 * u32::try_from(faults.len()).unwrap());
    }
}

fn write(subject: &str, guard: Guard) -> Append {
    Append {
        subject: format!("identity.corp.User.{subject}"),
        guard,
        id: clock::new_event_id(),
        payload: Bytes::from_static(b"x"),
        headers: eventlog::Headers::default(),
    }
}

/// A moment between two looks at a bounded condition.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The faults after which the message was or was not written, and nobody said so.
fn silent() -> Vec<Fault> {
    vec![Fault::LoseAnswer, Fault::CutAfter, Fault::LosePublish, Fault::CutBefore]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again() {
    let scene = Scene::start().await;
    for fault in silent() {
        scene.survives(&[fault]).await;
    }
    scene.survives(&[Fault::LoseAnswer, Fault::CutAfter]).await;
    assert!(scene.answered("duplicate") && scene.answered("10071"), "{:?}", scene.wire.answers());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_and_a_late_message_change_nothing() {
    let scene = Scene::start().await;
    scene.survives(&[Fault::DelayAnswer(Duration::from_millis(2_500))]).await;
    scene.survives(&[Fault::HoldPublish(Duration::from_millis(2_500))]).await;
    scene.survives(&[Fault::Repeat]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_is_success_with_the_sequence_of_the_first() {
    let scene = Scene::start().await;
    let ours = write("a", Guard::None);
    // Others write on the subject before the answer is asked for again.
    scene.wire.next([Fault::LoseAnswer]);
    let (sequence, ()) = tokio::join!(scene.append(&ours, SOON), async {
        while scene.stands(&ours).await == 0 {
            pause().await;
        }
        for _ in 0..3 {
            scene.other("a", Guard::None).await;
        }
    });
    assert_eq!(sequence.unwrap(), 1);
    assert!(scene.answered("duplicate"), "{:?}", scene.wire.answers());
    assert_eq!(scene.stands(&ours).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_last_sequence_because_of_our_own_message_is_success() {
    let scene = Scene::start().await;
    let ours = write("a", Guard::Last(0));
    scene.wire.next([Fault::LoseAnswer]);
    let (sequence, ()) = tokio::join!(scene.append(&ours, SOON), async {
        while scene.stands(&ours).await == 0 {
            pause().await;
        }
        scene.other("a", Guard::Last(1)).await;
        scene.other("a", Guard::None).await;
    });
    assert_eq!(sequence.unwrap(), 1);
    assert!(scene.answered("10071"));
    let pair = [write("b", Guard::Last(0)), write("c", Guard::Last(0))];
    scene.wire.next([Fault::LoseAnswer]);
    let (sequences, ()) = tokio::join!(scene.pair(&pair, SOON), async {
        while scene.stands(&pair[1]).await == 0 {
            pause().await;
        }
        scene.other("b", Guard::Last(4)).await;
    });
    assert_eq!(sequences.unwrap(), [4, 5]);
}

/// What was held back arrives after somebody else was faster, and after we were told so: it must not stand.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_last_sequence_because_of_another_is_a_conflict() {
    let scene = Scene::start().await;
    let held = || Fault::HoldPublish(Duration::from_secs(4));
    let ours = write("a", Guard::Last(0));
    scene.wire.next([held()]);
    let (result, _) = tokio::join!(scene.append(&ours, SOON), scene.other("a", Guard::Last(0)));
    assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
    // In a batch it can be any of them that somebody else was faster on.
    for place in 0..2 {
        let names = [format!("x{place}"), format!("y{place}")];
        let pair: Vec<Append> = names.iter().map(|name| write(name, Guard::Last(0))).collect();
        scene.wire.next([held()]);
        let begun = Instant::now();
        let (result, _) = tokio::join!(scene.pair(&pair, SOON), scene.other(&names[place], Guard::Last(0)));
        assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
        assert!(begun.elapsed() < SOON / 2, "a conflict is known long before the deadline");
    }
    let arrived = || scene.wire.answers().len();
    let begun = Instant::now();
    // Each was sent twice and answered twice.
    while arrived() < 6 && begun.elapsed() < SOON {
        pause().await;
    }
    assert_eq!((arrived(), scene.standing().await.len()), (6, 3), "only the others' messages stand");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_not_there_is_a_conflict() {
    let scene = Scene::start().await;
    let before = scene.other("a", Guard::Last(0)).await;
    let wrong = Guard::Last(before + 100);
    let begun = Instant::now();
    for subject in ["a", "nobody"] {
        let result = scene.append(&write(subject, wrong), SOON).await;
        assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
        let pair = [write("b", Guard::Last(0)), write(subject, wrong)];
        let result = scene.pair(&pair, SOON).await;
        assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
    }
    assert!(begun.elapsed() < SOON, "none of them waits for its deadline");
    // After an attempt that may be under way nothing is certain.
    scene.wire.next([Fault::LosePublish]);
    let result = scene.append(&write("a", wrong), 2 * SHORT).await;
    assert!(matches!(result, Err(Error::Unknown { .. })), "{result:?}");
    assert_eq!(scene.standing().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_in_flight_is_waited_for() {
    let scene = Scene::start().await;
    scene.survives(&[Fault::WriteAndAnswer(10_158)]).await;
    scene.survives(&[Fault::Answer(10_158), Fault::Answer(10_158)]).await;
    scene.wire.next(vec![Fault::Answer(10_158); 100]);
    let error = scene.append(&write("late", Guard::Last(0)), SHORT).await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }) && error.to_string().contains("10158"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_last_sequence_on_several_replicas_is_judged_as_on_one() {
    let scene = Scene::start().await;
    scene.survives(&[Fault::WriteAndAnswer(10_164)]).await;
    scene.other("taken", Guard::Last(0)).await;
    scene.wire.next([Fault::Answer(10_164)]);
    let result = scene.append(&write("taken", Guard::Last(0)), SOON).await;
    assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
}

/// The broker knows a batch again by its ids; it does not say where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_stands_is_found_whatever_came_after_it() {
    let scene = Scene::start().await;
    for (round, guards) in [[Guard::None, Guard::None], [Guard::None, Guard::Last(0)]].into_iter().enumerate()
    {
        let (free, key) = (format!("f{round}"), format!("k{round}"));
        scene.other(&free, Guard::None).await;
        let pair = [write(&free, guards[0]), write(&key, guards[1])];
        scene.wire.next([Fault::LoseAnswer]);
        let (sequences, ()) = tokio::join!(scene.pair(&pair, SOON), async {
            while scene.stands(&pair[1]).await == 0 {
                pause().await;
            }
            for _ in 0..3 {
                scene.other(&free, Guard::None).await;
            }
        });
        let sequences = sequences.unwrap();
        for (append, sequence) in pair.iter().zip(&sequences) {
            let read = scene.others.identity.read(*sequence).await.unwrap().unwrap();
            assert_eq!(read.id, Some(append.id));
            assert_eq!(scene.stands(append).await, 1);
        }
        // Asked again by somebody who has forgotten that it was done.
        assert_eq!(scene.pair(&pair, SOON).await.unwrap(), sequences);
    }
    assert!(scene.answered("10201"), "{:?}", scene.wire.answers());
}

/// A message that came into a batch after it had been written by itself: the batch does not stand, and cannot.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_message_that_stands_alone_is_a_conflict() {
    let scene = Scene::start().await;
    let (free, guarded) = (write("f", Guard::None), write("g", Guard::Last(0)));
    scene.append(&free, SOON).await.unwrap();
    scene.append(&guarded, SOON).await.unwrap();
    for alone in [&free, &guarded] {
        for faults in [vec![], vec![Fault::LosePublish]] {
            scene.wire.next(faults);
            let pair = [alone.clone(), write("h", alone.guard)];
            let result = scene.pair(&pair, SOON).await;
            assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
        }
    }
    assert_eq!(scene.standing().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_answers_are_waited_for() {
    let scene = Scene::start().await;
    for code in [10_163, 10_077, 10_008, 10_009, 10_074, 10_167, 10_176, 10_210, 10_023, 10_047] {
        scene.survives(&[Fault::Answer(code)]).await;
    }
    for code in [10_163, 10_077, 10_023, 10_210] {
        scene.wire.next(vec![Fault::Answer(code); 100]);
        let late = write(&format!("late-{code}"), Guard::Last(0));
        let error = scene.append(&late, SHORT).await.unwrap_err();
        scene.wire.calm();
        assert!(error.to_string().contains(&code.to_string()), "{error}");
        // One replica of several that cannot store says nothing of the others.
        let unknown = code == 10_077;
        assert_eq!(matches!(error, Error::Unknown { .. }), unknown, "{error}");
        assert_eq!(matches!(error, Error::Unavailable { .. }), !unknown, "{error}");
        assert_eq!(scene.stands(&late).await, 0);
    }
    scene.survives(&[Fault::WriteAndAnswer(10_077)]).await;
    scene.wire.next([Fault::Answer(10_109)]);
    let result = scene.append(&write("sealed", Guard::Last(0)), SOON).await;
    assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_answers_is_waited_for() {
    let scene = Scene::start().await;
    scene.survives(&[Fault::NoResponders]).await;
    scene.survives(&[Fault::LoseAnswer, Fault::NoResponders]).await;
    scene.wire.next(vec![Fault::NoResponders; 100]);
    let error = scene.append(&write("late", Guard::Last(0)), SHORT).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("IDENTITY") && error.to_string().contains("deleted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passed_is_told_as_it_is() {
    let scene = Scene::start().await;
    for (number, (fault, standing)) in
        [(Fault::LoseAnswer, 1), (Fault::LosePublish, 0)].into_iter().enumerate()
    {
        let single = write(&format!("s{number}"), Guard::Last(0));
        scene.wire.next(vec![fault.clone(); 100]);
        let result = scene.append(&single, SHORT).await;
        assert!(matches!(result, Err(Error::Unknown { .. })), "{fault:?}: {result:?}");
        assert_eq!(scene.stands(&single).await, standing);
        let pair =
            [write(&format!("a{number}"), Guard::Last(0)), write(&format!("b{number}"), Guard::Last(0))];
        let result = scene.pair(&pair, SHORT).await;
        scene.wire.calm();
        assert!(matches!(result, Err(Error::Unknown { .. })), "{fault:?}: {result:?}");
        for append in &pair {
            assert_eq!(scene.stands(append).await, standing, "{fault:?}");
        }
    }
    // A deadline that has passed before anything was sent.
    let result = scene.append(&write("never", Guard::Last(0)), Duration::ZERO).await;
    assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
}

/// 50 batches that nobody ends hold their slots for ten seconds.
#[tokio::test(flavor = "multi_thread")]
async fn more_batches_than_the_broker_takes_are_waited_for() {
    let scene = Scene::start().await;
    let many: Vec<Vec<Append>> = (0..60)
        .map(|number| {
            vec![write(&format!("a{number}"), Guard::Last(0)), write(&format!("b{number}"), Guard::Last(0))]
        })
        .collect();
    let all = futures::future::join_all(many.iter().map(|pair| scene.pair(pair, SOON))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let address: async_nats::ServerAddr = scene.house.server.url().parse().unwrap();
    let options = async_nats::ConnectOptions::with_user_and_password(
        address.username().unwrap().to_string(),
        address.password().unwrap().to_string(),
    );
    let client = options.connect(scene.house.server.url()).await.unwrap();
    // On a slow machine the first of them may be over before the last is there.
    let (mut refused, mut through) = (None, 0);
    for round in 0..10 {
        for number in 0..50 {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Batch-Id", format!("abandoned-{round}-{number}").as_str());
            headers.insert("Nats-Batch-Sequence", "1");
            client
                .publish_with_headers(format!("identity.corp.User.z{number}"), headers, "x".into())
                .await
                .unwrap();
        }
        client.flush().await.unwrap();
        let early =
            [write(&format!("e{round}-a"), Guard::Last(0)), write(&format!("e{round}-b"), Guard::Last(0))];
        match scene.pair(&early, SHORT).await {
            Ok(_) => through += 2,
            Err(error) => {
                refused = Some((early, error));
                break;
            }
        }
    }
    let (pair, error) = refused.expect("fifty batches are all that the broker takes");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("10176") || error.to_string().contains("10210"), "{error}");
    // Single messages are not held up.
    scene.append(&write("single", Guard::Last(0)), SHORT * 5).await.unwrap();
    scene.pair(&pair, SOON).await.unwrap();
    assert_eq!(scene.standing().await.len(), 2 * 60 + through + 1 + 2);
}
