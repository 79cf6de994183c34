//! What real clients send that no RFC allows, in one place. Each leniency names the client that needs it; the
//! dialogues in `tests/dialogues` are its tests. Everything here is about the *shape* of a request; what it means is
//! decided elsewhere.

use std::str::FromStr;

use serde_json::Value;

use crate::{Attribute, Type};

/// How a client speaks SCIM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// As the RFCs say.
    #[default]
    Rfc,
    /// Okta's provisioning agent.
    Okta,
    /// Microsoft Entra's provisioning service.
    Entra,
}

impl Dialect {
    /// The name in configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rfc => "rfc",
            Self::Okta => "okta",
            Self::Entra => "entra",
        }
    }

    /// The dialect of one PATCH operation. Only Entra writes `Replace` for `replace`, so an operation written that way is
    /// read as Entra's, whatever the token says; the lower-case form stays strict.
    pub(crate) fn of_operation(self, op: &str) -> Self {
        let capitalised = op.starts_with(|letter: char| letter.is_ascii_uppercase());
        if capitalised && self == Self::Rfc { Self::Entra } else { self }
    }

    /// Whether `"True"` and `"False"` stand for booleans, as Entra sends them.
    pub(crate) fn string_booleans(self) -> bool {
        self == Self::Entra
    }

    /// Whether a filtered `replace` that matches nothing makes the value. RFC 7644 §3.5.2.3 wants `noTarget`; Entra
    /// sends `replace emails[type eq "work"].value` before there is one.
    pub(crate) fn replace_creates(self) -> bool {
        self == Self::Entra
    }

    /// Whether unknown URNs in `schemas` are passed over (Entra's ADSCIM group schema).
    pub(crate) fn ignores_unknown_schemas(self) -> bool {
        match self {
            Self::Rfc => false,
            Self::Okta | Self::Entra => true,
        }
    }

    /// Whether a write to a read-only attribute is passed over (Okta puts `id` into the value of a PATCH).
    pub(crate) fn ignores_read_only(self) -> bool {
        match self {
            Self::Rfc => false,
            Self::Okta | Self::Entra => true,
        }
    }

    /// The URN that a path lacks: Entra writes `manager` for the enterprise extension's `manager`.
    pub(crate) fn finds_in_extensions(self) -> bool {
        self == Self::Entra
    }

    /// Whether the same POST again is by default a retry and no second person: Okta gives up on a user for whom a repeated
    /// POST is refused.
    pub fn repeats_creates(self) -> bool {
        self == Self::Okta
    }

    /// Whether a POST for somebody who is switched off is by default a return: Okta sends one after unassigning and
    /// assigning again.
    pub fn returns_by_create(self) -> bool {
        self == Self::Okta
    }

    /// Turns a value into the shape its attribute has, where the client is known to send another.
    pub(crate) fn shape(self, attribute: &Attribute, value: Value) -> Value {
        let value = match value {
            Value::Array(mut values)
                if !attribute.multi_valued && self == Self::Entra && values.len() == 1 =>
            {
                values.pop().unwrap_or(Value::Null)
            }
            other => other,
        };
        match (attribute.kind, value) {
            (Type::Boolean, Value::String(text)) if self.string_booleans() => boolean(&text),
            (Type::Complex, Value::String(text)) if self == Self::Entra => object(attribute, text),
            (_, value) => value,
        }
    }
}

/// The schema that Entra puts beside the standard one on every group; it stands for no attribute.
pub(crate) fn is_extra_schema(urn: &str) -> bool {
    urn.starts_with("http://schemas.microsoft.com/")
}

fn boolean(text: &str) -> Value {
    if text.eq_ignore_ascii_case("true") {
        Value::Bool(true)
    } else if text.eq_ignore_ascii_case("false") {
        Value::Bool(false)
    } else {
        Value::String(text.to_string())
    }
}

/// A role as JSON text (`{"id":..,"value":..,"displayName":..}`), or a bare manager id.
fn object(attribute: &Attribute, text: String) -> Value {
    if text.trim_start().starts_with('{')
        && let Ok(Value::Object(mut members)) = serde_json::from_str::<Value>(&text)
    {
        if attribute.sub("displayName").is_none()
            && let Some(name) = members.remove("displayName")
        {
            members.insert("display".to_string(), name);
        }
        return Value::Object(members);
    }
    if attribute.sub("value").is_some() { serde_json::json!({"value": text}) } else { Value::String(text) }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "rfc" => Ok(Self::Rfc),
            "okta" => Ok(Self::Okta),
            "entra" => Ok(Self::Entra),
            other => Err(format!("{other:?} is not a dialect; there are rfc, okta and entra")),
        }
    }
}
