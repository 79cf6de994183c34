//! What real clients send that no RFC allows, in one table. Each entry says whose it is and who is forgiven; the
//! dialogues in `tests/dialogues` are its tests. It is about the *shape* of a request; what it means is decided
//! elsewhere.

use serde_json::Value;

use crate::{Attribute, Dialect, Object, Speech, Type};

/// A habit of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Quirk {
    /// `"op": "Replace"`.
    OperationCase,
    /// `"active": "False"`.
    BooleanAsText,
    /// `roles[primary eq "True"]`.
    BooleanAsTextInFilter,
    /// `userName eq ada`.
    TextUnquotedInFilter,
    /// A schema that the type does not have, in `schemas`.
    UnknownSchema,
    /// A body without `schemas`, or without the one that is required.
    SchemasMissing,
    /// A PATCH with no operation.
    OperationsEmpty,
    /// A path that no schema knows, beside `active: false`.
    UnknownPath,
    /// An extension's attributes without its URN in `schemas`.
    ExtensionUnlisted,
    /// `remove` with `members` and the values that shall go.
    RemoveByValue,
    /// `{"name.givenName": ..}`: paths for keys in a value without a path.
    PathsAsKeys,
    /// `manager` without the extension's URN.
    UrnMissing,
    /// `"manager": "id"`.
    ReferenceAsText,
    /// `[value]` for an attribute that has one value.
    ArrayOfOne,
    /// A value where an array belongs.
    ValueForArray,
    /// A role as JSON text.
    ObjectAsText,
    /// `replace` on `emails[type eq "work"].value` before there is one.
    ReplaceCreates,
    /// A read-only attribute is changed.
    ReadOnlyWritten,
    /// `+` for itself in a query whose spaces are `%20`.
    PlusInQuery,
    /// The same POST once more.
    CreateRepeated,
    /// A POST for somebody who is switched off.
    CreateReturns,
    /// A POST for somebody who was deleted a while ago.
    CreateAfterDelete,
}

/// What the table says of a quirk.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The name in metrics and documentation.
    pub name: &'static str,
    /// The dialects that may.
    pub dialects: &'static [Dialect],
    /// Who does it, what the standard says, what we make of it.
    pub what: &'static str,
}

const EVERY: &[Dialect] = &Dialect::ALL;
const LARGE: &[Dialect] = &[Dialect::Okta, Dialect::Entra];
const OKTA: &[Dialect] = &[Dialect::Okta];
const ENTRA: &[Dialect] = &[Dialect::Entra];
const UNKNOWN: &[Dialect] = &[Dialect::Lenient];

impl Quirk {
    /// Every quirk.
    pub const ALL: [Self; 22] = [
        Self::OperationCase,
        Self::BooleanAsText,
        Self::BooleanAsTextInFilter,
        Self::TextUnquotedInFilter,
        Self::UnknownSchema,
        Self::SchemasMissing,
        Self::OperationsEmpty,
        Self::UnknownPath,
        Self::ExtensionUnlisted,
        Self::RemoveByValue,
        Self::PathsAsKeys,
        Self::UrnMissing,
        Self::ReferenceAsText,
        Self::ArrayOfOne,
        Self::ValueForArray,
        Self::ObjectAsText,
        Self::ReplaceCreates,
        Self::ReadOnlyWritten,
        Self::PlusInQuery,
        Self::CreateRepeated,
        Self::CreateReturns,
        Self::CreateAfterDelete,
    ];

    /// The table's line.
    pub const fn about(self) -> About {
        let (name, dialects, what) = match self {
            Self::OperationCase => (
                "operation_case",
                EVERY,
                "Entra writes `Add`, `Replace`, `Remove`; RFC 7644 §3.5.2 has them in lower case. Read in any case, and \
                 with a strict credential the operation is read as Entra's.",
            ),
            Self::BooleanAsText => (
                "boolean_as_text",
                ENTRA,
                "Entra without its compatibility flag sends `\"True\"` and `\"False\"`; RFC 7643 §2.3.2 wants booleans. \
                 Read by the attribute's type.",
            ),
            Self::BooleanAsTextInFilter => (
                "boolean_as_text_in_filter",
                ENTRA,
                "Entra writes `roles[primary eq \"True\"]`. Read as the boolean.",
            ),
            Self::TextUnquotedInFilter => (
                "text_unquoted_in_filter",
                UNKNOWN,
                "Scripts and test suites write `userName eq ada@corp.test`; RFC 7644 §3.4.2.2 wants quotes. Read as text up to \
                 the next space or bracket.",
            ),
            Self::UnknownSchema => (
                "unknown_schema",
                LARGE,
                "Entra lists a directory schema of its own on groups, templates of others list what they like. Passed \
                 over; Entra's own schema in every dialect.",
            ),
            Self::SchemasMissing => (
                "schemas_missing",
                LARGE,
                "Scripts and templates leave `schemas` out, or in a PATCH name the resource's, where RFC 7643 §3 requires the \
                 message's. The endpoint says what is meant.",
            ),
            Self::OperationsEmpty => (
                "operations_empty",
                ENTRA,
                "Microsoft's validator sends a PATCH without any operation; RFC 7644 §3.5.2 wants one or more. It changes nothing.",
            ),
            Self::UnknownPath => (
                "unknown_path",
                ENTRA,
                "Entra sends what was refused once more with each later change, so a mapping to an attribute that nobody knows, \
                 400 `invalidPath`, would keep a leaver in. Passed over beside an operation that sets `active` to false.",
            ),
            Self::ExtensionUnlisted => (
                "extension_unlisted",
                EVERY,
                "Entra sends an extension's attributes without its URN in `schemas`. The key says what is meant.",
            ),
            Self::RemoveByValue => (
                "remove_by_value",
                EVERY,
                "Entra and JumpCloud remove a member with the path `members` and a `value`, which RFC 7644 §3.5.2.2 does \
                 not know and would read as \"remove all\". Only what is named goes.",
            ),
            Self::PathsAsKeys => (
                "paths_as_keys",
                EVERY,
                "Entra with its compatibility flag writes paths as keys of a value without a path: `\"name.givenName\"`, \
                 `\"urn:…:User:department\"`. Each is read as an operation of its own.",
            ),
            Self::UrnMissing => (
                "urn_missing",
                ENTRA,
                "Entra writes `manager` for the enterprise extension's. Looked for in the type's extensions.",
            ),
            Self::ReferenceAsText => (
                "reference_as_text",
                ENTRA,
                "Entra sends a manager's id as a plain string, scripts an address. Read as `value`.",
            ),
            Self::ArrayOfOne => (
                "array_of_one",
                ENTRA,
                "Old Entra jobs wrap one value, a manager for example, into an array, and a plain one into an object too: \
                 `[{\"$ref\":null,\"value\":\"Ada\"}]`; today's send those of a list so. Unwrapped.",
            ),
            Self::ValueForArray => (
                "value_for_array",
                EVERY,
                "One object stands where an array belongs. Read as an array of one; a plain string so for lenient and \
                 large clients only.",
            ),
            Self::ObjectAsText => (
                "object_as_text",
                ENTRA,
                "Entra sends a role as text that holds JSON, alone or as `value`: `\"{\\\"value\\\":…}\"`. Read as that object.",
            ),
            Self::ReplaceCreates => (
                "replace_creates",
                ENTRA,
                "Entra replaces `emails[type eq \"work\"].value` before there is one; RFC 7644 §3.5.2.3 wants `noTarget`. \
                 The value is made.",
            ),
            Self::ReadOnlyWritten => (
                "read_only_written",
                LARGE,
                "Okta puts `id` into the value of a group's rename, others `groups` and `meta`; RFC 7644 §3.5.2 wants \
                 `mutability`. Passed over.",
            ),
            Self::PlusInQuery => (
                "plus_in_query",
                EVERY,
                "A query that writes spaces as `%20` means `+` when it writes `+`, as in `ada+test@corp.test`.",
            ),
            Self::CreateRepeated => (
                "create_repeated",
                OKTA,
                "Okta repeats a POST whose answer it did not get. Answered 201 with what is there, a group too; `repeat` of a source.",
            ),
            Self::CreateReturns => (
                "create_returns",
                OKTA,
                "Okta posts a user again who was unassigned. The account comes back; `reactivate` of a source.",
            ),
            Self::CreateAfterDelete => (
                "create_after_delete",
                LARGE,
                "A user comes back after a DELETE. The id is the former one; `tombstone_days` of a source.",
            ),
        };
        About { name, dialects, what }
    }
}

impl Speech<'_> {
    /// Turns a value into the shape its attribute has, where the client is known to send another.
    pub(crate) fn shape(self, attribute: &Attribute, value: Value) -> Value {
        let value = match value {
            Value::Array(mut values)
                if !attribute.multi_valued && values.len() == 1 && self.forgives(Quirk::ArrayOfOne) =>
            {
                unwrapped(attribute, values.pop().unwrap_or(Value::Null))
            }
            wrapped @ Value::Object(_)
                if attribute.multi_valued
                    && is_wrapped(attribute, &wrapped)
                    && self.forgives(Quirk::ArrayOfOne) =>
            {
                unwrapped(attribute, wrapped)
            }
            other => other,
        };
        match (attribute.kind, value) {
            (Type::Boolean, Value::String(text)) => match boolean(&text) {
                Some(value) if self.forgives(Quirk::BooleanAsText) => value.into(),
                Some(_) | None => text.into(),
            },
            (Type::Complex, Value::String(text)) => self.object(attribute, text),
            // Entra's mapping `AppRoleAssignmentsComplex` puts the text one level deeper.
            (Type::Complex, Value::Object(mut members)) => {
                let text = members.get("value").and_then(Value::as_str);
                if let Some(inner) = text.and_then(|text| self.object_in(attribute, text)) {
                    members.extend(inner);
                }
                members.into()
            }
            (_, value) => value,
        }
    }

    /// A role as JSON text (`{"id":..,"value":..,"displayName":..}`).
    fn object_in(self, attribute: &Attribute, text: &str) -> Option<Object> {
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let mut members = serde_json::from_str::<Object>(text).ok()?;
        if !self.forgives(Quirk::ObjectAsText) {
            return None;
        }
        if attribute.sub("displayName").is_none()
            && let Some(name) = members.remove("displayName")
        {
            members.insert("display".to_string(), name);
        }
        Some(members)
    }

    /// An object as text, or a bare manager id.
    fn object(self, attribute: &Attribute, text: String) -> Value {
        if let Some(members) = self.object_in(attribute, &text) {
            return members.into();
        }
        if attribute.sub("value").is_some() && self.forgives(Quirk::ReferenceAsText) {
            return serde_json::json!({"value": text});
        }
        Value::String(text)
    }
}

/// Whether a plain value stands in an object: `{"$ref": null, "value": "Ada"}`, where the attribute has no parts.
fn is_wrapped(attribute: &Attribute, value: &Value) -> bool {
    attribute.kind != Type::Complex && value.get("value").is_some()
}

fn unwrapped(attribute: &Attribute, mut value: Value) -> Value {
    if attribute.kind == Type::Complex {
        return value;
    }
    match value.get_mut("value").map(Value::take) {
        Some(inner) => inner,
        None => value,
    }
}

/// The schema that Entra puts beside the standard one on every group; it stands for no attribute.
pub(crate) fn is_extra_schema(urn: &str) -> bool {
    urn.starts_with("http://schemas.microsoft.com/")
}

/// What `"True"` means.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let mut names: Vec<&str> = Quirk::ALL.iter().map(|quirk| quirk.about().name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Quirk::ALL.len());
        for (index, quirk) in Quirk::ALL.into_iter().enumerate() {
            assert_eq!(quirk as usize, index);
            assert!(Dialect::Lenient.allows(quirk));
        }
    }
}
