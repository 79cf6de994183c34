//! Making a resource for somebody of our own house, under the rules that a POST has.

use proto::ResourceId;
use serde_json::Value;

use crate::Gateway;
use crate::command::{Caller, Command};
use crate::execute::{Failure, Outcome};

/// Nothing was made, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmade {
    /// It cannot be made as it is.
    Refused {
        /// What a client would be answered.
        status: u16,
        /// Why, for a person to read. It can name somebody.
        detail: String,
    },
    /// It may have been made.
    Unknown {
        /// What failed.
        doing: &'static str,
    },
}

impl From<scim::Error> for Unmade {
    fn from(error: scim::Error) -> Self {
        Self::Refused { status: error.status, detail: error.detail }
    }
}

impl Gateway {
    /// Makes a resource as a POST by this caller does, under this id unless the rules say that it is somebody's who is
    /// there already or was. Says whose it is.
    pub async fn make(
        &self,
        caller: &Caller,
        resource_type: &str,
        id: ResourceId,
        body: Value,
    ) -> Result<ResourceId, Unmade> {
        let registry = self.inner.registry.clone();
        let Some(kind) = registry.by_name(resource_type) else {
            return Err(Unmade::Refused { status: 404, detail: format!("there is no type {resource_type}") });
        };
        let command = match self.creation(caller, kind, body)? {
            Command::Create { parts, .. } => Command::Create { id, parts },
            other @ (Command::Replace { .. } | Command::Patch { .. } | Command::Delete { .. }) => other,
        };
        let txn = eventlog::clock::new_uuid().to_string();
        match self.execute(caller, kind, &command, &txn).await {
            Ok(Outcome::Resource(stored) | Outcome::Told(stored)) => Ok(stored.id),
            Ok(Outcome::Deleted) => Err(Unmade::Unknown { doing: "making a resource" }),
            Err(Failure::Refused(error)) => Err(error.into()),
            Err(
                Failure::Busy { doing, source }
                | Failure::Unknown { doing, source }
                | Failure::Broken { doing, source },
            ) => {
                tracing::warn!(error = %source, doing, "it is not known whether a resource was made");
                Err(Unmade::Unknown { doing })
            }
        }
    }
}
