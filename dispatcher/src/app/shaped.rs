//! What an app should hold, as its profile lets it be said.

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
            return (
                Err(Leaving { leave: Leave::Delete, why: "inactive, which the app does not keep" }),
                None,
            );
        }
        match own.shape(desired.attributes.clone()) {
            Ok(attributes) => (Ok(Desired { attributes, ..desired }), None),
            Err(_) if is_off => {
                let leave = self.leave(kind, Leave::Deactivate);
                (Err(Leaving { leave, why: "inactive" }), None)
            }
            Err(missing) => (Ok(desired), Some(missing)),
        }
    }

    /// What cannot be switched off is deleted, and what must not be deleted is switched off.
    pub(super) fn leave(&self, kind: &ResourceType, wanted: Leave) -> Leave {
        let own = self.app.own(kind);
        match (has(&self.shared, kind, "active"), own.delete, own.inactive) {
            (false, _, _) | (true, _, Inactive::Gone) => Leave::Delete,
            (true, Delete::Deactivate, Inactive::Kept) => Leave::Deactivate,
            (true, Delete::Delete, Inactive::Kept) => wanted,
        }
    }
}
