//! `[gateway]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use gateway::Policies;
use serde::Deserialize;
use url::Url;

use super::SCIM_PORT;
use crate::args::Serve;
use crate::file::Mistakes;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Section {
    listen: Option<SocketAddr>,
    public_url: Option<String>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    behind_proxy: bool,
    announce_security_events: bool,
    pub(super) limits: gateway::Limits,
}

/// The gateway's configuration, of flags first and then of the file.
pub(super) fn config(
    serve: Option<&Serve>,
    section: Section,
    policies: Policies,
    mistakes: &mut Mistakes,
) -> gateway::Config {
    let flag = |of: fn(&Serve) -> Option<PathBuf>| serve.and_then(of);
    let certificate = flag(|serve| serve.tls_certificate.clone()).or(section.tls_certificate);
    let key = flag(|serve| serve.tls_key.clone()).or(section.tls_key);
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(gateway::Tls { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            mistakes.add("gateway.tls_certificate: needs gateway.tls_key too");
            None
        }
        (None, Some(_)) => {
            mistakes.add("gateway.tls_key: needs gateway.tls_certificate too");
            None
        }
    };
    let public_url = serve.and_then(|serve| serve.public_url.clone()).or(section.public_url);
    if let Some(url) = &public_url
        && !Url::parse(url).is_ok_and(|url| is_base(&url))
    {
        mistakes.add(format!(
            "gateway.public_url: {url:?} is no http or https URL that others begin with (no user, no ? and no #)"
        ));
    }
    gateway::Config {
        listen: serve
            .and_then(|serve| serve.scim_listen)
            .or(section.listen)
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, SCIM_PORT))),
        tls,
        public_url,
        behind_proxy: section.behind_proxy || serve.is_some_and(|serve| serve.behind_proxy),
        announce_security_events: section.announce_security_events,
        limits: section.limits,
        policies,
    }
}

fn is_base(url: &Url) -> bool {
    let is_alone = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    matches!(url.scheme(), "http" | "https") && is_alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_begin_with_a_url_that_ends_nothing() {
        let is_base = |text: &str| is_base(&text.parse().unwrap());
        assert!(is_base("https://scim.example.com") && is_base("http://localhost:7643/rollcall/"));
        for bad in ["ftp://x", "https://x/?a=b", "https://x/#a", "https://ada@x/"] {
            assert!(!is_base(bad), "{bad}");
        }
    }
}
