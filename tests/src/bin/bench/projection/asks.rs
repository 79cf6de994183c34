//! How the directory is opened and asked: the only place of these benchmarks that calls what is measured.

use std::path::Path;
use std::sync::Arc;

use eventlog::{Keyring, Log};
use projector::{Config, Lens, Moment, Part, Projection, Query, Storage, Stored, When, Window};
use proto::{ResourceId, Tenant};
use scim::list::{self, Place};
use scim::{Dialect, Filter, FilterLimits, Registry, Sort};

use super::population::SOURCE;
use super::sealed::tenant;

/// As `rollcall up` has them when nothing is configured.
const CACHE_BYTES: u64 = 32 << 20;
const HOT_BYTES: u64 = 192 << 20;

#[derive(Clone)]
pub(crate) struct Asks {
    pub(crate) projection: Projection,
    registry: Arc<Registry>,
    tenant: Tenant,
    lens: Lens,
}

/// A question, as a client asks it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) kind: &'a str,
    pub(crate) filter: Option<&'a str>,
    pub(crate) sort: Option<&'a str>,
    pub(crate) count: usize,
}

pub(crate) struct Answer {
    pub(crate) total: usize,
    pub(crate) shown: usize,
    /// The ListResponse.
    pub(crate) json: Vec<u8>,
}

impl Asks {
    /// Opens the directory in this folder over this log.
    pub(crate) async fn open(folder: &Path, log: Arc<dyn Log>, keyring: Keyring) -> Self {
        let registry = Arc::new(Registry::built_in().expect("the schemas are valid"));
        let config = Config {
            storage: Storage::Folder(folder.to_path_buf()),
            cache_bytes: CACHE_BYTES,
            hot_bytes: HOT_BYTES,
            indexed: Vec::new(),
            until: None,
            restored_at: None,
        };
        let opened = Projection::open(config, log, keyring, registry.clone()).await;
        let lens = Lens {
            source: SOURCE.to_string(),
            base_url: "http://scim.corp.test/t/corp/scim/v2".to_string(),
            members: true,
            groups: true,
            moment: Moment::NOW,
        };
        Self { projection: opened.expect("the directory opens"), registry, tenant: tenant(), lens }
    }

    /// A resource as JSON, with all that is derived for it.
    pub(crate) async fn get(&self, kind: &str, id: ResourceId) -> Vec<u8> {
        self.shown(kind, id, &self.lens).await
    }

    /// The same without its members.
    pub(crate) async fn get_without_members(&self, kind: &str, id: ResourceId) -> Vec<u8> {
        self.shown(kind, id, &Lens { members: false, ..self.lens.clone() }).await
    }

    async fn shown(&self, kind: &str, id: ResourceId, lens: &Lens) -> Vec<u8> {
        let kind = self.registry.by_name(kind).expect("a built-in type");
        let found = self.projection.resource_at(&self.tenant, &kind.name, id, lens.moment).await;
        let stored = found.expect("it can be read").expect("it exists");
        let mut json = Vec::with_capacity(2048);
        self.projection.write_json(&self.tenant, &stored, kind, lens, &mut json);
        json
    }

    /// Reads a question and answers it, as JSON.
    pub(crate) async fn list(&self, question: Question<'_>) -> Answer {
        let registry = &self.registry;
        let kind = registry.by_name(question.kind).expect("a built-in type");
        let filter = question.filter.map(|text| {
            Filter::parse(text, &FilterLimits::default(), Dialect::Rfc, registry, kind).expect("a filter")
        });
        let sort = question.sort.map(|path| Sort::parse(path, false, registry, kind).expect("a path"));
        let parts = [Part { kind, filter: filter.as_ref(), sort: sort.as_ref() }];
        let window = Window::From(1);
        let (lens, count) = (&self.lens, question.count);
        let query = Query { parts: &parts, lens, window: &window, count, scan_rows_max: usize::MAX };
        let page = self.projection.query(&self.tenant, query).await.expect("an answer");
        let (shown, lens) = (page.resources.len(), Lens { moment: page.moment, ..lens.clone() });
        let json = list::response_text(page.total, Place::Index(1), shown, usize::MAX, |index, json| {
            if let Some(stored) = page.resources.get(index) {
                self.projection.write_json(&self.tenant, stored, kind, &lens, json);
            }
        });
        Answer { total: page.total, shown, json: json.expect("an answer of any length") }
    }

    /// The same directory as of a sequence.
    pub(crate) fn at(&self, sequence: u64) -> Self {
        let moment = self.projection.moment(&self.tenant, When::Sequence(sequence));
        let moment = moment.expect("it is reached").expect("something happened until then");
        Self { lens: Lens { moment, ..self.lens.clone() }, ..self.clone() }
    }

    /// What the directory takes of memory, part by part, in bytes.
    pub(crate) fn parts(&self) -> Vec<(String, usize)> {
        let (parts, _) = self.projection.memory(&self.tenant);
        parts.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect()
    }

    /// A user as it is stored; whoever writes its next event needs it.
    pub(crate) async fn stored(&self, id: ResourceId) -> Stored {
        let found = self.projection.resource(&self.tenant, "User", id).await.expect("it can be read");
        found.expect("it exists")
    }
}
