//! Many writers over logs that lose answers: each gets its own outcome, exactly once.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::memory::{Faults, MemoryLog};
use crate::{Guard, clock};

fn append(subject: &str, guard: Guard) -> Append {
    Append {
        subject: format!("identity.corp.User.{subject}"),
        guard,
        id: clock::new_event_id(),
        payload: Bytes::from_static(b"x"),
        headers: crate::Headers::default(),
    }
}

/// A log in memory whose writes take a while, and that remembers how they came.
struct Slow {
    log: MemoryLog,
    batches: Mutex<Vec<Vec<String>>>,
    /// Every so many batches one ends without an answer.
    unknown_every: usize,
    batch_takes: Duration,
    /// Bytes that are under way, and the most that ever were.
    bytes: Mutex<(usize, usize)>,
}

impl Slow {
    fn over(faults: Faults, unknown_every: usize) -> Arc<Self> {
        Self::with(MemoryLog::new("IDENTITY", faults), unknown_every, Duration::from_millis(4))
    }

    fn with(log: MemoryLog, unknown_every: usize, batch_takes: Duration) -> Arc<Self> {
        Arc::new(Self { log, batches: Mutex::default(), unknown_every, batch_takes, bytes: Mutex::default() })
    }

    fn begins(&self, bytes: usize) {
        let mut seen = self.bytes.lock().unwrap();
        seen.0 += bytes;
        seen.1 = seen.1.max(seen.0);
    }

    fn sizes(&self) -> Vec<usize> {
        self.batches.lock().unwrap().iter().map(Vec::len).collect()
    }
}

#[async_trait::async_trait]
impl Log for Slow {
    fn name(&self) -> &str {
        self.log.name()
    }

    async fn append(&self, append: Append, deadline: Instant) -> Result<u64, Error> {
        let bytes = append.payload.len();
        self.begins(bytes);
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.bytes.lock().unwrap().0 -= bytes;
        self.log.append(append, deadline).await
    }

    async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error> {
        let bytes = appends.iter().map(|append| append.payload.len()).sum();
        self.begins(bytes);
        tokio::time::sleep(self.batch_takes).await;
        self.bytes.lock().unwrap().0 -= bytes;
        let count = {
            let mut batches = self.batches.lock().unwrap();
            batches.push(appends.iter().map(|append| append.subject.clone()).collect());
            batches.len()
        };
        let guards = appends.iter().filter_map(|append| match append.guard {
            Guard::Last(last) => Some((append.subject.clone(), last)),
            Guard::None => None,
        });
        let guards: Vec<(String, u64)> = guards.collect();
        let result = self.log.append_atomic(appends, deadline).await;
        if let Err(Error::Conflict { at: None }) = result {
            // A broker names the first that stands in the way.
            for (subject, expected) in guards {
                let last = self.log.last_on(&subject).await?.map_or(0, |message| message.sequence);
                if last != expected {
                    return Err(Error::Conflict { at: Some(last) });
                }
            }
        }
        if count.is_multiple_of(self.unknown_every) {
            return Err(Error::Unknown { doing: "writing".to_string() });
        }
        result
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        self.log.read(sequence).await
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.log.last_on(subject).await
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        self.log.last_sequence().await
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        self.log.follow(from)
    }

    async fn note(&self, name: &str) -> Result<Option<String>, Error> {
        self.log.note(name).await
    }

    async fn set_note(&self, name: &str, value: &str) -> Result<(), Error> {
        self.log.set_note(name, value).await
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn all_at_once(committer: &Arc<Committer>, appends: Vec<Append>) -> Vec<Result<u64, Error>> {
    let write = |append: Append| {
        let committer = committer.clone();
        tokio::spawn(async move { committer.append(append, soon()).await })
    };
    let running: Vec<_> = appends.into_iter().map(write).collect();
    futures::future::join_all(running).await.into_iter().map(Result::unwrap).collect()
}

/// Every message that was acknowledged stands where it was said, once; nothing else stands in the log.
async fn agrees(log: &Slow, appends: &[Append], results: &[Result<u64, Error>]) {
    let mut acknowledged = 0;
    for (append, result) in appends.iter().zip(results) {
        match result {
            Ok(sequence) => {
                acknowledged += 1;
                assert_eq!(log.read(*sequence).await.unwrap().unwrap().id, Some(append.id));
            }
            Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error}"),
        }
    }
    assert_eq!(log.last_sequence().await.unwrap(), acknowledged);
}

#[tokio::test(start_paused = true)]
async fn one_writer_never_waits_for_a_batch() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let committer = Committer::new(log.clone(), WAITING_MAX);
    for number in 0..20 {
        committer.append(append(&number.to_string(), Guard::Last(0)), soon()).await.unwrap();
    }
    assert!(log.sizes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_writers_share_batches() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    let appends: Vec<Append> = (0..500).map(|number| append(&number.to_string(), Guard::Last(0))).collect();
    let results = all_at_once(&committer, appends.clone()).await;
    assert!(results.iter().all(Result::is_ok));
    agrees(&log, &appends, &results).await;
    assert!(log.sizes().iter().any(|size| *size > 100), "{:?}", log.sizes());
    assert!(log.sizes().iter().all(|size| *size <= BATCH_MAX));
}

/// The first batches of 64 writers who come back after so many milliseconds each, where a batch takes 12. Afterwards it is
/// found that this log takes them faster one by one.
async fn first_batches(comes_back: fn(u64) -> u64) -> Vec<usize> {
    let log = MemoryLog::new("IDENTITY", Faults::default());
    let log = Slow::with(log, usize::MAX, Duration::from_millis(12));
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    let write = |writer: u64| {
        let committer = committer.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                tokio::time::sleep(Duration::from_millis(comes_back(writer))).await;
                committer.append(append(&format!("{writer}-{round}"), Guard::Last(0)), soon()).await.unwrap();
            }
        })
    };
    futures::future::join_all((0..64).map(write).collect::<Vec<_>>()).await;
    log.sizes().into_iter().skip(1).take(3).collect()
}

/// One after the other over ten milliseconds, as those do who share two processors.
#[tokio::test(start_paused = true)]
async fn a_batch_that_takes_long_is_worth_waiting_for_all_whom_the_last_one_woke() {
    let sizes = first_batches(|writer| writer % 10).await;
    assert!(sizes.iter().all(|size| *size >= 60), "{sizes:?}");
}

/// An answer has to be read and the next question to be sent before the first of them is there again.
#[tokio::test(start_paused = true)]
async fn that_nobody_is_back_yet_does_not_mean_that_nobody_comes() {
    let sizes = first_batches(|writer| 4 + writer % 2).await;
    assert!(sizes.iter().all(|size| *size >= 60), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn changes_of_one_subject_never_share_a_batch_and_have_one_winner() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    let appends: Vec<Append> =
        (0..300).map(|number| append(&format!("name-{}", number % 100), Guard::Last(0))).collect();
    let results = all_at_once(&committer, appends.clone()).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 100);
    agrees(&log, &appends, &results).await;
    for batch in log.batches.lock().unwrap().iter() {
        assert_eq!(batch.iter().collect::<BTreeSet<_>>().len(), batch.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_costs_the_others_nothing() {
    let log = Slow::over(Faults::default(), usize::MAX);
    for number in 0..5 {
        log.log.append(append(&format!("taken-{number}"), Guard::Last(0)), soon()).await.unwrap();
    }
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    let mut appends: Vec<Append> =
        (0..200).map(|number| append(&number.to_string(), Guard::Last(0))).collect();
    appends.extend((0..5).map(|number| append(&format!("taken-{number}"), Guard::Last(0))));
    let results = all_at_once(&committer, appends).await;
    assert!(results[..200].iter().all(Result::is_ok));
    assert!(results[200..].iter().all(|result| matches!(result, Err(Error::Conflict { .. }))));
    assert_eq!(log.last_sequence().await.unwrap(), 205);
}

#[tokio::test(start_paused = true)]
async fn members_go_together_but_not_past_a_guarded_change() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let first = log.log.append(append("group", Guard::Last(0)), soon()).await.unwrap();
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    let mut appends = vec![append("group", Guard::Last(first))];
    appends.extend((0..50).map(|_| append("group", Guard::None)));
    let results = all_at_once(&committer, appends).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(*results[0].as_ref().unwrap(), first + 1, "the guarded change went first");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_end_is_found_out_for_each() {
    for seed in 1..40 {
        let log = Slow::over(Faults { seed }, 2);
        let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
        let appends: Vec<Append> =
            (0..120).map(|number| append(&format!("n{}", number % 90), Guard::Last(0))).collect();
        let results = all_at_once(&committer, appends.clone()).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 90, "seed {seed}");
        agrees(&log, &appends, &results).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waited_too_long_is_told_and_nothing_is_written() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let committer = Committer::new(log.clone(), WAITING_MAX);
    let late = committer.append(append("late", Guard::Last(0)), Instant::now()).await;
    assert!(matches!(late, Err(Error::Unavailable { .. })));
    assert_eq!(log.last_sequence().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_is_told_at_once() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let committer = Arc::new(Committer::new(log.clone(), 8));
    let appends: Vec<Append> = (0..200).map(|number| append(&number.to_string(), Guard::Last(0))).collect();
    let results = all_at_once(&committer, appends).await;
    let refused = results.iter().filter(|result| matches!(result, Err(Error::Unavailable { .. }))).count();
    assert!(refused > 100, "{refused}");
    let written = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!((written + refused, log.last_sequence().await.unwrap()), (200, written as u64));
}

fn large(name: String, bytes: usize) -> Append {
    Append { payload: vec![b'x'; bytes].into(), ..append(&name, Guard::Last(0)) }
}

/// What is handed to the broker at once must be written before its acknowledgement is given up.
#[tokio::test(start_paused = true)]
async fn large_messages_are_under_way_a_few_at_a_time() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    let appends: Vec<Append> = (0..60).map(|number| large(number.to_string(), 1 << 20)).collect();
    let results = all_at_once(&committer, appends.clone()).await;
    agrees(&log, &appends, &results).await;
    assert!(results.iter().all(Result::is_ok));
    let most = log.bytes.lock().unwrap().1;
    assert!(most <= ALONE_BYTES_MAX + BATCH_BYTES_MAX, "{most} bytes at once");
    // One that is larger than all bounds goes when nothing else does, and small ones do not keep it from going.
    let mut appends: Vec<Append> = (0..300).map(|number| large(format!("s{number}"), 1_000)).collect();
    appends.insert(150, large("huge".to_string(), 2 * ALONE_BYTES_MAX));
    let results = all_at_once(&committer, appends).await;
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_for_his_bytes_is_told_at_once() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    let appends: Vec<Append> = (0..400).map(|number| large(number.to_string(), 1 << 20)).collect();
    let results = all_at_once(&committer, appends).await;
    let refused = results.iter().filter(|result| matches!(result, Err(Error::Unavailable { .. }))).count();
    assert!(refused > 200, "{refused}");
    let written = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!((written + refused, log.last_sequence().await.unwrap()), (400, written as u64));
}

#[tokio::test(start_paused = true)]
async fn who_may_stand_in_the_log_is_never_told_that_nothing_was_written() {
    let log = MemoryLog::new("IDENTITY", Faults::default());
    let log = Slow::with(log, 1, Duration::from_millis(1_500));
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    let deadline = Instant::now() + Duration::from_secs(1);
    let write = |number: usize| {
        let committer = committer.clone();
        let append = append(&number.to_string(), Guard::Last(0));
        tokio::spawn(async move { committer.append(append, deadline).await })
    };
    let running: Vec<_> = (0..100).map(write).collect();
    for result in futures::future::join_all(running).await {
        assert!(matches!(result.unwrap(), Ok(_) | Err(Error::Unknown { .. })));
    }
    assert_eq!(log.last_sequence().await.unwrap(), 100);
}

/// All places are one tenant's: whoever has none gets one of them, and its writer is told that nothing was written.
#[tokio::test(start_paused = true)]
async fn nobody_is_kept_out_by_anothers_thousands() {
    let log = Slow::with(MemoryLog::new("IDENTITY", Faults::default()), usize::MAX, Duration::from_millis(4));
    let committer = Arc::new(Committer::new(log, 4));
    let deadline = Instant::now() + Duration::from_secs(10);
    let write = |tenant: &str| {
        let subject = format!("identity.{tenant}.User.one");
        let append = Append { subject, ..append("", Guard::None) };
        let guarded = Append { guard: Guard::Last(0), ..append };
        let committer = committer.clone();
        tokio::spawn(async move { committer.append(guarded, deadline).await })
    };
    // They wait for the first of them, which is under way.
    let mut crowd = Vec::new();
    for _ in 0..5 {
        crowd.push(write("crowd"));
        tokio::task::yield_now().await;
    }
    assert!(matches!(write("crowd").await.unwrap(), Err(Error::Unavailable { .. })), "no more of his");
    let few = [write("few"), write("few")];
    assert!(matches!(crowd.pop().unwrap().await.unwrap(), Err(Error::Unavailable { .. })));
    let [first, second] = few;
    assert!(first.await.unwrap().is_ok());
    assert!(matches!(second.await.unwrap(), Err(Error::Conflict { .. })), "it had its turn");
    for (number, write) in crowd.into_iter().enumerate() {
        let written = write.await.unwrap();
        assert!(written.is_ok() == (number == 0), "{written:?}");
        assert!(!matches!(written, Err(Error::Unavailable { .. })), "{written:?}");
    }
}

/// Many want the same resources: of each only the first can have it, and whoever wants another one does not wait for all of
/// them to find out.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_many_whose_guards_do_not_hold() {
    let log = Slow::over(Faults::default(), usize::MAX);
    let committer = Arc::new(Committer::new(log.clone(), WAITING_MAX));
    for number in 0..60 {
        committer.append(append(&number.to_string(), Guard::Last(0)), soon()).await.unwrap();
    }
    let mut jobs = Vec::new();
    let mut answers = Vec::new();
    let mut job = |append: Append| {
        let (reply, answer) = oneshot::channel();
        let bytes = append.payload.len();
        answers.push(answer);
        jobs.push(Job {
            ticket: 0,
            appends: vec![append],
            bytes,
            deadline: soon(),
            reply,
            alone: false,
            unknown: false,
            turn: 0,
        });
    };
    (0..60).for_each(|number| job(append(&number.to_string(), Guard::Last(0))));
    job(append("other", Guard::Last(0)));
    committer.shared.together(jobs).await;
    let other = tokio::time::timeout(Duration::from_secs(1), answers.pop().unwrap()).await;
    assert_eq!(other.expect("it is written by now").unwrap().unwrap(), 61);
    for answer in answers {
        assert!(matches!(answer.await.unwrap(), Err(Error::Conflict { .. })));
    }
    let sizes = log.sizes();
    assert!(sizes.len() <= 3, "{sizes:?}");
}
