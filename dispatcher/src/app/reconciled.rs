//! When an app was reconciled and what came of it; kept in the bucket LEASES, where it is asked for as well.

use eventlog::{Bucket, Error, clock};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checks::{Drifted, Findings};
use super::reconcile::next_after;
use crate::valve::{self, Record, Said};
use crate::view::{Unanswered, View};

/// How often a value is written again that somebody else changed meanwhile.
const ATTEMPTS_MAX: usize = 16;

/// One whole reconciliation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconciled {
    /// When the app was begun to be listed.
    pub begun_at: Timestamp,
    /// When everybody who was suspected had been read.
    pub ended_at: Timestamp,
    /// Why the app was not listed as a whole; then nobody was taken for missing whom the list did not show.
    pub broken: Option<String>,
    /// What was found.
    pub findings: Findings,
}

/// What is kept of an app's reconciliations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconciliation {
    /// When somebody asked for one last.
    pub asked_at: Option<Timestamp>,
    /// When the one began that goes on, if one does.
    pub running_since: Option<Timestamp>,
    /// When the next is due, unless they are switched off.
    pub next_at: Option<Timestamp>,
    /// The last one.
    pub last: Option<Reconciled>,
}

impl Reconciliation {
    /// Whether somebody asked and nobody has answered.
    pub fn is_asked_for(&self) -> bool {
        self.asked_at.is_some_and(|asked| self.last.as_ref().is_none_or(|last| last.begun_at < asked))
    }
}

impl View {
    /// Has an app reconciled, as soon as it can be.
    pub async fn reconcile(&self, name: &str, said: &Said) -> Result<Reconciliation, Unanswered> {
        let tenant = self.tenant(name)?;
        let record = Record {
            tenant,
            app: name,
            actor: &said.by,
            why: &said.why,
            operation: "reconcile",
            detail: Value::Null,
        };
        valve::record(&self.shared.broker, record).await?;
        Ok(ask(&*self.shared.broker.leases, name).await?)
    }

    /// When an app was reconciled last, and what came of it.
    pub async fn reconciliation(&self, name: &str) -> Result<Reconciliation, Unanswered> {
        self.config(name)?;
        Ok(load(&*self.shared.broker.leases, name).await?.unwrap_or_default())
    }
}

fn key(app: &str) -> String {
    format!("reconciled.{app}")
}

/// What is known of an app's reconciliations.
pub(crate) async fn load(bucket: &dyn Bucket, app: &str) -> Result<Option<Reconciliation>, Error> {
    let found = bucket.get(&key(app)).await?;
    Ok(found.map(|(bytes, _)| serde_json::from_slice(&bytes).unwrap_or_default()))
}

/// Asks whoever works for the app to reconcile it, from this time on.
async fn ask(bucket: &dyn Bucket, app: &str) -> Result<Reconciliation, Error> {
    let now = clock::now();
    change(bucket, app, |kept| kept.asked_at = Some(now)).await
}

/// Whether one is due. The first look at an app lays down when.
pub(super) async fn is_due(bucket: &dyn Bucket, app: &str, hours: u32, wanted: bool) -> Result<bool, Error> {
    let now = clock::now();
    let kept = load(bucket, app).await?.unwrap_or_default();
    if kept.is_asked_for() || wanted || kept.running_since.is_some() {
        return Ok(true);
    }
    if hours == 0 {
        return Ok(false);
    }
    match kept.next_at {
        Some(next_at) => Ok(next_at.min(next_after(now, hours)) <= now),
        None => {
            change(bucket, app, |kept| kept.next_at = Some(next_after(now, hours))).await?;
            Ok(false)
        }
    }
}

/// One begins; returns what the last one knew not to be kept by the app.
pub(super) async fn begin(bucket: &dyn Bucket, app: &str) -> Result<Vec<Drifted>, Error> {
    let kept = change(bucket, app, |kept| kept.running_since = Some(clock::now())).await?;
    Ok(kept.last.map(|last| last.findings.not_kept).unwrap_or_default())
}

/// One ended.
pub(super) async fn end(bucket: &dyn Bucket, app: &str, hours: u32, done: Reconciled) -> Result<(), Error> {
    let next_at = (hours > 0).then(|| next_after(done.begun_at, hours));
    change(bucket, app, |kept| {
        (kept.running_since, kept.next_at, kept.last) = (None, next_at, Some(done.clone()));
    })
    .await?;
    Ok(())
}

async fn change(
    bucket: &dyn Bucket,
    app: &str,
    change: impl Fn(&mut Reconciliation),
) -> Result<Reconciliation, Error> {
    let mut attempt = 0;
    loop {
        let found = bucket.get(&key(app)).await?;
        let mut kept: Reconciliation = match &found {
            Some((bytes, _)) => serde_json::from_slice(bytes).unwrap_or_default(),
            None => Reconciliation::default(),
        };
        change(&mut kept);
        let value = serde_json::to_vec(&kept).unwrap_or_default().into();
        let written = match found {
            Some((_, revision)) => bucket.update(&key(app), value, revision).await,
            None => bucket.create(&key(app), value).await,
        };
        match written {
            Ok(_) => return Ok(kept),
            Err(Error::Conflict { .. }) if attempt < ATTEMPTS_MAX => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventlog::memory;

    #[tokio::test]
    async fn one_is_due_when_asked_for_or_when_it_broke_off() {
        let bucket = memory::broker(memory::Faults::default()).leases;
        let bucket = &*bucket;
        assert!(!is_due(bucket, "wiki", 24, false).await.unwrap());
        let next_at = load(bucket, "wiki").await.unwrap().unwrap().next_at;
        assert!(next_at.is_some_and(|time| time > clock::now()));
        assert!(is_due(bucket, "wiki", 24, true).await.unwrap());
        let asked = ask(bucket, "wiki").await.unwrap().asked_at.unwrap();
        assert!(is_due(bucket, "wiki", 0, false).await.unwrap());
        begin(bucket, "wiki").await.unwrap();
        assert!(is_due(bucket, "wiki", 24, false).await.unwrap(), "it may have been interrupted");
        let done =
            Reconciled { begun_at: asked, ended_at: asked, broken: None, findings: Findings::default() };
        end(bucket, "wiki", 24, done).await.unwrap();
        assert!(!is_due(bucket, "wiki", 24, false).await.unwrap());
        assert!(!is_due(bucket, "wiki", 0, false).await.unwrap());
    }
}
