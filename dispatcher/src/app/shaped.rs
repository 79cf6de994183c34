//! What an app should hold, as its profile lets it be said.

use jiff::SignedDuration;
use scim::ResourceType;
use serde_json::Value;

use super::perform::{Performer, has};
use crate::config::Leave;
use crate::desired::Desired;
use crate::plan::Leaving;
use crate::profile::{Delete, Inactive, Missing};

impl Performer {
    /// What the app takes of what it should hold, or why it takes nothing of it. Whoever is switched off and lacks what
    /// the app needs is switched off all the same.
    pub(super) fn shaped(
        &self,
        kind: &ResourceType,
        desired: Desired,
    ) -> (Result<Desired, Leaving>, Option<Missing>) {
        let own = self.app.own(kind);
        let is_off = desired.attributes.get("active") == Some(&Value::Bool(false));
        if is_off && own.inactive == Inactive::Gone {
            let leaving = self.leaving(kind, Leave::Delete, None, "inactive, which the app does not keep");
            return (Err(leaving), None);
        }
        match own.shape(desired.attributes.clone()) {
            Ok(attributes) => (Ok(Desired { attributes, ..desired }), None),
            Err(_) if is_off => (Err(self.leaving(kind, Leave::Deactivate, None, "inactive")), None),
            Err(missing) => (Ok(desired), Some(missing)),
        }
    }

    /// What a policy means at this app. What cannot be switched off is deleted, and what must not be deleted is switched
    /// off; where the app forgets whom it switches off, there is nothing to wait for.
    pub(super) fn leaving(
        &self,
        kind: &ResourceType,
        policy: Leave,
        grace: Option<SignedDuration>,
        why: &'static str,
    ) -> Leaving {
        let own = self.app.own(kind);
        match (has(&self.shared, kind, "active"), own.delete, own.inactive) {
            (true, _, Inactive::Gone) => Leaving::of(Leave::Delete, None, false, why),
            (true, Delete::Deactivate, Inactive::Kept) => Leaving::of(Leave::Never, None, true, why),
            (can, _, _) => Leaving::of(policy, grace, can, why),
        }
    }
}
