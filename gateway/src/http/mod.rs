//! HTTP: requests in, answers out. It knows status codes and headers, and decides nothing.

mod bulk;
mod discovery;
mod later;
mod leftover;
mod list;
mod me;
mod problem;
mod reply;
mod request;
mod resources;

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tracing::Instrument;

use crate::Gateway;
pub(crate) use problem::Problem;

impl Gateway {
    /// Every route, under the tenant's path and under the path of the credential's tenant.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/scim/v2/", get(list::everything))
            .route("/t/{tenant}/scim/v2/", get(list::everything))
            .nest("/scim/v2", routes())
            .nest("/t/{tenant}/scim/v2", routes())
            .fallback(nothing_here)
            .method_not_allowed_fallback(no_such_method)
            .layer(middleware::from_fn(leftover::read_out))
            .layer(middleware::from_fn(observed))
            .with_state(self.clone())
    }
}

fn routes() -> Router<Gateway> {
    Router::new()
        .route("/ServiceProviderConfig", get(discovery::service_provider_config))
        .route("/ResourceTypes", get(discovery::resource_types))
        .route("/ResourceTypes/{id}", get(discovery::resource_type))
        .route("/Schemas", get(discovery::schemas))
        .route("/Schemas/{id}", get(discovery::schema))
        .route("/", get(list::everything))
        .route("/.search", post(list::search_everything))
        .route("/Bulk", post(bulk::bulk))
        .route("/Requests/{id}", get(later::read))
        .route("/Me", get(me::read).post(me::create).put(me::replace).patch(me::patch).delete(me::delete))
        .route("/{endpoint}", get(list::list).post(resources::create))
        .route("/{endpoint}/", get(list::list).post(resources::create))
        .route("/{endpoint}/.search", post(list::search))
        .route(
            "/{endpoint}/{id}",
            get(resources::read).put(resources::replace).patch(resources::patch).delete(resources::delete),
        )
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

/// One span, one counter and one duration for each request. The path as it was sent may hold a filter with personal
/// data, so only the route is named.
async fn observed(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_string();
    let method = request.method().to_string();
    let begun = Instant::now();
    let span = tracing::info_span!("request", method, route);
    let response = next.run(request).instrument(span.clone()).await.into_response();
    let elapsed = begun.elapsed();
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(status, duration_ms = elapsed.as_millis(), "answered"));
    metrics::counter!("rollcall_requests_total", "method" => method.clone(), "route" => route.clone(), "status" => status.to_string()).increment(1);
    metrics::histogram!("rollcall_request_duration_seconds", "method" => method, "route" => route)
        .record(elapsed.as_secs_f64());
    response
}
