//! What a page needs of memory, fetched side by side. What is shown of one resource lies at the end of chains of places,
//! none of which is in the processor's cache. Of a hundred, each step is waited for once when all of them take it together.

use proto::Tenant;

use crate::content::Named;
use crate::directory::{Directory, NOW, Slot};
use crate::{Lens, Projection, Stored};

impl Projection {
    /// Has near what [`Projection::write_json`] will read of these resources. It changes no answer.
    pub fn look_ahead(&self, tenant: &Tenant, resources: &[Stored], lens: &Lens) {
        let registry = &self.inner.registry;
        let mut named: Vec<&Named> = Vec::with_capacity(resources.len());
        for stored in resources {
            let kind = registry.by_name(&stored.resource_type);
            let content = stored.cuts.content.as_ref();
            let cuts = content.zip(kind).and_then(|(content, kind)| content.cuts(registry, kind));
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

/// The groups that resources are in now, save those that are kept beside them.
fn groups(directory: &Directory, resources: &[Stored], lens: &Lens) {
    if directory.moment_or_now(lens.moment.0) != NOW {
        return;
    }
    let edges = directory.edges();
    let slots: Vec<Slot> = resources.iter().filter_map(|stored| stored.cuts.slot).collect();
    let marks: Vec<_> = slots.iter().map(|slot| edges.mark(*slot)).collect();
    let is_kept = |(stored, mark): (&Stored, _)| {
        stored.cuts.content.as_ref().is_some_and(|content| content.kin.kept().of(mark).is_some())
    };
    let kept = resources.iter().zip(marks).map(is_kept);
    let unknown: Vec<Slot> =
        slots.iter().zip(kept).filter(|(_, kept)| !kept).map(|(slot, _)| *slot).collect();
    edges.look_ahead(&unknown);
}
