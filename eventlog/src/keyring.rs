//! Data keys: issued from pages that are made with one write for 256 keys, read through a cache.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::sealing::{self, DataKey};
use proto::{KeyRef, Tenant};
use uuid::Uuid;

use crate::{Bucket, Error, clock};

/// Keys in a page; a slot fits into a byte.
const PAGE_KEYS: u8 = 255;

/// Issues and reads data keys. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Keyring {
    bucket: Arc<dyn Bucket>,
    master: DataKey,
    state: Arc<Mutex<State>>,
    /// Held while a page is made, so that a burst makes one.
    making: Arc<tokio::sync::Mutex<()>>,
}

type Page = Arc<Vec<Option<DataKey>>>;

#[derive(Default)]
struct State {
    tenants: BTreeMap<Tenant, DataKey>,
    pages: BTreeMap<Uuid, Page>,
    /// Where the next key of a tenant is taken from.
    next: BTreeMap<Tenant, (Uuid, u8)>,
    /// How often pages were forgotten: one that was read before must not appear afterwards.
    forgotten: u64,
}

impl Keyring {
    /// A keyring over the bucket KEYS.
    pub fn new(bucket: Arc<dyn Bucket>, master: DataKey) -> Self {
        Self { bucket, master, state: Arc::default(), making: Arc::default() }
    }

    /// A key that nobody uses yet.
    pub async fn issue(&self, tenant: &Tenant) -> Result<(KeyRef, DataKey), Error> {
        if let Some(issued) = self.take(tenant) {
            return Ok(issued);
        }
        let _alone = self.making.lock().await;
        let next = self.lock().next.get(tenant).copied();
        if let Some((page, slot)) = next {
            // What is left of a page that was forgotten; a new one is made when it is gone.
            let _ = self.key(tenant, KeyRef { page, slot }).await;
        }
        if let Some(issued) = self.take(tenant) {
            return Ok(issued);
        }
        self.make_page(tenant).await?;
        self.take(tenant).ok_or_else(|| damaged("a page that was just made is empty"))
    }

    /// A key; nothing when it was erased.
    pub async fn key(&self, tenant: &Tenant, at: KeyRef) -> Result<Option<DataKey>, Error> {
        if let Some(found) = self.cached(at) {
            return Ok(found);
        }
        let forgotten = self.lock().forgotten;
        let name = page_name(at.page);
        let Some((bytes, _)) = self.bucket.get(&name).await? else {
            return Err(damaged(&format!("{name} is gone from the bucket KEYS; restore it from the backup")));
        };
        let tenant_key = self.tenant_key(tenant).await?;
        let keys = sealing::unwrap_page(&bytes, &tenant_key, &name)
            .map_err(|_| damaged(&format!("{name} does not open under the key of tenant {tenant}")))?;
        let page: Page = Arc::new(keys);
        let key = page.get(usize::from(at.slot)).cloned().flatten();
        let mut state = self.lock();
        if state.forgotten == forgotten {
            state.pages.insert(at.page, page);
        }
        Ok(key)
    }

    /// Keys were erased by somebody: what was read is read again when it is needed.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.forgotten += 1;
        state.pages.clear();
        state.tenants.clear();
    }

    /// A key if its page is cached; the inner nothing means that it was erased.
    pub fn cached(&self, at: KeyRef) -> Option<Option<DataKey>> {
        self.lock().pages.get(&at.page).map(|page| page.get(usize::from(at.slot)).cloned().flatten())
    }

    /// Whether [`Keyring::cached`] knows a key.
    pub fn is_cached(&self, at: KeyRef) -> bool {
        self.lock().pages.contains_key(&at.page)
    }

    /// Seals a text that belongs to a tenant.
    pub async fn seal(&self, tenant: &Tenant, plain: &[u8], associated: &[u8]) -> Result<Bytes, Error> {
        let key = self.tenant_key(tenant).await?;
        let nonce: sealing::Nonce = clock::random()?;
        let sealed = key.seal(&nonce, plain, associated);
        Ok(nonce.into_iter().chain(sealed).collect())
    }

    /// Opens what [`Keyring::seal`] made.
    pub async fn open(&self, tenant: &Tenant, sealed: &[u8], associated: &[u8]) -> Result<Vec<u8>, Error> {
        let key = self.tenant_key(tenant).await?;
        let parts = sealed.split_at_checked(sealing::NONCE_BYTES);
        let opened = parts.and_then(|(nonce, sealed)| key.open(nonce, sealed, associated).ok());
        opened.ok_or_else(|| damaged(&format!("a value of tenant {tenant} does not open under its key")))
    }

    fn take(&self, tenant: &Tenant) -> Option<(KeyRef, DataKey)> {
        let mut state = self.lock();
        let (page, slot) = *state.next.get(tenant)?;
        let key = state.pages.get(&page)?.get(usize::from(slot)).cloned().flatten()?;
        state.next.insert(tenant.clone(), (page, slot.saturating_add(1)));
        Some((KeyRef { page, slot }, key))
    }

    async fn make_page(&self, tenant: &Tenant) -> Result<(), Error> {
        let tenant_key = self.tenant_key(tenant).await?;
        let page = clock::new_uuid();
        let name = page_name(page);
        let keys: Vec<(DataKey, sealing::Nonce)> = (0..PAGE_KEYS)
            .map(|_| Ok((DataKey::new(clock::random()?), clock::random()?)))
            .collect::<Result<_, Error>>()?;
        self.bucket.create(&name, sealing::wrap_page(&keys, &tenant_key, &name)).await?;
        let mut state = self.lock();
        state.pages.insert(page, Arc::new(keys.into_iter().map(|(key, _)| Some(key)).collect()));
        state.next.insert(tenant.clone(), (page, 0));
        Ok(())
    }

    /// The key of a tenant, for whoever seals or opens much at once.
    pub async fn tenant_key(&self, tenant: &Tenant) -> Result<DataKey, Error> {
        if let Some(key) = self.lock().tenants.get(tenant) {
            return Ok(key.clone());
        }
        let name = format!("tenant.{tenant}");
        let key = match self.bucket.get(&name).await? {
            Some((bytes, _)) => self.unwrap(&bytes, tenant)?,
            None => {
                let key = DataKey::new(clock::random()?);
                let wrapped =
                    sealing::wrap_tenant_key(&key, &self.master, &clock::random()?, tenant.as_str());
                match self.bucket.create(&name, wrapped).await {
                    Ok(_) => key,
                    Err(Error::Conflict { .. }) => match self.bucket.get(&name).await? {
                        Some((bytes, _)) => self.unwrap(&bytes, tenant)?,
                        None => return Err(damaged(&format!("{name} vanished from the bucket KEYS"))),
                    },
                    Err(error) => return Err(error),
                }
            }
        };
        self.lock().tenants.insert(tenant.clone(), key.clone());
        Ok(key)
    }

    fn unwrap(&self, bytes: &[u8], tenant: &Tenant) -> Result<DataKey, Error> {
        sealing::unwrap_tenant_key(bytes, &self.master, tenant.as_str())
            .map_err(|_| damaged(&format!("the key of tenant {tenant} does not open under this master key")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn page_name(page: Uuid) -> String {
    format!("page.{}", page.simple())
}

fn damaged(reason: &str) -> Error {
    Error::Damaged { doing: "reading data keys".to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{self, Faults};

    #[tokio::test]
    async fn what_was_erased_is_forgotten_and_a_page_that_was_begun_goes_on() {
        let (bucket, tenant) = (memory::broker(Faults::default()).keys, "corp".parse().unwrap());
        let keyring = Keyring::new(bucket.clone(), DataKey::new([1; 32]));
        let (first, key) = keyring.issue(&tenant).await.unwrap();
        let name = page_name(first.page);
        let (page, revision) = bucket.get(&name).await.unwrap().unwrap();
        // The first key's place is emptied: a tag, and no bytes.
        let rest = page.slice(2 + usize::from(page[1])..);
        bucket.update(&name, [&page[..1], &[0], &rest].concat().into(), revision).await.unwrap();
        assert_eq!(keyring.key(&tenant, first).await.unwrap(), Some(key));
        keyring.forget();
        assert_eq!(keyring.cached(first), None);
        assert_eq!(keyring.key(&tenant, first).await.unwrap(), None);
        keyring.forget();
        let (second, _) = keyring.issue(&tenant).await.unwrap();
        assert_eq!(second, KeyRef { page: first.page, slot: 1 });
        // A page that is gone is no reason to issue nothing.
        bucket.purge(&name).await.unwrap();
        keyring.forget();
        let (third, _) = keyring.issue(&tenant).await.unwrap();
        assert_ne!(third.page, first.page);
    }
}
