//! Applying from nothing, from a file and from a broker, and opening what was applied: each in a process of its own.

use std::path::Path;
use std::time::Instant;

use eventlog::server::{self, Server};

use super::child::{Directory, FILE, Told};
use super::population::MEMBERSHIPS;
use super::{fill, table};

/// From a file; leaves the directory in `folder`.
pub(crate) fn apply(work: &Path, folder: &Path, users: usize) {
    table::head("apply from memory, into a folder");
    let (told, stored) = whole(work, folder, FILE);
    show(&told, users, "60,000/s");
    table::plain("until the store has everything", &seconds(stored.stored_s));
    memory("resident, everything applied", &told);
    memory("resident, everything stored", &stored);
}

/// From a broker that holds the same.
pub(crate) fn rebuild(work: &Path, folder: &Path, users: usize) {
    table::head("rebuild from JetStream");
    let broker = tempfile::tempdir_in(work).expect("a temporary folder");
    let server = start(broker.path());
    let begun = Instant::now();
    let count = fill::fill(server.url(), work);
    let took = begun.elapsed().as_secs_f64();
    table::plain("published", &format!("{count} in {took:.1} s"));
    let (told, stored) = whole(work, folder, server.url());
    server.stop();
    show(&told, users, "40,000/s");
    table::plain("until the store has everything", &seconds(stored.stored_s));
    memory("resident, everything applied", &told);
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
}

/// After a clean stop, and after a kill at the end of applying; leaves the directory in `folder`.
pub(crate) fn open(work: &Path, folder: &Path) {
    table::head("open");
    if !folder.exists() {
        whole(work, folder, FILE);
    }
    opened("after a clean stop", work, folder, "3 s");
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
    let mut directory = Directory::start(work, folder, FILE);
    directory.told();
    directory.kill();
    opened("after kill -9", work, folder, "12 s");
}

fn opened(title: &str, work: &Path, folder: &Path, asked: &str) {
    let mut directory = Directory::start(work, folder, FILE);
    let told = directory.told();
    directory.stop();
    table::row(&format!("{title}: open returns"), &seconds(told.opened_s), asked);
    let caught_up = told.opened_s + told.applied_s;
    table::row(&format!("{title}: caught up ({} events missed)", told.events), &seconds(caught_up), asked);
    memory(&format!("{title}: resident"), &told);
}

/// Applies everything and stops cleanly; what it told before and after.
fn whole(work: &Path, folder: &Path, log: &str) -> (Told, Told) {
    let mut directory = Directory::start(work, folder, log);
    let told = directory.told();
    let stored = directory.stop();
    (told, stored)
}

fn show(told: &Told, users: usize, asked: &str) {
    let Told { events, part, .. } = told;
    table::rate(&format!("all {events} events"), *events as f64 / told.applied_s, asked);
    table::rate(&format!("the first {part}"), told.first_rate, asked);
    table::rate(&format!("the last {part} before the groups"), told.last_rate, asked);
    let memberships = (users * MEMBERSHIPS) as f64;
    table::plain("memberships of the groups, at the end", &format!("{:.0}/s", memberships / told.groups_s));
}

fn memory(title: &str, told: &Told) {
    let figure = format!("{:.0} MB", told.resident_mb);
    table::row(title, &figure, &format!("1,500 MB at a million (at its highest {:.0} MB)", told.peak_mb));
    let parts = told.parts.iter().map(|(name, bytes)| format!("{name} {:.0}", *bytes as f64 / 1e6));
    table::plain("of it the directory, in MB", &parts.collect::<Vec<_>>().join(", "));
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn start(folder: &Path) -> Server {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let binary = server::find(None, &search_path.to_string_lossy()).expect("there is a nats-server");
    Server::start(&server::Config {
        binary,
        folder: folder.to_path_buf(),
        port: 0,
        processors: Some(server::processors()),
    })
    .expect("the broker starts")
}
