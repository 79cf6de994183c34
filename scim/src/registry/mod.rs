//! The schemas and resource types that a service knows, and the way from a path to an attribute.

mod custom;

use crate::{AttrPath, Attribute, ResourceType, Schema, Type, Uniqueness};

/// All schemas and resource types.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    schemas: Vec<Schema>,
    types: Vec<ResourceType>,
    common: Vec<Attribute>,
}

/// What a path names in a resource type.
#[derive(Clone, Copy, Debug)]
pub enum Resolved<'a> {
    /// A whole extension, by its canonical URN.
    Extension(&'a Schema),
    /// An attribute, or a part of one.
    Attribute {
        /// The extension it stands in; nothing for the base schema and the common attributes.
        extension: Option<&'a Schema>,
        /// The attribute.
        attribute: &'a Attribute,
        /// The part.
        sub: Option<&'a Attribute>,
    },
}

impl Registry {
    /// User, Group and EnterpriseUser of RFC 7643 §4.
    ///
    /// # Errors
    /// Only if the data that is compiled in is not valid, which a test rules out.
    pub fn built_in() -> Result<Self, serde_json::Error> {
        Ok(Self {
            schemas: vec![
                serde_json::from_str(include_str!("../../data/user.json"))?,
                serde_json::from_str(include_str!("../../data/group.json"))?,
                serde_json::from_str(include_str!("../../data/enterprise_user.json"))?,
            ],
            types: serde_json::from_str(include_str!("../../data/resource_types.json"))?,
            common: serde_json::from_str(include_str!("../../data/common.json"))?,
        })
    }

    /// All resource types.
    pub fn resource_types(&self) -> &[ResourceType] {
        &self.types
    }

    /// All schemas.
    pub fn schemas(&self) -> &[Schema] {
        &self.schemas
    }

    /// A schema by its URN, in any case.
    pub fn schema(&self, urn: &str) -> Option<&Schema> {
        self.schemas.iter().find(|schema| schema.id.eq_ignore_ascii_case(urn))
    }

    /// The type that an endpoint serves, without the leading slash.
    pub fn by_endpoint(&self, endpoint: &str) -> Option<&ResourceType> {
        self.types.iter().find(|kind| kind.endpoint.trim_start_matches('/') == endpoint)
    }

    /// A type by its name.
    pub fn by_name(&self, name: &str) -> Option<&ResourceType> {
        self.types.iter().find(|kind| kind.name == name)
    }

    /// The attributes that every resource has: `schemas`, `id`, `externalId`, `meta`.
    pub fn common(&self) -> &[Attribute] {
        &self.common
    }

    /// The attributes of a type's base schema.
    pub fn core(&self, kind: &ResourceType) -> &[Attribute] {
        self.schema(&kind.schema).map_or(&[], |schema| &schema.attributes)
    }

    /// The extensions of a type.
    pub fn extensions<'a>(&'a self, kind: &'a ResourceType) -> impl Iterator<Item = &'a Schema> {
        kind.schema_extensions.iter().filter_map(|extension| self.schema(&extension.schema))
    }

    /// The attribute that a resource of a type is known by, if the type has one (`userName`): unique, a string, and
    /// compared without regard to case.
    pub fn unique_attribute(&self, kind: &ResourceType) -> Option<&Attribute> {
        let named = |attribute: &&Attribute| {
            attribute.uniqueness != Uniqueness::None
                && attribute.kind == Type::String
                && !attribute.case_exact
        };
        self.core(kind).iter().find(named)
    }

    /// What a resource of a type is called: its unique attribute, or else the first text that each of them has and that
    /// others may have, too, a group's `displayName`.
    pub fn called(&self, kind: &ResourceType) -> Option<&Attribute> {
        let is_text = |attribute: &&Attribute| {
            attribute.required && !attribute.multi_valued && attribute.kind == Type::String
        };
        self.unique_attribute(kind).or_else(|| self.core(kind).iter().find(is_text))
    }

    /// Every other attribute whose value is unique in a type.
    pub fn further_unique<'a>(&'a self, kind: &'a ResourceType) -> impl Iterator<Item = AttrPath> + 'a {
        let unique = |attribute: &&Attribute| attribute.uniqueness != Uniqueness::None;
        let main = self.unique_attribute(kind).map(|main| main.name.as_str());
        let further = move |attribute: &&Attribute| main != Some(attribute.name.as_str());
        let core = self.core(kind).iter().filter(unique).filter(further);
        let core = core.map(|attribute| AttrPath::of(&attribute.name));
        let extended = self.extensions(kind).flat_map(move |schema| {
            schema.attributes.iter().filter(unique).map(|attribute| AttrPath {
                schema: Some(schema.id.clone()),
                name: Some(attribute.name.clone()),
                sub: None,
            })
        });
        core.chain(extended)
    }

    /// What a path names in a type; nothing when the type has no such attribute.
    pub fn resolve<'a>(&'a self, kind: &'a ResourceType, path: &AttrPath) -> Option<Resolved<'a>> {
        let (extension, attributes) = match &path.schema {
            None => (None, None),
            Some(urn) if urn.eq_ignore_ascii_case(&kind.schema) => (None, None),
            Some(urn) => {
                let schema = self.extensions(kind).find(|schema| schema.id.eq_ignore_ascii_case(urn))?;
                (Some(schema), Some(&schema.attributes))
            }
        };
        let Some(name) = &path.name else { return extension.map(Resolved::Extension) };
        let named = |attribute: &&Attribute| attribute.name.eq_ignore_ascii_case(name);
        let attribute = match attributes {
            Some(attributes) => attributes.iter().find(named)?,
            None => self.named(kind, name)?,
        };
        let sub = match &path.sub {
            None => None,
            Some(sub) => Some(attribute.sub(sub)?),
        };
        Some(Resolved::Attribute { extension, attribute, sub })
    }

    /// The attribute of the type's own schema, or of all types, with this name.
    pub(crate) fn named<'a>(&'a self, kind: &ResourceType, name: &str) -> Option<&'a Attribute> {
        let named = |attribute: &&Attribute| attribute.name.eq_ignore_ascii_case(name);
        self.core(kind).iter().find(named).or_else(|| self.common.iter().find(named))
    }

    /// What a path without a URN names in the type's extensions.
    pub(crate) fn in_extensions<'a>(
        &'a self,
        kind: &'a ResourceType,
        path: &AttrPath,
    ) -> Option<Resolved<'a>> {
        self.extensions(kind).find_map(|schema| {
            let with_urn = AttrPath { schema: Some(schema.id.clone()), ..path.clone() };
            self.resolve(kind, &with_urn)
        })
    }

    /// The path with canonical names: no URN for the base schema, every name as its schema spells it.
    pub fn canonical(&self, kind: &ResourceType, path: &AttrPath) -> Option<AttrPath> {
        Some(match self.resolve(kind, path)? {
            Resolved::Extension(schema) => {
                AttrPath { schema: Some(schema.id.clone()), name: None, sub: None }
            }
            Resolved::Attribute { extension, attribute, sub } => AttrPath {
                schema: extension.map(|schema| schema.id.clone()),
                name: Some(attribute.name.clone()),
                sub: sub.map(|sub| sub.name.clone()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let path = AttrPath::parse(text, &registry).unwrap();
        let found = registry.canonical(user, &path).map(|path| path.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn paths_get_canonical_names() {
        check("USERNAME", Some("userName"));
        check("Name.GivenName", Some("name.givenName"));
        check("urn:ietf:params:scim:schemas:core:2.0:user:name.givenname", Some("name.givenName"));
        check(
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:Manager.value",
            Some("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value"),
        );
        check(
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
            Some("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"),
        );
        check("meta.lastmodified", Some("meta.lastModified"));
        check("shoeSize", None);
        check("manager", None);
        check("urn:example:unknown:size", None);
    }
}
