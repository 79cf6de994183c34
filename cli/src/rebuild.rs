//! `rollcall projector rebuild`: a projection built from nothing but the log, and what it answers, in short.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eventlog::{Broker, Keyring, nats};
use projector::{Config, Moment, Projection, Storage};
use tokio_util::sync::CancellationToken;

use crate::args::Rebuild;
use crate::backup::{Folder, broker, stop};
use crate::node::told_to_stop;
use crate::output::print;
use crate::progress::{Progress, bar};
use crate::settings::Settings;
use crate::{Failure, at};

/// How often it is looked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long closing the store may take.
const CLOSE_MAX: Duration = Duration::from_secs(60);

pub(crate) async fn run(settings: &Settings, rebuild: Rebuild) -> Result<(), Failure> {
    let folder = folder(settings, &rebuild)?;
    let (config, server) = broker(settings, Folder::Filled, "build from").await?;
    let done = build(settings, &config, &folder, &rebuild).await;
    stop(server).await;
    done
}

/// Where it is built; refused when that could hurt somebody.
fn folder(settings: &Settings, rebuild: &Rebuild) -> Result<PathBuf, Failure> {
    let own = settings.projection_folder();
    let Some(folder) = &rebuild.folder else {
        if rebuild.to.is_some() {
            return Err(to_needs_a_folder(&own));
        }
        if Storage::Folder(own.clone()).is_held() {
            return Err(Failure::new(format!(
                "a running process holds {}: stop it first (Ctrl-C where it runs, or SIGTERM to the rollcall that was started \
                 with --data-dir {}), or build a second projection beside it with --folder DIR",
                own.display(),
                settings.data_dir.display()
            )));
        }
        return Ok(own);
    };
    if rebuild.to.is_some() && is_same(folder, &own) {
        return Err(to_needs_a_folder(&own));
    }
    let is_empty = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(Failure::of(format_args!("--folder {}", folder.display()), &error)),
    };
    if !is_empty {
        return Err(Failure::new(format!(
            "--folder {}: it is not empty. Name one that is empty or does not exist; without --folder the projection of \
             the data folder is dropped and built again",
            folder.display()
        )));
    }
    Ok(folder.clone())
}

fn to_needs_a_folder(own: &Path) -> Failure {
    Failure::new(format!(
        "--to needs a folder of its own (--folder DIR): a node that found half a projection in {} would have to read the \
         rest before it answers",
        own.display()
    ))
}

/// Whether two names mean one folder, which need not exist.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_path_buf())
    };
    real(one) == real(other)
}

async fn build(
    settings: &Settings,
    config: &nats::Config,
    folder: &Path,
    rebuild: &Rebuild,
) -> Result<(), Failure> {
    let master = settings.present_master_key()?;
    let broker = nats::connect(config).await.map_err(|error| Failure::of("connecting", &error))?;
    // Before anything is dropped for a key that opens nothing.
    eventlog::read_subject_secret(&broker, &master)
        .await
        .map_err(|error| Failure::of("reading the subject secret", &error))?;
    let last =
        broker.identity.last_sequence().await.map_err(|error| Failure::of("asking the log", &error))?;
    let target = rebuild.to.unwrap_or(last);
    if target > last {
        return Err(Failure::new(format!(
            "--to {target} is not reached yet: the log ends at sequence {last}"
        )));
    }
    if rebuild.folder.is_none() {
        drop_rows(folder)?;
    }
    let keyring = Keyring::new(broker.keys.clone(), master);
    let config = settings.projection(folder.to_path_buf(), Some(target), &broker);
    let mut progress = Progress::start(false);
    let projection = open(settings, &config, &broker, &keyring).await?;
    let reached = fill(&projection, target, &mut progress).await?;
    let took = progress.elapsed();
    drop(projection);
    closed(&config.storage).await?;
    // What counts is what stands in the folder.
    let projection = open(settings, &config, &broker, &keyring).await?;
    if projection.applied() != reached {
        return Err(Failure::new(format!(
            "{} could not be written up to sequence {reached}: is there room on the disk?",
            folder.display()
        )));
    }
    print(&format!("Built {} from {reached} events in {:.1} s.", folder.display(), took.as_secs_f64()));
    if reached < target {
        print(&format!(
            "Sequence {target} stands within a command that goes on after it; the one before ends at {reached}."
        ));
    }
    tell(&projection, &mut progress).await
}

/// Waits until the store is closed, whose threads end a little later.
async fn closed(storage: &Storage) -> Result<(), Failure> {
    let begun = Instant::now();
    while storage.is_held() {
        if begun.elapsed() > CLOSE_MAX {
            return Err(Failure::new(format!(
                "{storage} is built, and cannot be opened again to be looked at"
            )));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

fn drop_rows(folder: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::of(format_args!("dropping {}", folder.display()), &error)),
    }
}

async fn open(
    settings: &Settings,
    config: &Config,
    broker: &Broker,
    keyring: &Keyring,
) -> Result<Projection, Failure> {
    let (log, registry) = (broker.identity.clone(), settings.registry.clone());
    Projection::open(config.clone(), log, keyring.clone(), registry)
        .await
        .map_err(|error| Failure::of("opening the projection", &error))
}

/// Applies every whole command up to the last sequence, and has it written; returns where the last one ends.
async fn fill(projection: &Projection, target: u64, progress: &mut Progress) -> Result<u64, Failure> {
    let shutdown = CancellationToken::new();
    let (running, stop) = (projection.clone(), shutdown.clone());
    let mut task = tokio::spawn(async move { running.run(stop).await });
    let mut interrupted = Box::pin(told_to_stop());
    let mut signal = None;
    let ended = loop {
        tokio::select! {
            ended = &mut task => break ended,
            name = &mut interrupted, if signal.is_none() => {
                signal = Some(name?);
                shutdown.cancel();
            }
            () = tokio::time::sleep(LOOK_INTERVAL) => {
                let terminal = progress.is_terminal();
                progress.tell_of(|elapsed| bar(projection.applied(), target, elapsed, terminal));
            }
        }
    };
    progress.end();
    match ended {
        Ok(result) => result.map_err(|error| Failure::of("building the projection", &error))?,
        Err(error) => return Err(Failure::of("building the projection", &error)),
    }
    match signal {
        None => Ok(projection.applied()),
        Some(name) => Err(Failure::new(format!(
            "stopped by {name} at {} of {target} events; the next start reads the rest from the log",
            projection.applied()
        ))),
    }
}

/// Position, resources and digest of every tenant.
async fn tell(projection: &Projection, progress: &mut Progress) -> Result<(), Failure> {
    for tenant in projection.counts().into_keys() {
        let digest = projection
            .digest(&tenant, Moment::NOW, |done, of| {
                progress.tell(|| format!("digest of tenant {tenant}: {done} of {of} resources"));
            })
            .await
            .map_err(|error| Failure::of("reading the projection", &error))?;
        progress.end();
        let time = projection.stands_at(&tenant, Moment::NOW).map(|(_, time)| at::shown(time));
        let (Some(digest), Some(time)) = (digest, time) else { continue };
        print(&format!(
            "Tenant {tenant}: position {} ({time}), {} resources, sha256 {}",
            digest.sequence,
            digest.resources,
            data_encoding::HEXLOWER.encode(&digest.sha256)
        ));
    }
    Ok(())
}
