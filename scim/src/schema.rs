//! Schemas as data: RFC 7643 §7.

use serde::{Deserialize, Serialize};

/// A schema and its attributes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Schema {
    /// The URN.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// What it describes.
    #[serde(default)]
    pub description: String,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

/// One attribute with every characteristic spelled out.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attribute {
    /// The canonical name.
    pub name: String,
    /// The data type.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Whether it holds an array.
    #[serde(default)]
    pub multi_valued: bool,
    /// What it means.
    #[serde(default)]
    pub description: String,
    /// Whether a resource must have it.
    #[serde(default)]
    pub required: bool,
    /// Whether upper and lower case differ.
    #[serde(default)]
    pub case_exact: bool,
    /// Values that are known; others are permitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canonical_values: Vec<String>,
    /// Who may change it.
    #[serde(default)]
    pub mutability: Mutability,
    /// When it is returned.
    #[serde(default)]
    pub returned: Returned,
    /// Where its value is unique.
    #[serde(default)]
    pub uniqueness: Uniqueness,
    /// What a reference may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reference_types: Vec<String>,
    /// The parts of a complex attribute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sub_attributes: Vec<Attribute>,
}

impl Attribute {
    /// A part by its name, in any case.
    pub fn sub(&self, name: &str) -> Option<&Self> {
        self.sub_attributes.iter().find(|sub| sub.name.eq_ignore_ascii_case(name))
    }

    /// Whether it names another resource, whose place and name the service adds: `manager`.
    pub fn names_resource(&self) -> bool {
        let read_only = |sub: &Self| sub.mutability == Mutability::ReadOnly;
        !self.multi_valued
            && self.sub("value").is_some()
            && self.sub("$ref").is_some()
            && self.sub("displayName").is_some_and(read_only)
    }

    /// Whether it names another resource, and this value of it says that there is none: `{"value": ""}`.
    pub(crate) fn names_nobody(&self, members: &crate::Object) -> bool {
        let value = || members.iter().find(|(name, _)| name.eq_ignore_ascii_case("value"));
        self.names_resource()
            && value().is_some_and(|(_, value)| value.as_str().is_some_and(|text| text.trim().is_empty()))
    }
}

/// The data types of RFC 7643 §2.3.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Type {
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// A number with a fraction.
    Decimal,
    /// A whole number.
    Integer,
    /// An instant.
    DateTime,
    /// Bytes in base64.
    Binary,
    /// A URI.
    Reference,
    /// An object with sub-attributes.
    Complex,
}

impl Type {
    /// The name in a schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Decimal => "decimal",
            Self::Integer => "integer",
            Self::DateTime => "dateTime",
            Self::Binary => "binary",
            Self::Reference => "reference",
            Self::Complex => "complex",
        }
    }
}

/// Who may change an attribute: RFC 7643 §2.2.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mutability {
    /// Only this service.
    ReadOnly,
    /// The client, any time.
    #[default]
    ReadWrite,
    /// The client, once.
    Immutable,
    /// The client, and nobody reads it.
    WriteOnly,
}

/// When an attribute is returned: RFC 7643 §2.2.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Returned {
    /// In every answer.
    Always,
    /// In none.
    Never,
    /// Unless the client excludes it.
    #[default]
    Default,
    /// When the client names it.
    Request,
}

/// Where a value is unique: RFC 7643 §2.2.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Uniqueness {
    /// Nowhere.
    #[default]
    None,
    /// Within a tenant's endpoint.
    Server,
    /// Everywhere.
    Global,
}

/// A kind of resource and its endpoint: RFC 7643 §6.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceType {
    /// The type's id.
    pub id: String,
    /// Its name, as `meta.resourceType` has it.
    pub name: String,
    /// The endpoint, with a leading slash.
    pub endpoint: String,
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// The URN of the base schema.
    pub schema: String,
    /// Further schemas.
    #[serde(default)]
    pub schema_extensions: Vec<SchemaExtension>,
}

/// An extension of a resource type.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SchemaExtension {
    /// The URN.
    pub schema: String,
    /// Whether every resource must carry it.
    #[serde(default)]
    pub required: bool,
}
