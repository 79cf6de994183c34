//! `rollcall backup` and `rollcall restore`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use eventlog::nats::{self, Backup, Progress};
use eventlog::server::{self, Server};

use crate::args::{self, BackupCommand};
use crate::failure::causes;
use crate::node::told_to_stop;
use crate::output::print;
use crate::settings::Settings;
use crate::up::start_server;
use crate::{Failure, dev_env};

/// How often a stream that takes long says how far it is.
const TOLD_INTERVAL: Duration = Duration::from_secs(2);
/// How long a broker that may have died may take to answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn run(settings: &Settings, command: args::Backup) -> Result<(), Failure> {
    match (command.command, command.to) {
        (Some(BackupCommand::Verify { folder }), _) => verify(&folder).await,
        (None, Some(to)) => take(settings, &to).await,
        (None, None) => Err(Failure::new("backup: name the folder with --to")),
    }
}

async fn take(settings: &Settings, to: &Path) -> Result<(), Failure> {
    let (config, server) = broker(settings, Folder::Filled, "back up").await?;
    let lines = Lines::default();
    let told = |progress: Progress<'_>| lines.tell(progress);
    let taken = tokio::select! {
        taken = nats::backup(&config, to, &told) => taken.map_err(|error| Failure::new(causes(&error))),
        name = told_to_stop() => match name {
            Ok(name) => Err(Failure::new(format!("stopped by {name}: there is no backup, and nothing of it is left"))),
            Err(failure) => Err(failure),
        },
    };
    stop(server).await;
    let backup = taken?;
    let manifest = &backup.manifest;
    print(&format!("Backup {} is in {}, taken at {}.", backup.id, to.display(), manifest.begun_at));
    tell(&backup);
    print("");
    print("The master key is NOT in it, and without the master key nothing in it can be read.");
    print(&format!(
        "Keep {} (or the value of ROLLCALL_MASTER_KEY) in another safe place than the backup.",
        settings.data_dir.join("master.key").display()
    ));
    match settings.known_master_key()? {
        None => {
            print(
                "Whether you have it was not checked: there is none in the data folder and none was given.",
            );
        }
        Some(master) => match manifest.check_master(&master) {
            Ok(()) => {
                print("The master key that is there now opens this backup.");
            }
            Err(error) => return Err(Failure::new(causes(&error))),
        },
    }
    Ok(())
}

async fn verify(folder: &Path) -> Result<(), Failure> {
    let backup = whole(folder).await?;
    print(&format!(
        "Backup {} in {} is whole, taken at {}.",
        backup.id,
        folder.display(),
        backup.manifest.begun_at
    ));
    tell(&backup);
    Ok(())
}

/// A backup whose files are as they were written.
async fn whole(folder: &Path) -> Result<Backup, Failure> {
    let folder = folder.to_path_buf();
    let verified = tokio::task::spawn_blocking(move || {
        let backup = Backup::open(&folder)?;
        let lines = Lines::default();
        backup.verify(&|stream, bytes, of| {
            lines.tell(Progress { doing: "verify", stream, bytes, of, done: bytes >= of });
        })?;
        Ok::<_, eventlog::Error>(backup)
    });
    match verified.await {
        Ok(Ok(backup)) => Ok(backup),
        Ok(Err(error)) => Err(Failure::new(causes(&error))),
        Err(error) => Err(Failure::of("verifying the backup", &error)),
    }
}

pub(crate) async fn restore(settings: &Settings, restore: &args::Restore) -> Result<(), Failure> {
    let backup = whole(&restore.from).await?;
    let keys_from = match &restore.keys_from {
        None => None,
        Some(folder) => Some(whole(folder).await?),
    };
    let Some(master) = settings.known_master_key()? else {
        return Err(Failure::new(format!(
            "restoring {}: the master key is missing, which is not in a backup. Put the file master.key of the \
             installation into {}, or give it with ROLLCALL_MASTER_KEY",
            restore.from.display(),
            settings.data_dir.display()
        )));
    };
    // Before a broker is started for nothing.
    backup.manifest.check_master(&master).map_err(|error| Failure::new(causes(&error)))?;
    let (config, server) = broker(settings, Folder::Empty, "restore").await?;
    let lines = Lines::default();
    let told = |progress: Progress<'_>| lines.tell(progress);
    let restored = tokio::select! {
        restored = nats::restore(&config, &backup, keys_from.as_ref(), &master, &told) => {
            restored.map_err(|error| Failure::new(causes(&error)))
        }
        name = told_to_stop() => match name {
            Ok(name) => Err(Failure::new(format!(
                "stopped by {name}: the restore is not finished, and no process works with what there is of it. Run the same \
                 command again, which begins anew"
            ))),
            Err(failure) => Err(failure),
        },
    };
    stop(server).await;
    restored?;
    print(&format!("Backup {} of {} is restored:", backup.id, backup.manifest.begun_at));
    tell(&backup);
    print("");
    print("Counts, last sequences, last ids and settings are those of the backup; the master key opens it.");
    print("Start rollcall now. Apps are planned again, each account is read before it is changed.");
    print(
        "Feeds stop until after_restore = \"go_on\" is set: their subscribers may have heard what never happened.",
    );
    print("Tokens that were revoked after the backup work again: revoke them again.");
    if keys_from.is_none() {
        print("People who were erased after the backup must be erased again (or restore with --keys-from).");
    }
    Ok(())
}

/// The numbers of each stream.
fn tell(backup: &Backup) {
    for entry in &backup.manifest.streams {
        print(&format!(
            "  {:<16} {:>9} messages, last sequence {:>9}, {:>10}",
            entry.name,
            entry.messages,
            entry.last_sequence,
            size(entry.bytes)
        ));
    }
    print(&format!("  {:<16} {}", "together", size(backup.manifest.bytes())));
}

/// What must be in the data folder when we start its broker ourselves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folder {
    Filled,
    Empty,
}

/// The broker that was named, else the one that runs on the data folder, else that folder's, started for now.
pub(crate) async fn broker(
    settings: &Settings,
    folder: Folder,
    what: &str,
) -> Result<(nats::Config, Option<Server>), Failure> {
    let noted = dev_env::read(&settings.data_dir, "NATS_URL");
    if settings.nats.url.is_some() || noted.is_some_and(|url| is_there(&url)) {
        return Ok((settings.broker_config(None)?, None));
    }
    let store = settings.data_dir.join("nats");
    if folder == Folder::Filled && !store.join("jetstream").is_dir() {
        return Err(Failure::new(format!(
            "there is nothing to {what}: no rollcall runs on {0}, and {0} has no store of a managed broker. Name the \
             data folder with --data-dir, or a broker with --nats",
            settings.data_dir.display()
        )));
    }
    let server = start_server(settings, 0).await?;
    Ok((settings.broker_config(Some(server.url()))?, Some(server)))
}

/// Whether the broker that the folder's process works with is not for us to start: one that was named, whatever store the
/// folder has of former times, or its own that listens. After a crash the file still names the one that died.
fn is_there(url: &str) -> bool {
    !server::is_managed(url) || listens(url)
}

/// Whether something listens where a managed broker did.
fn listens(url: &str) -> bool {
    let host = url.rsplit('@').next().unwrap_or_default();
    let addresses = host.to_socket_addrs().into_iter().flatten();
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, LOOK_TIMEOUT).is_ok())
}

pub(crate) async fn stop(server: Option<Server>) {
    if let Some(server) = server {
        let _ = tokio::task::spawn_blocking(move || server.stop()).await;
    }
}

/// Lines about progress, on the error output, so that the summary can be kept.
#[derive(Default)]
struct Lines(Mutex<BTreeMap<String, Instant>>);

impl Lines {
    fn tell(&self, progress: Progress<'_>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = told.entry(progress.stream.to_string()).or_insert_with(Instant::now);
        if !progress.done && last.elapsed() < TOLD_INTERVAL {
            return;
        }
        *last = Instant::now();
        let _ = writeln!(std::io::stderr(), "{}", line(progress));
    }
}

fn line(progress: Progress<'_>) -> String {
    let Progress { doing, stream, bytes, of, done } = progress;
    if done {
        return format!("{doing} {stream}: {}, done", size(bytes));
    }
    let percent = (bytes.saturating_mul(100) / of.max(1)).min(99);
    format!("{doing} {stream}: {}, {percent} %", size(bytes))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The store that a folder has of former times is not what runs.
    #[test]
    fn a_broker_that_was_named_is_asked_although_the_folder_may_have_a_store() {
        let own = format!("nats://rollcall:{}@127.0.0.1", "0".repeat(48));
        for other in [
            "nats://rollcall:other@127.0.0.1:9",
            &format!("{own}:9,{own}:19"),
            "nats://u:p@127.0.0.1:9,nats://u:p@127.0.0.1:19",
            "tls://broker.example.com",
            "nats://broker.example.com:4222",
        ] {
            assert!(is_there(other), "{other}");
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = format!("{own}:{}", listener.local_addr().unwrap().port());
        assert!(is_there(&own));
        drop(listener);
        assert!(!is_there(&own));
    }

    #[test]
    fn lines_say_how_far_it_is() {
        let progress = Progress { doing: "restore", stream: "IDENTITY", bytes: 1536, of: 3072, done: false };
        assert_eq!(line(progress), "restore IDENTITY: 1.5 KiB, 50 %");
        // What is packed may take more room than what was counted, and still is not done.
        assert_eq!(line(Progress { of: 0, ..progress }), "restore IDENTITY: 1.5 KiB, 99 %");
        assert_eq!(line(Progress { done: true, ..progress }), "restore IDENTITY: 1.5 KiB, done");
    }
}
