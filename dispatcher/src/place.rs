//! Where the accounts of an app were made. Elsewhere the ids that they got there are those of others, or of nobody. Pure.

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::valve::{OURSELVES, Said, Valve};

/// The address under which an app's accounts are known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Where they were made, or a person said that they are.
    pub url: String,
    /// Where the configuration looks for them, of which nobody has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
}

impl Place {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_string(), moved_to: None }
    }

    /// What a person must decide, as long as nobody has.
    pub(crate) fn question(&self) -> Option<String> {
        let moved_to = self.moved_to.as_ref()?;
        Some(format!(
            "its accounts were made at {}, and the configuration names {moved_to}: if that is the same app at another address, with the \
             same ids, resume it; if it is another one, give it another name",
            self.url
        ))
    }
}

impl Valve {
    /// Hears where the app is. Once there are accounts, another address is a matter for a person, and nothing is called until
    /// one has said what it means, or the former one is back.
    pub(crate) fn is_at(&mut self, url: &str, has_accounts: bool) {
        let was_asked = self.question().is_some();
        match &mut self.place {
            Some(place) if has_accounts && !is_same(&place.url, url) => {
                place.moved_to = Some(url.to_string());
            }
            // The port it is at today is of no interest.
            Some(place) if has_accounts => place.moved_to = None,
            place => *place = Some(Place::new(url)),
        }
        let is_ours = self.paused.as_ref().is_some_and(|paused| paused.by == OURSELVES);
        match self.question() {
            Some(why) if self.paused.is_none() || is_ours && !self.says(&why) => {
                self.paused = Some(Said::now(OURSELVES, &why));
            }
            None if was_asked && is_ours => self.paused = None,
            Some(_) | None => {}
        }
    }

    /// What a person must decide about where its accounts are.
    pub(crate) fn question(&self) -> Option<String> {
        self.place.as_ref().and_then(Place::question)
    }

    fn says(&self, why: &str) -> bool {
        self.paused.as_ref().is_some_and(|paused| paused.why == why)
    }
}

/// Whether two addresses are those of one app. Ports of this machine are given anew at every start.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let (Ok(one), Ok(other)) = (Url::parse(one), Url::parse(other)) else { return false };
    let parts =
        |url: &Url| (url.host().map(|host| host.to_owned()), url.path().trim_end_matches('/').to_string());
    is_here(&one) && parts(&one) == parts(&other)
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn said(by: &str) -> Said {
        Said { by: by.to_string(), at: Timestamp::UNIX_EPOCH, why: String::new() }
    }

    #[test]
    fn another_port_of_this_machine_is_the_same_app() {
        for (one, other) in [
            ("https://wiki.test/scim", "https://wiki.test/scim"),
            ("http://127.0.0.1:4000/scim", "http://127.0.0.1:4001/scim/"),
            ("http://localhost:4000", "https://localhost:4001"),
            ("http://[::1]:4000/scim", "http://[::1]:4001/scim"),
        ] {
            assert!(is_same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("https://wiki.test/scim", "https://wiki-test.test/scim"),
            ("https://wiki.test/acme/scim", "https://wiki.test/other/scim"),
            ("https://wiki.test/scim", "https://wiki.test:8443/scim"),
            ("http://127.0.0.1:4000/one", "http://127.0.0.1:4000/other"),
            ("http://127.0.0.1:4000/one", "http://localhost:4000/one"),
            ("http://127.0.0.1:4000/scim", "https://wiki.test/scim"),
        ] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn another_address_is_a_matter_for_a_person() {
        let (old, new) = ("https://wiki.test/scim", "https://other.test/scim");
        let by = |valve: &Valve| valve.paused.as_ref().map(|paused| paused.by.clone());
        let mut valve = Valve::default();
        valve.is_at(old, false);
        valve.is_at(new, false);
        assert_eq!((by(&valve), &valve.place), (None, &Some(Place::new(new))), "nobody is there yet");
        valve.is_at(old, true);
        assert_eq!(by(&valve).as_deref(), Some(OURSELVES));
        assert!(
            valve.paused.as_ref().is_some_and(|paused| paused.why.contains(old) && paused.why.contains(new))
        );
        // Back again, nothing has happened.
        valve.is_at(new, true);
        assert_eq!((by(&valve), &valve.place), (None, &Some(Place::new(new))));
        // Whoever resumes says that they are there.
        valve.is_at(old, true);
        let since = valve.paused.clone();
        valve.is_at(old, true);
        assert_eq!(valve.paused, since);
        assert!(valve.resume(&said("ann")).is_ok());
        valve.is_at(old, true);
        assert_eq!((by(&valve), &valve.place), (None, &Some(Place::new(old))));
        // Whoever ends a pause of his own has not been asked yet.
        valve.pause(said("ann")).unwrap();
        valve.is_at(new, true);
        assert_eq!(by(&valve).as_deref(), Some("ann"));
        assert_eq!(valve.resume(&said("ann")), Ok(said("ann")));
        assert_eq!(by(&valve).as_deref(), Some(OURSELVES));
        assert!(valve.resume(&said("ann")).is_ok() && valve.paused.is_none());
        // What was written before places were is where it is.
        let mut valve = Valve::default();
        valve.is_at(old, true);
        assert_eq!((by(&valve), &valve.place), (None, &Some(Place::new(old))));
    }
}
