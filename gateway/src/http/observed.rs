//! What is counted, measured and said of every request.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{Counter, Histogram};
use tracing::Instrument;

use super::reply::{name_plain_json, wants_plain_json};

/// A route by the methods and statuses that it was answered with. Methods that nobody knows share one place, so that
/// clients cannot fill our memory.
type Answers = BTreeMap<(usize, u16), Figures>;

/// The figures of all routes, found without making labels for each request.
#[derive(Default)]
pub(super) struct Observed {
    routes: RwLock<BTreeMap<String, Answers>>,
}

#[derive(Clone)]
struct Figures {
    requests: Counter,
    duration: Histogram,
}

/// The methods that have a route.
static METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A method's place in [`METHODS`].
fn number(method: &Method) -> usize {
    METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len())
}

fn name(number: usize) -> &'static str {
    METHODS.get(number).map_or("other", Method::as_str)
}

impl Observed {
    fn figures(&self, route: &str, method: usize, status: StatusCode) -> Figures {
        let key = (method, status.as_u16());
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(figures) = routes.get(route).and_then(|answers| answers.get(&key)) {
            return figures.clone();
        }
        drop(routes);
        let (method, route) = (name(method), route.to_string());
        let requests = metrics::counter!("rollcall_requests_total", "method" => method, "route" => route.clone(), "status" => status.as_u16().to_string());
        let duration = metrics::histogram!("rollcall_request_duration_seconds", "method" => method, "route" => route.clone());
        let figures = Figures { requests, duration };
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.entry(route).or_default().insert(key, figures.clone());
        figures
    }
}

/// One span, one counter and one duration for each request. The path as it was sent may hold a filter with personal
/// data, so only the route is named.
pub(super) async fn observed(
    State(observed): State<Arc<Observed>>,
    matched: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let method = number(request.method());
    let begun = Instant::now();
    let span = tracing::debug_span!("request", method = name(method), route);
    let plain_json = wants_plain_json(request.headers());
    let mut response = next.run(request).instrument(span.clone()).await;
    if plain_json {
        name_plain_json(&mut response);
    }
    let elapsed = begun.elapsed();
    let status = response.status();
    let figures = observed.figures(route, method, status);
    figures.requests.increment(1);
    figures.duration.record(elapsed.as_secs_f64());
    let (method, status, duration_ms) = (name(method), status.as_u16(), elapsed.as_millis());
    // Whoever asks for what is not there to be had (501) is answered well.
    if status >= 500 && status != 501 {
        tracing::warn!(method, route, status, duration_ms, "a request was not served");
    } else {
        span.in_scope(|| tracing::debug!(status, duration_ms, "answered"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_their_names_and_strangers_share_one() {
        for method in &METHODS {
            assert_eq!(name(number(method)), method.as_str());
        }
        for stranger in ["BREW", "get", "OPTIONS"] {
            assert_eq!(name(number(&Method::from_bytes(stranger.as_bytes()).unwrap())), "other");
        }
    }

    #[test]
    fn an_answer_is_counted_where_the_same_were_before() {
        let observed = Observed::default();
        for (route, method, status) in
            [("/Users", 0, 200), ("/Users", 0, 404), ("/Users", 2, 200), ("none", 0, 404)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            drop(observed.figures(route, method, status));
            drop(observed.figures(route, method, status));
        }
        let routes = observed.routes.read().unwrap();
        assert_eq!((routes.len(), routes["/Users"].len()), (2, 3));
    }
}
