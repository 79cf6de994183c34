//! Subjects that the log knows and the directory does not: those of a tenant that was dropped. The directory begins anew
//! with nothing; the log keeps everything, and the broker counts it for whoever guards a subject.

use std::collections::BTreeMap;

use eventlog::Guard;
use proto::subject::{self, Key};
use scim::ResourceType;
use tokio::time::Instant;

use crate::Inner;
use crate::command::Caller;
use crate::decide::Write;
use crate::execute::Failure;
use crate::fresh::within;

/// The last sequences on them.
pub(crate) type Forgotten = BTreeMap<Key, u64>;

/// The keys that a command takes for never used.
pub(crate) fn unused(write: &Write) -> Vec<Key> {
    let own = (write.guard == Guard::Last(0)).then_some(write.key);
    let claimed = write.claimed.iter().filter(|claim| claim.last == 0).map(|claim| claim.key);
    own.into_iter().chain(claimed).collect()
}

impl Inner {
    /// After a conflict: which of these keys were used all the same, as the log says and the directory never will.
    pub(crate) async fn remember(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        unused: Vec<Key>,
        forgotten: &mut Forgotten,
        deadline: Instant,
    ) -> Result<(), Failure> {
        for key in unused {
            let on = subject::identity(&caller.tenant, &kind.name, &key);
            let last = within(deadline, || async { Ok(self.broker.identity.last_on(&on).await?) }).await?;
            let Some(last) = last.map(|message| message.sequence) else { continue };
            self.projection.wait_until(last, deadline).await.map_err(projector::Error::from)?;
            if self.projection.key(&caller.tenant, &kind.name, &key).last == 0 {
                forgotten.insert(key, last);
            }
        }
        Ok(())
    }
}
