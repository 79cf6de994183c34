//! All that an app lists of one type, page by page: what the app cannot do at the moment is asked for again, and a list
//! that breaks off says why.

use std::time::Duration;

use scim::ResourceType;

use crate::connector::{Listed, Page, Place, ScimApp};

/// Accounts that a page is asked for.
const PAGE: u64 = 100;
/// Pages of one list. An app that goes on for ever is not listed to its end.
const PAGES_MAX: u32 = 200_000;
/// Times in a row that a page is asked for before the list is given up.
const PAGE_ATTEMPTS_MAX: u32 = 8;
/// First wait for an app that does not answer; it doubles.
const PAGE_WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait for an app that does not answer.
const PAGE_WAIT_MAX: Duration = Duration::from_secs(60);

/// Where a list is.
pub(crate) struct Pages<'a> {
    app: &'a ScimApp,
    kind: &'a ResourceType,
    place: Option<Place>,
    count: u64,
    left: u32,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(app: &'a ScimApp, kind: &'a ResourceType) -> Self {
        let most = u64::try_from(app.own(kind).page_max).unwrap_or(PAGE);
        Self { app, kind, place: Some(Place::Index(1)), count: PAGE.min(most).max(1), left: PAGES_MAX }
    }

    /// The next page; nothing after the last. Otherwise why the rest is not shown.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>, String> {
        let name = &self.kind.name;
        let mut failed = 0;
        while let Some(place) = &self.place {
            if self.left == 0 {
                return Err(format!("the app's list of {name} does not end"));
            }
            self.left -= 1;
            match self.app.list(self.kind, place, self.count).await {
                Listed::Page(page) => {
                    self.place.clone_from(&page.next);
                    return Ok(Some(page));
                }
                Listed::TooLarge if self.count > 1 => self.count /= 2,
                Listed::TooLarge => return Err(format!("one {name} is larger than we read")),
                Listed::Refused { status } => return Err(format!("the app does not list {name} ({status})")),
                Listed::NotYet(denied) => tokio::time::sleep(denied.after.min(PAGE_WAIT_MAX)).await,
                Listed::Unavailable { after, error } => {
                    failed += 1;
                    if failed >= PAGE_ATTEMPTS_MAX {
                        return Err(error);
                    }
                    let wait = after.unwrap_or(PAGE_WAIT_MIN * 2_u32.pow(failed.min(6)));
                    tokio::time::sleep(wait.min(PAGE_WAIT_MAX)).await;
                }
            }
        }
        Ok(None)
    }
}
