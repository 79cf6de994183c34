//! PATCH: RFC 7644 §3.5.2. A request becomes operations that each have a path; they apply to a copy, in order, all or
//! none.

mod apply;
mod named;
mod parse;

use serde_json::Value;

use crate::validate::{Context, unknown_part};
use crate::{AttrPath, Dialect, Error, Filter, FilterLimits, MemberChange, Object, Resolved, members};

/// A parsed PATCH request.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// In the order of the request. An operation without a path stands here as one operation for each attribute.
    pub operations: Vec<Operation>,
    /// The first name that was passed over, because no schema of the type knows it.
    unknown: Option<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What to do.
    pub op: PatchOp,
    /// Where.
    pub path: PatchPath,
    /// With what; nothing means that the request held none.
    pub value: Option<Value>,
    /// How the operation is written; the letter case of `op` can say more than the credential.
    pub dialect: Dialect,
}

/// The three operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchOp {
    /// Adds a value.
    Add,
    /// Replaces a value.
    Replace,
    /// Removes a value.
    Remove,
}

/// `attr`, `attr.sub`, `attr[filter]` or `attr[filter].sub`, with canonical names.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchPath {
    /// The attribute, without a sub-attribute; without a name it is a whole extension.
    pub attr: AttrPath,
    /// Which values of a multi-valued attribute.
    pub filter: Option<Filter>,
    /// The sub-attribute.
    pub sub: Option<String>,
}

impl Patch {
    /// The URN of the message.
    pub const SCHEMA: &'static str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

    /// Reads a request. A path that names no attribute is `invalidPath`; one without a path that names none is passed
    /// over, as in any other body.
    pub fn parse(context: Context<'_>, body: Value, limits: &FilterLimits) -> Result<Self, Error> {
        parse::request(context, body, limits)
    }

    /// Applies everything to a full document (see [`crate::validate`]) of the resource with this id. Operations that
    /// look at more than `values_max` values of multi-valued attributes, all together, are 413.
    pub fn apply(
        &self,
        context: Context<'_>,
        id: &str,
        full: Object,
        values_max: usize,
    ) -> Result<Object, Error> {
        apply::all(self, context, id, full, values_max)
    }

    /// The first attribute, or part of one, that no schema of the type knows.
    pub fn unknown(&self, context: Context<'_>) -> Option<String> {
        let parts = |operation: &Operation| {
            let PatchPath { attr, sub, .. } = &operation.path;
            let value = operation.value.as_ref().filter(|_| sub.is_none())?;
            match context.registry.resolve(context.kind, attr)? {
                Resolved::Attribute { attribute, .. } => unknown_part(attribute, value),
                Resolved::Extension(_) => None,
            }
        };
        self.unknown.clone().or_else(|| self.operations.iter().find_map(parts))
    }

    /// The member changes, when the request holds nothing else and names every member.
    pub fn member_changes(&self) -> Option<Vec<MemberChange>> {
        members::changes(self)
    }

    /// Whether an operation touches the members.
    pub fn touches_members(&self) -> bool {
        self.operations.iter().any(|operation| operation.path.attr.is(members::MEMBERS))
    }

    /// Whether an operation may take members out.
    pub fn takes_members(&self) -> bool {
        let mut of_members =
            self.operations.iter().filter(|operation| operation.path.attr.is(members::MEMBERS));
        of_members.any(|operation| operation.op != PatchOp::Add)
    }
}
