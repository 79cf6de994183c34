//! Thousands of seeds, each a process of its own: work and faults by chance, and what must be true afterwards.
//!
//! `cargo test -p street --test simulation` runs as many as a minute and a half holds; with `-- --seed 42` it runs one, with all that it
//! says, and with `-- --first 1000 --seeds 500` that many. A seed that ever failed stands in `SEEDS_FOUND` and is run first.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use eventlog::memory::Weather;
use street::simulation::{self, Report};

#[path = "simulation/chance.rs"]
mod chance;

/// Seeds that found something once; what, is in the history of the code that was mended.
const SEEDS_FOUND: [u64; 27] = [
    4, 9, 11, 15, 36, 64, 86, 98, 114, 137, 145, 199, 210, 306, 490, 966, 1015, 1229, 1230, 1234, 1372, 1674,
    1821, 1868, 351, 2188, 3241,
];
/// How many more are run at least, and at most.
const SEEDS: std::ops::Range<u64> = 150..2000;
/// Between these two numbers, for how long.
const TIME: Duration = Duration::from_secs(90);
/// A run that takes longer than this hangs.
const RUN_MAX: Duration = Duration::from_secs(120);
/// Seeds of which one at least must notice a broken broker.
const BROKEN_SEEDS: u64 = 48;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str| text(name)?.parse::<u64>().ok();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if let Some(seed) = number("--seed") {
        return one(seed, &text("--weather").unwrap_or_default(), !has("--quiet"));
    }
    if has("--list") {
        return ExitCode::SUCCESS;
    }
    let mut wrong = Vec::new();
    if let Some(count) = number("--seeds") {
        wrong.extend(many(&[], number("--first").unwrap_or(1), count..count));
    } else {
        wrong.extend(repeated());
        wrong.extend(broken(
            "forgetful",
            &["stands in the log 0 times", "nobody is there at", "that was never true"],
        ));
        wrong.extend(broken("unguarded", &["have the userName"]));
        wrong.extend(many(&SEEDS_FOUND, 1, SEEDS));
    }
    let mut out = std::io::stdout().lock();
    for sentence in wrong.iter().take(6) {
        let _ = writeln!(out, "{sentence}\n");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The weather of a name. Two of them break what a broker promises.
fn weather(name: &str) -> Weather {
    match name {
        "forgetful" => Weather { forgotten: 100, ..Weather::storm() },
        "unguarded" => Weather { unguarded: 700, ..Weather::storm() },
        _ => Weather::storm(),
    }
}

/// One seed in this process.
fn one(seed: u64, name: &str, talkative: bool) -> ExitCode {
    if talkative {
        let filter = "info,gateway=debug,dispatcher=debug,projector=debug,eventlog=debug";
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    }
    chance::decide_by(seed);
    let weather = weather(name);
    let (sender, ended) = mpsc::channel();
    // What a thread drew before its chance was decided would stay with it.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let report = runtime.expect("a runtime").block_on(simulation::run(seed, weather));
        let _ = sender.send(report);
    });
    let mut out = std::io::stdout().lock();
    let report = match ended.recv_timeout(RUN_MAX) {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(out, "seed {seed}: it panicked or hangs ({error})");
            return ExitCode::FAILURE;
        }
    };
    let Report { wrong, digest, events, requests, kills, calls } = report;
    for sentence in &wrong {
        let _ = writeln!(out, "seed {seed}: {sentence}");
    }
    let (requests, done) = requests;
    let _ = writeln!(
        out,
        "seed {seed}: digest {digest}, {events} events, {requests} requests, {done} successes, {kills} kills, {calls} calls"
    );
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a seed's process says, and whether nothing was wrong.
fn run(seed: u64, name: &str) -> (String, bool) {
    let program = std::env::current_exe().expect("this program");
    let arguments = ["--seed", &seed.to_string(), "--weather", name, "--quiet"];
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("a run");
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.success())
}

/// A seed decides everything.
fn repeated() -> Option<String> {
    let differs = |seed: &u64| run(*seed, "storm") != run(*seed, "storm");
    (1..=3).find(differs).map(|seed| format!("seed {seed} gives another log the second time"))
}

/// A simulation that does not notice a broker that breaks its promises is worth nothing.
fn broken(name: &str, sentences: &[&str]) -> Option<String> {
    let noticed = |seed| {
        let (text, fine) = run(seed, name);
        !fine && sentences.iter().any(|sentence| text.contains(sentence))
    };
    let missed = !(1..=BROKEN_SEEDS).any(noticed);
    missed.then(|| format!("a broker that is {name} is not noticed within {BROKEN_SEEDS} seeds"))
}

/// What failed of the seeds that were found and of as many more as there is time for.
fn many(found: &[u64], first: u64, count: std::ops::Range<u64>) -> Vec<String> {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let take = || {
        let number = next.fetch_add(1, Ordering::SeqCst);
        if let Some(seed) = found.get(usize::try_from(number).unwrap_or(usize::MAX)) {
            return Some(*seed);
        }
        let number = number - found.len() as u64;
        let time = number < count.start || number < count.end && begun.elapsed() < TIME;
        time.then_some(first + number)
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = take() {
                    let (text, fine) = run(seed, "storm");
                    if !fine {
                        failed.lock().expect("no panic").push((seed, text));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("no panic");
    failed.sort();
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    let ran = next.load(Ordering::SeqCst).saturating_sub(threads as u64);
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{ran} seeds in {} s, failed: {seeds:?}", begun.elapsed().as_secs());
    let alone = "run it alone: cargo test -p street --test simulation -- --seed";
    failed.into_iter().map(|(seed, text)| format!("{text}{alone} {seed}")).collect()
}
