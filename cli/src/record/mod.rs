//! `rollcall record`: stands between a client and a SCIM service, and writes down what they say to each other as a
//! dialogue, without a word about real people.

mod sanitizer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use url::Url;

use crate::Failure;
use crate::args::Record;
use crate::output::say;
use sanitizer::{Exchange, Sanitizer};

/// The largest body that is passed on.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What belongs to one connection only, or tells who speaks.
const NOT_PASSED_ON: [HeaderName; 5] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::ACCEPT_ENCODING,
];
/// What a dialogue keeps of a request's headers.
const KEPT: [&str; 4] = ["content-type", "if-match", "if-none-match", "prefer"];

struct Recorder {
    http: reqwest::Client,
    upstream: String,
    out: PathBuf,
    about: Value,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    sanitizer: Sanitizer,
    steps: Vec<Value>,
}

/// Records until told to stop; the file is whole after every exchange.
pub(crate) async fn run(record: Record) -> Result<(), Failure> {
    let upstream: Url = record.upstream;
    if !matches!(upstream.scheme(), "http" | "https") {
        return Err(Failure::new(format!("--upstream: {upstream} is no http or https URL")));
    }
    if !record.listen.ip().is_loopback() {
        return Err(Failure::new(format!(
            "--listen: {} is not a loopback address, and plain HTTP would show the client's token to the network; put a \
             proxy with TLS in front",
            record.listen
        )));
    }
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    let recorder = Arc::new(Recorder {
        http: http.map_err(|error| Failure::of("making an HTTP client", &error))?,
        upstream: upstream.as_str().trim_end_matches('/').to_string(),
        out: record.out,
        about: json!({"client": record.client, "title": record.title, "source": "recorded from a live client"}),
        written: Mutex::default(),
    });
    recorder.write(&[])?;
    let listening = |error: std::io::Error| {
        Failure::new(format!("listening on {}: {error}; choose another address with --listen", record.listen))
    };
    let listener = tokio::net::TcpListener::bind(record.listen).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    tell(address, &recorder);
    let router = Router::new().fallback(pass_on).with_state(recorder.clone());
    let stopped = async { drop(crate::node::told_to_stop().await) };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await.map_err(listening)?;
    Ok(())
}

fn tell(address: SocketAddr, recorder: &Recorder) {
    say(&format!("Point the client at http://{address} instead of {}.", recorder.upstream));
    say(&format!("The dialogue is written to {}; Ctrl-C stops.", recorder.out.display()));
}

async fn pass_on(State(recorder): State<Arc<Recorder>>, request: Request) -> Response {
    match recorder.exchange(request).await {
        Ok(response) => response,
        Err(failure) => {
            tracing::error!(%failure, "an exchange was not passed on");
            (StatusCode::BAD_GATEWAY, failure.to_string()).into_response()
        }
    }
}

impl Recorder {
    async fn exchange(&self, request: Request) -> Result<Response, Failure> {
        let (parts, body) = request.into_parts();
        let sent = axum::body::to_bytes(body, BODY_BYTES_MAX)
            .await
            .map_err(|error| Failure::of("reading the request", &error))?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_string();
        let failed = |error: reqwest::Error| {
            Failure::of(format_args!("asking {}", self.upstream), &error.without_url())
        };
        let answer = self
            .http
            .request(parts.method.clone(), format!("{}{path}", self.upstream))
            .headers(passed_on(&parts.headers))
            .body(sent.clone())
            .send()
            .await
            .map_err(failed)?;
        let (status, headers) = (answer.status(), passed_on(answer.headers()));
        let received: Bytes = answer.bytes().await.map_err(failed)?;
        let kept = KEPT.iter().filter_map(|name| {
            let value = parts.headers.get(*name)?.to_str().ok()?;
            Some(((*name).to_string(), value.to_string()))
        });
        let exchange = Exchange {
            method: parts.method.to_string(),
            path,
            headers: kept.collect(),
            request: serde_json::from_slice(&sent).ok(),
            status: status.as_u16(),
            response: serde_json::from_slice(&received).ok(),
        };
        {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            let step = written.sanitizer.step(&exchange);
            written.steps.push(step);
            self.write(&written.steps)?;
        }
        let mut response = (status, Body::from(received)).into_response();
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn write(&self, steps: &[Value]) -> Result<(), Failure> {
        let mut dialogue = self.about.clone();
        if let Some(members) = dialogue.as_object_mut() {
            members.insert("quirks".to_string(), json!([]));
            members.insert("steps".to_string(), steps.into());
        }
        let text = serde_json::to_string_pretty(&dialogue).unwrap_or_default();
        std::fs::write(&self.out, text + "\n")
            .map_err(|error| Failure::of(format_args!("writing {}", self.out.display()), &error))
    }
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| !NOT_PASSED_ON.contains(*name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}
