//! What a call may cost: how much of it fits into one request and into the budget.

use std::collections::BTreeSet;

use proto::ResourceId;
use tokio::time::Instant;

use super::look::Now;
use super::perform::Performer;
use crate::budget::{Denied, Wanted, wanted};
use crate::connector::{Outcome, ScimApp};
use crate::plan::Call;
use crate::profile::Calls;

impl Performer {
    /// The part of a call that fits into one request and into the budget, which is taken from it, and the app for it: it is
    /// among the calls that are under way until the app is dropped.
    pub(super) fn afford(&self, id: ResourceId, now: &Now, call: Call) -> Result<(ScimApp, Call), Denied> {
        let at = Instant::now();
        let flight = self.app.purse.begin(wanted(&call, &now.kind.name).reduces)?;
        let call = match call {
            Call::ChangeMembers { remote_id, added, removed } => {
                let most = self.app.members_per_call(&now.kind);
                let removed: BTreeSet<ResourceId> = removed.into_iter().take(most).collect();
                let most = most.saturating_sub(removed.len()).min(added.len());
                let most = if most == 0 { 0 } else { self.app.purse.members(&remote_id, most, at)? };
                let added = added.into_iter().take(most).collect();
                Call::ChangeMembers { remote_id, added, removed }
            }
            other @ (Call::Create { .. }
            | Call::Update { .. }
            | Call::Deactivate { .. }
            | Call::Delete { .. }) => other,
        };
        self.app.purse.take_for(Some(id), &wanted(&call, &now.kind.name), at)?;
        Ok((self.app.begun(flight), call))
    }

    /// Where the membership can neither be read nor set, everybody of ours who should not be in it is taken out; whoever
    /// should be in it is put in by the next plan.
    pub(super) async fn take_out_all_but(
        &self,
        app: &ScimApp,
        group: ResourceId,
        now: &Now,
        remote_id: &str,
        members: &BTreeSet<ResourceId>,
    ) -> Outcome {
        let (links, projection) = (&self.shared.links, &self.shared.projection);
        let is_group = |id: &ResourceId| {
            projection.type_of(&self.config.tenant, *id).is_some_and(|name| name == now.kind.name)
        };
        let others = links.of_app(&self.name).into_iter().filter(|id| *id != group && !members.contains(id));
        let others: Vec<String> =
            others.filter(|id| !is_group(id)).filter_map(|id| links.remote_id(&self.name, id)).collect();
        for some in others.chunks(self.app.members_per_call(&now.kind)) {
            let call = Wanted { calls: Calls::Updates, kind: &now.kind.name, reduces: true, members: None };
            self.app.purse.spend(&call, Instant::now());
            match app.change_members(&now.kind, remote_id, &[], some).await {
                Outcome::Done { .. } => {}
                other => return other,
            }
        }
        Outcome::Done { remote_id: None, status: 200 }
    }
}
