//! Who names whom: a manager's reports, found by the projection's index. Whoever is named by the app's id must be told
//! when that id is new.

use projector::Projection;
use proto::{ResourceId, Tenant};
use scim::{AttrPath, Attribute, Filter, Op, Registry, ResourceType, Rule};

/// The attributes that name others, by resource type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naming(Vec<(ResourceType, AttrPath, Rule)>);

impl Naming {
    /// Those of these schemas.
    pub(crate) fn new(registry: &Registry) -> Self {
        let mut paths = Vec::new();
        for kind in registry.resource_types() {
            let core = registry.core(kind).iter().map(|attribute| (None, attribute));
            let extended = registry.extensions(kind).flat_map(|schema| {
                schema.attributes.iter().map(|attribute| (Some(schema.id.clone()), attribute))
            });
            let naming =
                core.chain(extended).filter(|(_, attribute): &(_, &Attribute)| attribute.names_resource());
            paths.extend(naming.filter_map(|(schema, attribute)| {
                let sub = attribute.sub("value")?;
                let (name, value) = (Some(attribute.name.clone()), Some(sub.name.clone()));
                Some((kind.clone(), AttrPath { schema, name, sub: value }, Rule::of(sub)))
            }));
        }
        Self(paths)
    }

    /// Those that name a resource, as of now.
    pub(crate) fn of(&self, projection: &Projection, tenant: &Tenant, id: ResourceId) -> Vec<ResourceId> {
        let mut found = Vec::new();
        for (kind, path, rule) in &self.0 {
            let filter = Filter::Compare {
                path: path.clone(),
                op: Op::Eq,
                value: id.to_string().into(),
                rule: Some(*rule),
            };
            match projection.indexed_ids(tenant, kind, &filter) {
                Some(ids) => found.extend(ids),
                None => {
                    tracing::warn!(%path, "has no index: whoever names another by it is not told of new ids")
                }
            }
        }
        found
    }
}
