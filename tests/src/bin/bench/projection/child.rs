//! A directory in a process of its own, so that its memory is its own and it can be killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use eventlog::{Log, nats};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::asks::Asks;
use super::feed::Feed;
use super::keys;
use super::sealed::Sealed;

/// The word that makes this program a directory.
pub(crate) const ROLE: &str = "hold-directory";
/// The word for the log in a file; anything else is a broker's URL.
pub(crate) const FILE: &str = "file";
/// Events of the first and of the last part, at most; never more than a tenth.
const PART: u64 = 100_000;

/// What it tells once everything is applied, and again once everything is stored. Seconds, counted from the begin of
/// `open` or of `run`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Told {
    pub(crate) opened_s: f64,
    /// Events that were applied.
    pub(crate) events: u64,
    pub(crate) applied_s: f64,
    /// People in the first and in the last part, about.
    pub(crate) part: u64,
    /// Events a second in each of them.
    pub(crate) first_rate: f64,
    pub(crate) last_rate: f64,
    /// From about the last person to the last group.
    pub(crate) groups_s: f64,
    /// Until the store had everything.
    pub(crate) stored_s: f64,
    pub(crate) resident_mb: f64,
    pub(crate) peak_mb: f64,
    /// What the directory itself takes, part by part, in bytes.
    pub(crate) parts: Vec<(String, usize)>,
}

impl Told {
    /// From how far it was at which second. Many events become visible at once, so parts end where something was seen.
    fn measure(&mut self, seen: &[(u64, f64)], users: u64) {
        let from = seen.first().copied().unwrap_or_default();
        let end = seen.last().copied().unwrap_or_default();
        let before = |applied: u64| {
            let place = seen.partition_point(|(seen, _)| *seen <= applied);
            place.checked_sub(1).and_then(|place| seen.get(place)).copied().unwrap_or(from)
        };
        let rate = |from: (u64, f64), to: (u64, f64)| match to.0.checked_sub(from.0) {
            None | Some(0) => 0.0,
            Some(events) => events as f64 / (to.1 - from.1),
        };
        let people = before(users);
        self.applied_s = end.1;
        self.first_rate = rate(from, before(from.0 + self.part));
        self.last_rate = rate(before(users.saturating_sub(self.part)), people);
        self.groups_s = end.1 - people.1;
    }
}

/// A child that runs; killed when dropped.
pub(crate) struct Directory {
    child: Child,
    told: BufReader<std::process::ChildStdout>,
}

impl Directory {
    /// Starts on a population in `work`, with its rows in `folder`.
    pub(crate) fn start(work: &Path, folder: &Path, log: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .arg(ROLE)
            .args([work, folder])
            .arg(log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the directory starts");
        let told = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, told }
    }

    /// What it tells next.
    pub(crate) fn told(&mut self) -> Told {
        let mut line = String::new();
        self.told.read_line(&mut line).expect("the directory tells");
        serde_json::from_str(&line).expect("the directory goes well")
    }

    /// Has it stop cleanly; what it told once everything was stored.
    pub(crate) fn stop(mut self) -> Told {
        drop(self.child.stdin.take());
        let told = self.told();
        assert!(self.child.wait().expect("the child can be waited for").success());
        told
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child can be waited for");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens, applies everything, tells; stops when its input ends, and tells again.
pub(crate) fn hold(work: &str, folder: &str, log: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let log: Arc<dyn Log> = if log == FILE {
            Arc::new(Feed::open(Path::new(work)))
        } else {
            let config = nats::Config { url: log.to_string(), ..nats::Config::default() };
            nats::connect(&config).await.expect("the broker listens").identity
        };
        let last = log.last_sequence().await.expect("the log has an end");
        let users = Sealed::open(Path::new(work)).users;
        let keyring = keys::open(Path::new(work));
        let mut told = Told::default();

        let begun = Instant::now();
        let asks = Asks::open(Path::new(folder), log, keyring).await;
        told.opened_s = begun.elapsed().as_secs_f64();

        let from = asks.projection.applied();
        told.events = last - from;
        told.part = (told.events / 10).clamp(1, PART);
        let shutdown = CancellationToken::new();
        let mut applied = asks.projection.watch();
        let (projection, token) = (asks.projection.clone(), shutdown.clone());
        let begun = Instant::now();
        let running = tokio::spawn(async move { projection.run(token).await });
        let mut seen = vec![(from, 0.0)];
        while seen.last().is_some_and(|(applied, _)| *applied < last) {
            applied.changed().await.expect("the directory runs");
            seen.push((*applied.borrow_and_update(), begun.elapsed().as_secs_f64()));
        }
        told.measure(&seen, users);
        // As the program does once it has caught up.
        allocator::give_back();
        (told.resident_mb, told.peak_mb) = memory();
        told.parts = asks.parts();
        println!("{}", serde_json::to_string(&told).expect("JSON"));

        let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
        ended.await.expect("its input ends");
        let begun = Instant::now();
        shutdown.cancel();
        running.await.expect("it ends").expect("it went well");
        told.stored_s = told.applied_s + begun.elapsed().as_secs_f64();
        (told.resident_mb, told.peak_mb) = memory();
        println!("{}", serde_json::to_string(&told).expect("JSON"));
    });
}

/// Resident memory now and at its highest, in megabytes of a million bytes.
fn memory() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
        kibibytes.unwrap_or_default() * 1024.0 / 1e6
    };
    (field("VmRSS"), field("VmHWM"))
}
