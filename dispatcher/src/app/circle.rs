//! Names that go round: each of several resources is to have the name that the next one has at the app. None of them can be
//! told so, until one has another name for a moment.

use std::collections::BTreeSet;

use proto::ResourceId;
use scim::AttrPath;

use super::look::Now;
use super::perform::Performer;
use crate::Error;
use crate::connector::Found;
use crate::link::Link;
use crate::matching::value;
use crate::plan::Call;

/// So many that have each other's names are followed.
const ROUND_MAX: usize = 8;
/// Letters of an id that make a name nobody else's.
const MARK_LENGTH: usize = 8;
/// Why somebody is told a name that nobody gave him.
pub(super) const FOR_A_MOMENT: &str = "names go round: it has another one until its own is free";

impl Performer {
    /// How a resource whose name is another's makes way, if that one waits in turn for the name that this one has there.
    /// Of those whose names go round, one does.
    pub(super) async fn makes_way(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
    ) -> Result<Option<Call>, Error> {
        let (Some(remote_id), Ok(desired)) = (link.remote_id.clone(), &now.desired) else { return Ok(None) };
        let Some(unique) = self.shared.registry.unique_attribute(&now.kind) else { return Ok(None) };
        let path = AttrPath::of(&unique.name);
        let Some(wanted) = value(&path, &desired.attributes) else { return Ok(None) };
        let mut name = wanted.clone();
        for step in 0..ROUND_MAX {
            let Found::One(holder) = self.app.find(&now.kind, &path, &name, |_, _| false).await else {
                return Ok(None);
            };
            let holders = self.shared.links.owners(&self.name, &now.kind.name, &BTreeSet::from([holder]));
            let Some(holder) = holders.into_values().next() else { return Ok(None) };
            if holder == id {
                let mut attributes = desired.attributes.clone();
                attributes.insert(unique.name.clone(), marked(&wanted, id).into());
                return Ok((step > 0).then_some(Call::Update { remote_id, attributes }));
            }
            if holder < id {
                return Ok(None);
            }
            let other = self.shared.links.get(&self.name, holder);
            // Who waits for a person keeps his name until then.
            if other.held.is_some() {
                return Ok(None);
            }
            let Some(other) = self.look(holder, &other).await? else { return Ok(None) };
            let next = other.desired.ok().and_then(|desired| value(&path, &desired.attributes));
            // Who keeps it makes nobody way.
            let Some(next) = next.filter(|next| scim::fold(next) != scim::fold(&name)) else {
                return Ok(None);
            };
            name = next;
        }
        Ok(None)
    }
}

/// A name that nobody else has, in the form of this one: some apps take addresses only.
fn marked(name: &str, id: ResourceId) -> String {
    let id = id.uuid().simple().to_string();
    let mark = id.get(id.len() - MARK_LENGTH..).unwrap_or_default();
    match name.split_once('@') {
        Some((local, domain)) => format!("{local}-{mark}@{domain}"),
        None => format!("{name}-{mark}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_a_moment_looks_like_the_one_that_is_waited_for() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(marked("ada", id), "ada-099a8057");
        assert_eq!(marked("ada@corp.test", id), "ada-099a8057@corp.test");
    }
}
