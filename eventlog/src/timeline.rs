//! Which life of the log this is. A restore from a backup begins another one: what was told to apps and subscribers
//! after the backup never happened in it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Bucket, Error};

/// Where it stands in the bucket ROLLCALL.
pub(crate) const KEY: &str = "timeline";

/// What the last restore left behind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Timeline {
    /// Another one after each restore.
    pub id: String,
    /// When it was restored.
    pub restored_at: Timestamp,
    /// When the backup was begun.
    pub backup_of: Timestamp,
    /// The last sequence of IDENTITY in the backup.
    pub identity: u64,
    /// The last sequence of PROVISIONING in the backup.
    pub provisioning: u64,
}

/// Reads it; nothing when the log was never restored.
pub(crate) async fn read(bucket: &dyn Bucket) -> Result<Option<Timeline>, Error> {
    let Some((value, _)) = bucket.get(KEY).await? else { return Ok(None) };
    let timeline = serde_json::from_slice(&value).map_err(|error| Error::Damaged {
        doing: "reading which restore the log comes from".to_string(),
        reason: format!("the value {KEY} in the bucket ROLLCALL cannot be read: {error}"),
    })?;
    Ok(Some(timeline))
}
