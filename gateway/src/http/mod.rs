//! HTTP: requests in, answers out. It knows status codes and headers, and decides nothing.

mod body;
mod bulk;
mod discovery;
mod later;
mod list;
mod me;
mod observed;
mod problem;
mod reply;
mod request;
mod resources;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use crate::Gateway;
use observed::{Observed, observed};
pub(crate) use problem::{Problem, unreadable};

impl Gateway {
    /// Every route, under the tenant's path and under the path of the credential's tenant.
    pub fn router(&self) -> Router {
        ["/scim/v2", "/t/{tenant}/scim/v2"]
            .into_iter()
            .fold(Router::new(), routes)
            .fallback(nothing_here)
            .method_not_allowed_fallback(no_such_method)
            .layer(middleware::from_fn_with_state(Arc::new(Observed::default()), observed))
            .with_state(self.clone())
    }
}

/// The routes below a base path. None is nested: a router within a router costs every request its own search.
fn routes(router: Router<Gateway>, base: &str) -> Router<Gateway> {
    let me = get(me::read).post(me::create).put(me::replace).patch(me::patch).delete(me::delete);
    let one = get(resources::read).put(resources::replace).patch(resources::patch).delete(resources::delete);
    let routes = [
        ("/ServiceProviderConfig", get(discovery::service_provider_config)),
        ("/ResourceTypes", get(discovery::resource_types)),
        ("/ResourceTypes/{id}", get(discovery::resource_type)),
        ("/Schemas", get(discovery::schemas)),
        ("/Schemas/{id}", get(discovery::schema)),
        ("", get(list::everything)),
        ("/.search", post(list::search_everything)),
        ("/Bulk", post(bulk::bulk)),
        ("/Requests/{id}", get(later::read)),
        ("/Me", me),
        ("/{endpoint}", get(list::list).post(resources::create)),
        ("/{endpoint}/.search", post(list::search)),
        ("/{endpoint}/{id}", one),
    ];
    routes.into_iter().fold(router, |router, (path, methods)| {
        // A slash at the end means the same.
        router.route(&format!("{base}{path}/"), methods.clone()).route(&format!("{base}{path}"), methods)
    })
}

/// RFC 7644 §3.13: a base path may name a version, and only 2 is spoken here.
async fn nothing_here(uri: axum::http::Uri) -> Problem {
    let version = uri.path().split("/scim/v").nth(1).and_then(|rest| rest.split('/').next());
    if version
        .is_some_and(|version| version != "2" && version.starts_with(|first: char| first.is_ascii_digit()))
    {
        return Problem::refused(scim::Error::new(
            scim::ScimType::InvalidVers,
            "only SCIM 2.0 is served, below /scim/v2",
        ));
    }
    Problem::not_found("there is no such endpoint; resources are below /t/TENANT/scim/v2 or /scim/v2")
}

async fn no_such_method() -> Problem {
    Problem::refused(scim::Error::status(
        405,
        "this endpoint does not have this method; see the header Allow",
    ))
}
