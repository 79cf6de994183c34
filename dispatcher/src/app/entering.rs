//! Why a call is made by which somebody comes to belong at an app: by which filter or group. It stands in the clear, so it
//! names a group by its id, and of a filter only that there is one; the configuration's hash beside it says which.

use super::look::Now;
use crate::link::Link;
use crate::plan::Call;

impl Now {
    /// The reason of a call, and of one by which somebody enters the scope, what he is in it by.
    pub(super) fn reason(&self, call: &Call, link: &Link, why: &str) -> String {
        let enters = match call {
            Call::Create { .. } => true,
            Call::Update { .. } => link.deactivated_at.is_some(),
            Call::Deactivate { .. } | Call::Delete { .. } | Call::ChangeMembers { .. } => false,
        };
        if enters { self.entering(why) } else { why.to_string() }
    }

    /// The reason of something by which somebody enters the scope.
    pub(super) fn entering(&self, why: &str) -> String {
        match &self.by {
            Some(by) => format!("{why}; in scope {by}"),
            None => why.to_string(),
        }
    }
}
