//! What a request breaks: the error document of RFC 7644 §3.12.

use serde_json::{Value, json};

/// The URN of the error message.
const SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:Error";

/// The `scimType` keywords of RFC 7644 table 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScimType {
    /// The filter's syntax, or an operator that does not suit the attribute.
    InvalidFilter,
    /// More results than this service will compute.
    TooMany,
    /// A unique attribute's value is taken.
    Uniqueness,
    /// A change of what must not change.
    Mutability,
    /// A body that cannot be parsed, or is no such message.
    InvalidSyntax,
    /// A PATCH path that is malformed or names no attribute.
    InvalidPath,
    /// A PATCH operation that has nothing to work on.
    NoTarget,
    /// A value that is missing, of the wrong type, or not permitted.
    InvalidValue,
    /// A protocol version that this service does not speak.
    InvalidVers,
    /// Personal data in a request's URI.
    Sensitive,
    /// A cursor that is none of ours, or of another question (RFC 9865).
    InvalidCursor,
    /// A cursor that was kept for too long (RFC 9865).
    ExpiredCursor,
    /// A `count` that changed between two pages (RFC 9865).
    InvalidCount,
}

impl ScimType {
    /// The keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidFilter => "invalidFilter",
            Self::TooMany => "tooMany",
            Self::Uniqueness => "uniqueness",
            Self::Mutability => "mutability",
            Self::InvalidSyntax => "invalidSyntax",
            Self::InvalidPath => "invalidPath",
            Self::NoTarget => "noTarget",
            Self::InvalidValue => "invalidValue",
            Self::InvalidVers => "invalidVers",
            Self::Sensitive => "sensitive",
            Self::InvalidCursor => "invalidCursor",
            Self::ExpiredCursor => "expiredCursor",
            Self::InvalidCount => "invalidCount",
        }
    }
}

/// A request breaks a rule; says which one and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    /// The HTTP status.
    pub status: u16,
    /// The keyword, for 400 and 409.
    pub scim_type: Option<ScimType>,
    /// What a person reads.
    pub detail: String,
}

impl Error {
    /// An error with a status alone.
    pub fn status(status: u16, detail: impl Into<String>) -> Self {
        Self { status, scim_type: None, detail: detail.into() }
    }

    /// A 400 (409 for `uniqueness`, 403 for `sensitive`) with a keyword.
    pub fn new(scim_type: ScimType, detail: impl Into<String>) -> Self {
        let status = match scim_type {
            ScimType::Uniqueness => 409,
            ScimType::Sensitive => 403,
            ScimType::InvalidFilter
            | ScimType::TooMany
            | ScimType::Mutability
            | ScimType::InvalidSyntax
            | ScimType::InvalidPath
            | ScimType::NoTarget
            | ScimType::InvalidValue
            | ScimType::InvalidVers
            | ScimType::InvalidCursor
            | ScimType::ExpiredCursor
            | ScimType::InvalidCount => 400,
        };
        Self { status, scim_type: Some(scim_type), detail: detail.into() }
    }

    /// 400 `invalidValue`.
    pub fn value(detail: impl Into<String>) -> Self {
        Self::new(ScimType::InvalidValue, detail)
    }

    /// 400 `invalidSyntax`.
    pub fn syntax(detail: impl Into<String>) -> Self {
        Self::new(ScimType::InvalidSyntax, detail)
    }

    /// The error document. `status` is a string there.
    pub fn to_body(&self) -> Value {
        let mut body = json!({"schemas": [SCHEMA], "status": self.status.to_string(), "detail": self.detail});
        if let (Some(scim_type), Some(body)) = (self.scim_type, body.as_object_mut()) {
            body.insert("scimType".to_string(), scim_type.as_str().into());
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_a_string_and_the_keyword_is_there() {
        let body = Error::new(ScimType::Uniqueness, "taken").to_body();
        assert_eq!(body["status"], "409");
        assert_eq!(body["scimType"], "uniqueness");
        assert_eq!(Error::status(404, "gone").to_body().get("scimType"), None);
    }
}
