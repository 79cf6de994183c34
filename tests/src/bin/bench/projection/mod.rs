//! What the directory costs, at a size: applying, rebuilding, opening, asking it inside the process and over HTTP.
//! Words narrow it down: a number of users, and the names of [`SECTIONS`].

mod applied;
mod asks;
mod changes;
mod child;
mod feed;
mod fill;
mod gets;
mod inside;
mod keys;
mod population;
mod questions;
mod sealed;
mod served;
mod table;
mod time;
mod web;

use std::path::Path;
use std::time::Instant;

use eventlog::Keyring;
use eventlog::memory::{self, Faults};
use proto::subject::SubjectSecret;

pub(crate) use child::{ROLE as HOLD, hold};
use population::Population;
pub(crate) use served::{ROLE as SERVE, serve};

/// How many users there are when nothing else is said.
const USERS: usize = 100_000;
const MILLION: usize = 1_000_000;

/// What can be named; `inside` is all that is asked inside the process.
const SECTIONS: [&str; 9] =
    ["apply", "rebuild", "open", "gets", "questions", "changes", "time", "inside", "web"];
/// What `inside` means.
const INSIDE: [&str; 4] = ["gets", "questions", "changes", "time"];

pub(crate) fn run(words: &[String]) {
    sized(USERS, words);
}

pub(crate) fn run_million(words: &[String]) {
    sized(MILLION, words);
}

fn sized(users: usize, words: &[String]) {
    let number = words.iter().find_map(|word| word.parse().ok());
    let named: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| word.parse::<usize>().is_err()).collect();
    if let Some(unknown) = named.iter().find(|word| !SECTIONS.contains(word)) {
        eprintln!("{unknown:?} is no part of it; there are {}", SECTIONS.join(", "));
        std::process::exit(2);
    }
    let wanted = |section: &str| {
        let whole = named.contains(&"inside") && INSIDE.contains(&section);
        named.is_empty() || whole || named.contains(&section)
    };
    let population = Population::new(number.unwrap_or(users));
    let work = tempfile::tempdir().expect("a temporary folder");
    let folder = work.path().join("directory");
    if SECTIONS.iter().any(|section| *section != "web" && wanted(section)) {
        write(work.path(), &population);
    }
    if wanted("apply") {
        applied::apply(work.path(), &folder, population.users);
    }
    if wanted("open") {
        applied::open(work.path(), &folder);
    }
    if wanted("rebuild") {
        applied::rebuild(work.path(), &work.path().join("rebuilt"), population.users);
    }
    if INSIDE.iter().any(|section| wanted(section)) {
        inside::run(work.path(), &folder, &population, wanted);
    }
    drop(work);
    if wanted("web") {
        web::run(&population);
    }
}

/// The population, into a folder with its keys.
fn write(work: &Path, population: &Population) {
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let broker = memory::broker(Faults::default());
        let keyring = Keyring::new(broker.keys.clone(), keys::master());
        sealed::write(work, population, &keyring, &SubjectSecret::new([9; 32])).await;
        keys::write(work, &*broker.keys).await;
    });
    let size = std::fs::metadata(work.join("messages")).expect("it is written").len();
    println!(
        "{} users of {} bytes of JSON, {} groups, {:.0} MB of events, made in {:.1} s; client, directory and broker share this machine",
        population.users,
        serde_json::Value::Object(population.user(population.users / 2)).to_string().len(),
        population.groups(),
        size as f64 / 1e6,
        begun.elapsed().as_secs_f64()
    );
}
