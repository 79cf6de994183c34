//! What a request says, read once: who, below which URL, which parameters, which body.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use proto::ResourceId;
use scim::list::Question;
use scim::{AttributeSelection, Error, Quirk, ResourceType};
use url::form_urlencoded;

use super::problem::Problem;
use super::resources::deadline;
use crate::execute::Failure;
use crate::fresh::Freshness;
use crate::room::Share;
use crate::{Caller, Gateway, Heard};

/// Asks for a state that is not older than something.
const CONSISTENCY: header::HeaderName = header::HeaderName::from_static("rollcall-consistency");

/// The parameters that are lists, in small letters.
const LISTS: [&str; 2] = ["attributes", "excludedattributes"];

/// The longest name of a host (RFC 1035 §2.3.4), with a port.
const HOST_BYTES_MAX: usize = 255 + ":65535".len();

/// A request whose sender is known.
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    parameters: BTreeMap<String, String>,
    pub(crate) headers: HeaderMap,
    endpoint: String,
    pub(crate) id: String,
    user: Option<ResourceId>,
    /// How new the state must be that a read is answered from.
    pub(crate) freshness: Freshness,
    /// The transaction: one for each request.
    pub(crate) txn: String,
    /// The room that a large body takes, until it is answered and the answer was taken.
    pub(super) room: OnceLock<Arc<Share>>,
}

impl Asked {
    /// The type that the path names.
    pub(crate) fn kind<'a>(&self, gateway: &'a Gateway) -> Result<&'a ResourceType, Problem> {
        let found = gateway.inner.registry.by_endpoint(&self.endpoint);
        found.ok_or_else(|| Problem::not_found("there is no such endpoint; see /ResourceTypes"))
    }

    /// What the parameters ask of a list.
    pub(crate) fn question(&self) -> Result<Question, Problem> {
        Ok(Question::of_parameters(|name| self.parameter(name))?)
    }

    /// The same request on the resource of the subject that the credential stands for (RFC 7644 §3.11).
    pub(crate) async fn for_me(mut self, gateway: &Gateway) -> Result<Self, Problem> {
        let (kind, id) = self.subject(gateway).await?;
        self.endpoint = kind.endpoint.trim_start_matches('/').to_string();
        self.id = id.to_string();
        Ok(self)
    }

    /// The resource of the subject that the credential stands for.
    pub(crate) async fn subject<'a>(
        &self,
        gateway: &'a Gateway,
    ) -> Result<(&'a ResourceType, ResourceId), Problem> {
        let Some(user) = self.user else {
            return Err(Error::status(501, "this credential stands for a service, not for a user").into());
        };
        let inner = &gateway.inner;
        let mut resource_type = inner.projection.type_of(&self.caller.tenant, user);
        if resource_type.is_none() {
            inner.catch_up("miss", deadline(gateway)).await?;
            resource_type = inner.projection.type_of(&self.caller.tenant, user);
        }
        let kind = resource_type.and_then(|name| gateway.inner.registry.by_name(&name));
        let kind = kind.ok_or_else(|| Problem::not_found("the credential's user is gone"))?;
        Ok((kind, user))
    }

    pub(crate) fn selection(&self, gateway: &Gateway) -> Result<AttributeSelection, Problem> {
        Ok(AttributeSelection::parse(
            self.parameter("attributes"),
            self.parameter("excludedAttributes"),
            gateway.inner.limits.attributes_max,
            &gateway.inner.registry,
            self.caller.speech(),
        )?)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> Option<String> {
        joined(&self.headers, name)
    }
}

/// All that a header says. What is no text is there all the same: a precondition that cannot be read does not hold.
fn joined(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut joined = values.next()?.into_owned();
    for value in values {
        joined.push(',');
        joined.push_str(&value);
    }
    Some(joined)
}

impl FromRequestParts<Gateway> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        let path = path_parameters(parts, gateway).await;
        let address = caller_address(parts, gateway);
        if parts.headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
            // RFC 6750 §3.1: whoever stands between us and the client could have meant the other one.
            return Err(Error::status(400, "the header Authorization may stand there once").into());
        }
        let token = bearer(&parts.headers);
        let found = match token {
            None => return Err(Problem::unauthorized(false)),
            Some(token) => gateway.inner.tokens.authenticate(token, eventlog::clock::now()).await,
        };
        let token = found.map_err(Failure::reading)?.ok_or_else(|| Problem::unauthorized(true))?;
        let Path { tenant, endpoint, id } = path?;
        if tenant.as_ref().is_some_and(|tenant| tenant != token.tenant.as_str()) {
            return Err(Error::status(403, "the token belongs to another tenant").into());
        }
        let freshness = freshness(&parts.headers)?;
        let heard = Heard::of(&token.tenant, &token.source);
        let (parameters, plus) = parameters(parts.uri.query().unwrap_or_default());
        let caller = Caller {
            tenant: token.tenant,
            source: token.source,
            dialect: token.dialect,
            actor: token.credential,
            address,
            base_url: base_url(parts, gateway, tenant.as_deref())?,
            reason: String::new(),
            heard: Arc::new(heard),
        };
        if plus {
            caller.speech().note(Quirk::PlusInQuery);
        }
        Ok(Self {
            caller,
            parameters,
            // Whoever comes after us wants the body alone.
            headers: std::mem::take(&mut parts.headers),
            endpoint,
            id,
            user: token.user,
            freshness,
            txn: eventlog::clock::new_uuid().to_string(),
            room: OnceLock::new(),
        })
    }
}

/// A request for discovery, which needs no credential (RFC 7644 §4).
pub(crate) struct Discovering {
    pub(crate) base_url: String,
    pub(crate) id: String,
}

impl FromRequestParts<Gateway> for Discovering {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        if parameters(parts.uri.query().unwrap_or_default()).0.contains_key("filter") {
            return Err(Error::status(403, "discovery endpoints cannot be filtered").into());
        }
        let Path { tenant, id, .. } = path_parameters(parts, gateway).await?;
        Ok(Self { base_url: base_url(parts, gateway, tenant.as_deref())?, id })
    }
}

/// What the path says.
#[derive(Default)]
struct Path {
    tenant: Option<String>,
    endpoint: String,
    id: String,
}

async fn path_parameters(parts: &mut Parts, gateway: &Gateway) -> Result<Path, Problem> {
    let mut path = Path::default();
    match RawPathParams::from_request_parts(parts, gateway).await {
        Ok(found) => {
            for (name, value) in found.iter() {
                match name {
                    "tenant" => path.tenant = Some(value.to_string()),
                    "endpoint" => path.endpoint = value.to_string(),
                    "id" => path.id = value.to_string(),
                    _ => {}
                }
            }
            Ok(path)
        }
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => {
            Err(Problem::not_found("the path names nothing: what its percent signs stand for is not UTF-8"))
        }
        // A route without any.
        Err(_) => Ok(path),
    }
}

/// The query, by names in small letters, and whether a `+` in it stood for itself: it does where spaces are written `%20`.
/// A `Filter` that nobody heard would be answered with everybody. Of a name that is given twice the last counts, but lists
/// go on, as libraries write them.
fn parameters(query: &str) -> (BTreeMap<String, String>, bool) {
    let read = |query: &str| -> BTreeMap<String, String> {
        let mut read = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let name = name.to_ascii_lowercase();
            let before: Option<String> = read.remove(&name);
            let value = match before.filter(|_| LISTS.contains(&name.as_str())) {
                Some(mut list) => {
                    list.push(',');
                    list.push_str(&value);
                    list
                }
                None => value.into_owned(),
            };
            read.insert(name, value);
        }
        read
    };
    if !query.contains('+') {
        return (read(query), false);
    }
    let literal = |pair: &str| pair.contains('+') && pair.contains("%20");
    let plus = query.split('&').any(literal);
    let pairs =
        query.split('&').map(|pair| if literal(pair) { pair.replace('+', "%2B") } else { pair.to_string() });
    (read(&pairs.collect::<Vec<_>>().join("&")), plus)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// What the header asks for. A wish that we do not know is refused: whoever has one must not believe that it was heard.
fn freshness(headers: &HeaderMap) -> Result<Freshness, Problem> {
    let values = headers.get_all(CONSISTENCY).iter().map(|value| value.to_str().unwrap_or_default());
    let values: Vec<&str> = values.collect();
    if values.is_empty() {
        return Ok(Freshness::Own);
    }
    Freshness::parse(&values.join(",")).ok_or_else(|| {
        let detail =
            "the header Rollcall-Consistency must be latest, or a version as in an ETag: W/\"42-1f3a57cc\"";
        Error::value(detail).into()
    })
}

/// Where a client reached us: `public_url`, else what it wrote in Host. That stands in every link of an answer.
fn base_url(parts: &Parts, gateway: &Gateway, tenant: Option<&str>) -> Result<String, Problem> {
    if parts.headers.get_all(header::HOST).iter().nth(1).is_some() {
        // RFC 9112 §3.2: whoever stands between us and the client could have meant another one.
        return Err(Error::status(400, "the header Host may stand there once").into());
    }
    let path = tenant.map_or_else(|| "/scim/v2".to_string(), |tenant| format!("/t/{tenant}/scim/v2"));
    if let Some(url) = &gateway.inner.public_url {
        return Ok(format!("{url}{path}"));
    }
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let forwarded = |name: &str| {
        let list = header(name).filter(|_| gateway.inner.behind_proxy)?;
        list.split(',').next().map(str::trim)
    };
    let spoken = forwarded("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https"));
    let scheme = spoken.unwrap_or(if gateway.inner.tls { "https" } else { "http" });
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let host = forwarded("x-forwarded-host").or_else(|| header("host")).or(authority).unwrap_or("localhost");
    if !is_host(host) {
        // RFC 9112 §3.2: a Host that is none is answered 400.
        return Err(Error::status(400, "the header Host must be a host name, with or without a port").into());
    }
    Ok(format!("{scheme}://{host}{path}"))
}

fn is_host(text: &str) -> bool {
    text.len() <= HOST_BYTES_MAX && !text.contains('@') && text.parse::<Authority>().is_ok()
}

/// Who called: behind a proxy whom it names, else whoever is connected to us.
fn caller_address(parts: &Parts, gateway: &Gateway) -> String {
    let forwarded = Some(&parts.headers).filter(|_| gateway.inner.behind_proxy).and_then(forwarded_for);
    let connected = || parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    forwarded.or_else(connected).map(|address| address.to_string()).unwrap_or_default()
}

/// The address that the proxy in front added, which is the last one. What stands before it came with the request, and
/// the client can have written anything there.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let last = last.rsplit(',').next()?.trim();
    let with_port = || last.parse::<SocketAddr>().ok().map(|address| address.ip());
    last.trim_matches(['[', ']']).parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn only_what_the_proxy_added_is_believed() {
        let check = |values: &[&str], expected: Option<&str>| {
            let headers: HeaderMap = values
                .iter()
                .map(|value| (HeaderName::from_static("x-forwarded-for"), value.parse().unwrap()))
                .collect();
            let found = forwarded_for(&headers).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{values:?}");
        };
        check(&[], None);
        check(&["203.0.113.7"], Some("203.0.113.7"));
        check(&["10.0.0.1, 198.51.100.2,203.0.113.7 "], Some("203.0.113.7"));
        check(&["10.0.0.1", "203.0.113.7"], Some("203.0.113.7"));
        check(&["203.0.113.7:4711"], Some("203.0.113.7"));
        check(&["2001:db8::7"], Some("2001:db8::7"));
        check(&["[2001:db8::7]"], Some("2001:db8::7"));
        check(&["[2001:db8::7]:4711"], Some("2001:db8::7"));
        check(&["203.0.113.7, unknown"], None);
        check(&["203.0.113.7, <script>"], None);
    }

    #[test]
    fn a_query_is_read_as_it_was_meant() {
        let check = |query: &str, expected: &[(&str, &str)], plus: bool| {
            let expected = expected.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string()));
            assert_eq!(parameters(query), (expected.collect(), plus), "{query}");
        };
        check("", &[], false);
        check(
            "startindex=3&COUNT=2&sortBy=id",
            &[("startindex", "3"), ("count", "2"), ("sortby", "id")],
            false,
        );
        check("Filter=userName+eq+%22a%2Bb%22", &[("filter", "userName eq \"a+b\"")], false);
        check(
            "filter=userName%20eq%20%22a+b%22&x=1+2",
            &[("filter", "userName eq \"a+b\""), ("x", "1 2")],
            true,
        );
        check("cursor&count=", &[("cursor", ""), ("count", "")], false);
        check(
            "attributes=userName&Attributes=title&count=1&count=2",
            &[("attributes", "userName,title"), ("count", "2")],
            false,
        );
    }

    #[test]
    fn a_header_that_is_no_text_does_not_pass_for_none() {
        let of = |values: &[&[u8]]| {
            let values =
                values.iter().map(|value| (header::IF_MATCH, HeaderValue::from_bytes(value).unwrap()));
            joined(&values.collect(), header::IF_MATCH)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[b"\"1-2\"", b"*"]).as_deref(), Some("\"1-2\",*"));
        assert_eq!(of(&[b"\"\xff\""]).as_deref(), Some("\"\u{fffd}\""));
        assert_eq!(of(&["\"é\"".as_bytes()]).as_deref(), Some("\"é\""));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_not_long() {
        for good in
            ["localhost", "scim.example.com:443", "127.0.0.1:7643", "[::1]:7643", "xn--bcher-kva.example"]
        {
            assert!(is_host(good), "{good}");
        }
        let long = format!("{}.example", "a".repeat(HOST_BYTES_MAX));
        for bad in ["", "a b", "a\"b", "a\\b", "ada@host", "host/path", "a, b", "b\u{fc}cher", long.as_str()]
        {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
