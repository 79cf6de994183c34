//! What a page needs of memory, fetched side by side. What is shown of one resource lies at the end of chains of places,
//! none of which is in the processor's cache. Of a hundred, each step is waited for once when all of them take it together.

use proto::Tenant;

use crate::cuts::Named;
use crate::directory::{Directory, Mark, NOW, Slot};
use crate::kin::Kin;
use crate::{Lens, Projection, Stored};

impl Projection {
    /// Has near what [`Projection::write_json`] will read of these resources. It changes no answer.
    pub fn look_ahead(&self, tenant: &Tenant, resources: &[Stored], lens: &Lens) {
        let registry = &self.inner.registry;
        let mut named: Vec<&Named> = Vec::with_capacity(resources.len());
        for stored in resources {
            let kind = registry.by_name(&stored.resource_type);
            let cuts = kind.and_then(|kind| self.cuts(stored, kind));
            named.extend(cuts.iter().flat_map(|cuts| &cuts.named));
        }
        self.with(tenant, |directory| {
            names(directory, &named, lens);
            if lens.groups {
                groups(directory, resources, lens);
            }
        });
    }
}

/// Whom documents name, and what they are called.
fn names(directory: &Directory, named: &[&Named], lens: &Lens) {
    let at = lens.moment.0;
    let slot = |named: &&Named| {
        let slot = directory.slot_near(named.id?, named.guess.get(), at)?;
        named.guess.set(slot);
        Some(slot)
    };
    let slots: Vec<Slot> = named.iter().filter_map(slot).collect();
    directory.values().look_ahead(&slots);
}

/// The groups that resources are in now, kept beside them for whoever writes them.
fn groups(directory: &Directory, resources: &[Stored], lens: &Lens) {
    if directory.moment_or_now(lens.moment.0) != NOW {
        return;
    }
    let edges = directory.edges();
    let kin = resources.iter().filter_map(|stored| stored.cuts.slot.zip(stored.cuts.content.as_ref()));
    let marked = kin.map(|(slot, content)| (slot, edges.mark(slot), &content.kin));
    let unknown: Vec<(Slot, Mark, &Kin)> =
        marked.filter(|(_, mark, kin)| kin.kept().of(*mark).is_none()).collect();
    let slots: Vec<Slot> = unknown.iter().map(|(slot, _, _)| *slot).collect();
    for ((_, mark, kin), groups) in unknown.into_iter().zip(edges.flat_groups(&slots)) {
        groups.into_iter().for_each(|groups| kin.keep(mark, groups));
    }
}
