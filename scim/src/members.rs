//! Members of a group: kept as edges, never in the document.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::validate::Context;
use crate::{Attribute, Object, Patch, PatchOp};

/// The attribute's name.
pub(crate) const MEMBERS: &str = "members";

/// One member comes or goes; such changes commute as long as they name different members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// This id becomes a member.
    Add(String),
    /// This id is a member no more.
    Remove(String),
}

/// Takes the members out of a full document: ids in order, each once.
pub(crate) fn take(context: Context<'_>, full: &mut Object) -> Option<Vec<String>> {
    context.registry.core(context.kind).iter().find(|attribute| attribute.name == MEMBERS)?;
    let Some(Value::Array(values)) = full.remove(MEMBERS) else { return Some(Vec::new()) };
    let mut seen = BTreeSet::new();
    Some(values.iter().filter_map(id).filter(|id| seen.insert(id.clone())).collect())
}

/// Whether an attribute is a list of members.
pub(crate) fn are(attribute: &Attribute) -> bool {
    attribute.name == MEMBERS && attribute.multi_valued && attribute.sub("value").is_some()
}

/// A member's id: `value`, or the end of `$ref`.
pub(crate) fn id(member: &Value) -> Option<String> {
    let text = |name: &str| member.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match text("value") {
        Some(value) => Some(value.to_string()),
        None => text("$ref")?.rsplit('/').next().map(str::to_string),
    }
}

/// The member changes of a PATCH that holds nothing else and names every member; nothing when it needs the state.
pub(crate) fn changes(patch: &Patch) -> Option<Vec<MemberChange>> {
    let mut changes = Vec::new();
    for operation in &patch.operations {
        if !operation.path.attr.is(MEMBERS) || operation.path.sub.is_some() {
            return None;
        }
        match (operation.op, &operation.path.filter, &operation.value) {
            (PatchOp::Add, None, Some(value)) => {
                changes.extend(ids(value)?.into_iter().map(MemberChange::Add))
            }
            (PatchOp::Remove, None, Some(value)) => {
                changes.extend(ids(value)?.into_iter().map(MemberChange::Remove))
            }
            (PatchOp::Remove, Some(filter), _) => {
                changes.push(MemberChange::Remove(filter.single_value()?.to_string()))
            }
            (PatchOp::Add | PatchOp::Remove | PatchOp::Replace, _, _) => return None,
        }
    }
    Some(changes)
}

/// The ids that a PATCH value names; nothing when it names none, or names one in no form we know.
pub(crate) fn ids(value: &Value) -> Option<Vec<String>> {
    let values = match value {
        Value::Array(values) if !values.is_empty() => values.as_slice(),
        single @ Value::Object(_) => std::slice::from_ref(single),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return None,
    };
    values.iter().map(id).collect()
}
