//! A digest of everything that a directory answers: two projections of one log have the same.

use proto::Tenant;
use sha2::{Digest as _, Sha256};

use crate::directory::Slot;
use crate::stored::Outline;
use crate::{Error, Moment, Projection};

/// Resources that are read before others get their turn.
const PIECE: u32 = 1024;

/// What a directory answers, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// As of which sequence.
    pub sequence: u64,
    /// How many resources exist.
    pub resources: u64,
    /// SHA-256 over each of them in the order of creation: id, type, version, times, document, `externalId`s, members.
    pub sha256: [u8; 32],
}

impl Projection {
    /// The digest of a tenant's directory at a moment; `progress` is told how many places were looked at, and of how
    /// many.
    pub async fn digest(
        &self,
        tenant: &Tenant,
        moment: Moment,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Option<Digest>, Error> {
        let Some((sequence, _)) = self.stands_at(tenant, moment) else { return Ok(None) };
        // What comes meanwhile does not count.
        let Some(moment) = self.moment(tenant, crate::When::Sequence(sequence))? else { return Ok(None) };
        let (mut hash, mut resources) = (Sha256::new(), 0);
        let end = self.with(tenant, |directory| directory.resource_count()).unwrap_or_default();
        let end = Slot::try_from(end).unwrap_or(Slot::MAX);
        let mut first = 0;
        while first < end {
            let last = end.min(first.saturating_add(PIECE));
            let outlines = self.with(tenant, |directory| {
                let outline = |slot| {
                    let members = directory.edges().members(slot, moment.0);
                    let members =
                        members.into_iter().filter_map(|slot| directory.id(slot)).collect::<Vec<_>>();
                    Some((Outline::of(directory, slot, moment.0)?, members))
                };
                (first..last).filter_map(outline).collect::<Vec<_>>()
            });
            for (outline, members) in outlines.unwrap_or_default() {
                let stored = self.read(tenant, outline).await?;
                resources += 1;
                let mut field = |bytes: &[u8]| {
                    hash.update((bytes.len() as u64).to_be_bytes());
                    hash.update(bytes);
                };
                field(stored.id.as_bytes());
                field(stored.resource_type.as_bytes());
                field(stored.version.to_string().as_bytes());
                field(&stored.created.as_millisecond().to_be_bytes());
                field(&stored.last_modified.as_millisecond().to_be_bytes());
                field(stored.document.json());
                for (source, id) in stored.external_ids.iter() {
                    field(source.as_bytes());
                    field(id.as_bytes());
                }
                for member in members {
                    field(member.as_bytes());
                }
            }
            first = last;
            progress(u64::from(first), u64::from(end));
            tokio::task::yield_now().await;
        }
        Ok(Some(Digest { sequence, resources, sha256: hash.finalize().into() }))
    }
}
