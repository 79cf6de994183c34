//! Thousands of seeds, each a process of its own: work and faults by chance, and what must be true afterwards.
//!
//! `cargo test -p street --test simulation` runs them all, `cargo test -p street --test simulation -- --seed 42` one of
//! them, with all that it says. A seed that ever failed stands in `SEEDS_FOUND` and is run first.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eventlog::memory::Weather;
use street::simulation::{self, Report};

#[path = "simulation/chance.rs"]
mod chance;

/// Seeds that found something once.
const SEEDS_FOUND: [u64; 0] = [];
/// How many more are run.
const SEEDS: u64 = 1000;
/// A run that takes longer than this hangs.
const RUN_MAX: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    if let Some(seed) = after("--seed") {
        let weather = arguments.iter().position(|argument| argument == "--weather");
        let weather = weather.and_then(|at| arguments.get(at + 1)).map_or("storm", String::as_str);
        return one(seed, weather, !arguments.iter().any(|argument| argument == "--quiet"));
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    all(after("--first").unwrap_or(1), after("--seeds").unwrap_or(SEEDS))
}

/// The weather of a name. The last two break what a broker promises, so their runs must fail.
fn weather(name: &str) -> Weather {
    match name {
        "forgetful" => Weather { forgotten: 30, ..Weather::storm() },
        "unguarded" => Weather { unguarded: 500, ..Weather::storm() },
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
    // What a thread drew before its chance was decided would stay with it.
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(simulation::run(seed, weather))
    });
    let Ok(report) = running.join() else { return ExitCode::FAILURE };
    let Report { wrong, digest, events, requests, kills, calls } = report;
    let mut out = std::io::stdout().lock();
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
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = child.and_then(std::process::Child::wait_with_output).expect("a run");
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.success())
}

fn all(first: u64, count: u64) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let found = SEEDS_FOUND.len() as u64;
                    let seed = match SEEDS_FOUND.get(usize::try_from(number).unwrap_or(usize::MAX)) {
                        Some(seed) => *seed,
                        None if number - found < count => first + number - found,
                        None => break,
                    };
                    let (text, fine) = run(seed, "storm");
                    if !fine {
                        failed.lock().expect("no panic").push((seed, text));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    let mut out = std::io::stdout().lock();
    for (seed, text) in failed.iter().take(5) {
        let _ =
            writeln!(out, "{text}\nrun it alone: cargo test -p street --test simulation -- --seed {seed}\n");
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    let _ = writeln!(out, "{count} seeds in {:?}, failed: {seeds:?}", begun.elapsed());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
