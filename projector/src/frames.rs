//! What stands in every representation of a resource type, as text: it is escaped once, not for each reader.

use scim::{Registry, ResourceType};

use crate::cuts::Seams;
use crate::splice::escaped;

/// The constant texts of one type.
#[derive(Debug)]
pub(crate) struct Frame {
    kind: String,
    /// From the opening brace to the core schema's name.
    pub(crate) begin: Vec<u8>,
    /// Each of the type's extensions, with what stands between it and the one before.
    pub(crate) extensions: Vec<Vec<u8>>,
    /// From `meta` to where the time of creation begins.
    pub(crate) meta: Vec<u8>,
    /// Whether its resources have members, and groups.
    pub(crate) has_members: bool,
    pub(crate) has_groups: bool,
    /// What decides where its documents are cut.
    pub(crate) seams: Seams,
}

/// The same for every type.
#[derive(Debug)]
pub(crate) struct Frames(Vec<Frame>);

impl Frames {
    pub(crate) fn of(registry: &Registry) -> Self {
        Self(registry.resource_types().iter().map(|kind| frame(registry, kind)).collect())
    }

    /// Of the type with this name.
    pub(crate) fn get(&self, kind: &str) -> Option<&Frame> {
        self.0.iter().find(|frame| frame.kind == kind)
    }
}

fn frame(registry: &Registry, kind: &ResourceType) -> Frame {
    let text = |before: &str, name: &str, after: &str| {
        let mut text = before.as_bytes().to_vec();
        escaped(name.as_bytes(), &mut text);
        text.extend_from_slice(after.as_bytes());
        text
    };
    let has = |name: &str| registry.core(kind).iter().any(|attribute| attribute.name == name);
    Frame {
        kind: kind.name.clone(),
        begin: text("{\"schemas\":[\"", &kind.schema, ""),
        extensions: registry.extensions(kind).map(|schema| text("\",\"", &schema.id, "")).collect(),
        meta: text("\"meta\":{\"resourceType\":\"", &kind.name, "\",\"created\":\""),
        has_members: has("members"),
        has_groups: has("groups"),
        seams: Seams::of(registry, kind),
    }
}
