//! A resource as a client sees it, as a tree: the document with what is derived. The same as text is in `splice.rs`.

use jiff::Timestamp;
use jiff::tz::Offset;
use proto::{ResourceId, Tenant, Version};
use scim::{Attribute, Object, ResourceType};
use serde_json::{Value, json};

use crate::cuts::{Cuts, naming_attributes};
use crate::directory::{Directory, Slot};
use crate::linked::Linked;
use crate::{Moment, Projection, Stored};

/// Who looks, when at, and how much is derived.
#[derive(Clone, Debug, Default)]
pub struct Lens {
    /// Whose `externalId` is shown.
    pub source: String,
    /// What locations begin with; ends without a slash.
    pub base_url: String,
    /// Whether a group's members are derived.
    pub members: bool,
    /// Whether a user's groups are derived.
    pub groups: bool,
    /// As of when links and names are.
    pub moment: Moment,
}

/// A representation, and what it is one of.
#[derive(Clone, Debug)]
pub struct Represented {
    /// What is shown.
    pub object: Object,
    /// Its version.
    pub version: Version,
    /// Whether the document is as new as the members: it was not changed since it was read.
    pub is_current: bool,
}

/// xsd:dateTime with all its milliseconds, so that texts sort as instants do.
pub(crate) fn date_time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Appends the same.
pub(crate) fn put_date_time(time: Timestamp, out: &mut Vec<u8>) {
    let civil = Offset::UTC.to_datetime(time);
    let Ok(year) = u32::try_from(civil.year()) else {
        out.extend_from_slice(date_time(time).as_bytes());
        return;
    };
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |number: u32, last: usize, digits: usize| {
        let mut rest = number;
        for place in text.get_mut(last + 1 - digits..=last).unwrap_or_default().iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
    };
    let small = |number: i8| number.unsigned_abs().into();
    put(year, 3, 4);
    put(small(civil.month()), 6, 2);
    put(small(civil.day()), 9, 2);
    put(small(civil.hour()), 12, 2);
    put(small(civil.minute()), 15, 2);
    put(small(civil.second()), 18, 2);
    put(civil.millisecond().unsigned_abs().into(), 22, 3);
    out.extend_from_slice(&text);
}

impl Projection {
    /// The whole representation: document, `schemas`, `id`, `externalId`, `members`, `groups`, `meta`, and the names of
    /// whom it names (`manager.displayName`).
    pub fn represent(&self, tenant: &Tenant, stored: &Stored, kind: &ResourceType, lens: &Lens) -> Object {
        self.represent_now(tenant, stored, kind, lens).object
    }

    /// The same, with its version: members are as of the moment of the lens, so it is that of their last change.
    pub fn represent_now(
        &self,
        tenant: &Tenant,
        stored: &Stored,
        kind: &ResourceType,
        lens: &Lens,
    ) -> Represented {
        let (registry, document) = (&self.inner.registry, Object::clone(&stored.document));
        let cuts = self.cuts(stored, kind);
        // What has cuts is known.
        let known = if cuts.is_some() { document } else { scim::known(registry, kind, document) };
        self.complete(tenant, stored, kind, lens, known, |_| true)
    }

    /// A document, or the part of it that is wanted, with what is derived and wanted.
    pub(crate) fn complete(
        &self,
        tenant: &Tenant,
        stored: &Stored,
        kind: &ResourceType,
        lens: &Lens,
        mut object: Object,
        wants: impl Fn(&str) -> bool,
    ) -> Represented {
        let registry = &self.inner.registry;
        let has = |name: &str| registry.core(kind).iter().any(|attribute| attribute.name == name);
        let (mut version, mut last_modified, mut is_current) = (stored.version, stored.last_modified, true);
        let mut members = None;
        if lens.members && has("members") {
            let seen = self.with(tenant, |directory| {
                let seen = directory.seen(directory.slot_at(stored.id, lens.moment.0)?, lens.moment.0)?;
                Some((seen, linked(directory, stored.id, lens, "members")))
            });
            let (seen, linked) = seen.flatten().unzip();
            match seen {
                Some(seen) if seen.row == stored.row => {
                    version = seen.version;
                    last_modified = Timestamp::from_millisecond(seen.modified_ms).unwrap_or_default();
                }
                Some(_) | None => is_current = false,
            }
            let (links, is_whole) = self.links(tenant, linked.flatten(), lens);
            (members, is_current) = (links, is_current && is_whole);
        }
        if wants("schemas") {
            let held = registry.extensions(kind).filter(|schema| {
                let members = stored.document.get(&schema.id).and_then(Value::as_object);
                let is_known = |name: &String| schema.attributes.iter().any(|known| known.name == *name);
                members.is_some_and(|members| members.keys().any(is_known))
            });
            let held = held.map(|schema| &schema.id);
            let schemas: Vec<&String> = std::iter::once(&kind.schema).chain(held).collect();
            object.insert("schemas".to_string(), json!(schemas));
        }
        if wants("id") {
            object.insert("id".to_string(), stored.id.to_string().into());
        }
        if let Some(external_id) = stored.external_ids.get(&lens.source).filter(|_| wants("externalId")) {
            object.insert("externalId".to_string(), external_id.clone().into());
        }
        if wants("meta") {
            let location = format!("{}{}/{}", lens.base_url, kind.endpoint, stored.id);
            object.insert(
                "meta".to_string(),
                json!({
                    "resourceType": stored.resource_type,
                    "created": date_time(stored.created),
                    "lastModified": date_time(last_modified),
                    "location": location,
                    "version": version.to_string(),
                }),
            );
        }
        if let Some(members) = members {
            object.insert("members".to_string(), members.into());
        }
        if lens.groups && has("groups") {
            let linked = self.with(tenant, |directory| linked(directory, stored.id, lens, "groups"));
            if let (Some(groups), _) = self.links(tenant, linked.flatten(), lens) {
                object.insert("groups".to_string(), groups.into());
            }
        }
        for (extension, attribute) in naming_attributes(registry, kind) {
            let members = match extension {
                None => Some(&mut object),
                Some(urn) => object.get_mut(urn).and_then(Value::as_object_mut),
            };
            if let Some(named) = members.and_then(|members| members.get_mut(&attribute.name)?.as_object_mut())
            {
                self.insert_name(tenant, lens, attribute, named);
            }
        }
        Represented { object, version, is_current }
    }

    /// Where the text of a resource's document is cut, where that is kept; nothing when only its tree will do.
    pub(crate) fn cuts<'a>(&self, stored: &'a Stored, kind: &ResourceType) -> Option<&'a Cuts> {
        stored.cuts.content.as_ref()?.cuts(&self.inner.frames.get(&kind.name)?.seams)
    }

    /// Whom a resource names in attributes that show the other's name.
    pub(crate) fn named(&self, stored: &Stored) -> Vec<ResourceId> {
        let registry = &self.inner.registry;
        let Some(kind) = registry.by_name(&stored.resource_type) else { return Vec::new() };
        if let Some(cuts) = self.cuts(stored, kind) {
            return cuts.named.iter().filter_map(|named| named.id).collect();
        }
        let id = |(extension, attribute): (Option<&str>, &Attribute)| {
            let members = match extension {
                None => Some(&*stored.document),
                Some(urn) => stored.document.get(urn)?.as_object(),
            };
            members?.get(&attribute.name)?.get("value")?.as_str()?.parse().ok()
        };
        naming_attributes(registry, kind).filter_map(id).collect()
    }

    /// `$ref` and `displayName` of an attribute that names another resource.
    fn insert_name(&self, tenant: &Tenant, lens: &Lens, attribute: &Attribute, named: &mut Object) {
        let registry = &self.inner.registry;
        let Some(value) = named.get("value").and_then(Value::as_str) else { return };
        let found = value.parse::<ResourceId>().ok().and_then(|id| {
            self.with(tenant, |directory| {
                let at = lens.moment.0;
                let slot = directory.slot_at(id, at).filter(|slot| directory.exists(*slot, at))?;
                let display = directory.display(slot, at).map(str::to_string);
                Some((directory.type_at(slot).to_string(), display))
            })
            .flatten()
        });
        let (resource_type, display) = match found {
            Some((resource_type, display)) => (Some(resource_type), display),
            None => (attribute.sub("$ref").and_then(|sub| sub.reference_types.first().cloned()), None),
        };
        if let Some(kind) = resource_type.and_then(|name| registry.by_name(&name)) {
            let reference = format!("{}{}/{value}", lens.base_url, kind.endpoint);
            named.entry("$ref").or_insert_with(|| reference.into());
        }
        if let Some(display) = display {
            named.insert("displayName".to_string(), display.into());
        }
    }

    /// The links to a group's members, or to the groups of a resource; nothing when there are none. Whether these are all.
    fn links(
        &self,
        tenant: &Tenant,
        linked: Option<Linked<Other>>,
        lens: &Lens,
    ) -> (Option<Vec<Value>>, bool) {
        let Some(linked) = linked.filter(|linked| !linked.is_empty()) else { return (None, true) };
        let (types, at) = (&self.inner.registry, linked.moment().0);
        let mut links = Vec::with_capacity(linked.others().len());
        let is_whole = self.in_pieces(tenant, &linked, |directory, piece| {
            let link = |(slot, direct): &Other| {
                let (id, kind) = (directory.id(*slot)?, directory.type_at(*slot));
                let endpoint = &types.by_name(kind)?.endpoint;
                let mut link = Object::new();
                link.insert("value".to_string(), id.to_string().into());
                link.insert("$ref".to_string(), format!("{}{endpoint}/{id}", lens.base_url).into());
                let word = match direct {
                    None => kind,
                    Some(true) => "direct",
                    Some(false) => "indirect",
                };
                link.insert("type".to_string(), word.into());
                if let Some(display) = directory.display(*slot, at) {
                    link.insert("display".to_string(), display.into());
                }
                Some(Value::Object(link))
            };
            links.extend(piece.iter().filter_map(link));
        });
        ((!links.is_empty()).then_some(links), is_whole)
    }
}

/// A member, or a group and whether the resource is in it by itself.
type Other = (Slot, Option<bool>);

/// Whom the attribute of this name links a resource to.
fn linked(directory: &Directory, id: ResourceId, lens: &Lens, name: &str) -> Option<Linked<Other>> {
    let at = lens.moment.0;
    let slot = directory.slot_at(id, at)?;
    let others = match name {
        "members" => directory.edges().members(slot, at).into_iter().map(|slot| (slot, None)).collect(),
        _ => {
            let groups = directory.edges().ancestors(slot, at);
            groups.into_iter().map(|(slot, direct)| (slot, Some(direct))).collect()
        }
    };
    Linked::new(directory, slot, at, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_alike() {
        let some = (0..2_000_i64).map(|step| step * 27_182_818_284_590 - 1_000_000_000_000_000);
        let odd =
            [0, 1, 999, 999_999, 1_000_000, -1, -1_000_000, 1_709_164_800_000_000, 253_402_207_200_999_999];
        for us in some.chain(odd) {
            let Ok(time) = Timestamp::from_microsecond(us) else { continue };
            let mut out = Vec::new();
            put_date_time(time, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), date_time(time), "{us}");
        }
    }
}
