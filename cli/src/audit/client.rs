//! The admin API of a running process, as a client.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::Failure;
use crate::args::AdminApi;
use crate::failure::causes;
use crate::settings::Settings;
use crate::sum::Sum;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one answer may take: the digest of a large directory is work.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1_800);

/// How long it may take to list everything that an app holds.
const LINES_TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);

/// Asks one process.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
    data_dir: String,
}

/// An answer, part of one or whole.
pub(super) struct Page {
    /// Everything that it says.
    pub(super) body: Map<String, Value>,
    /// What it lists.
    pub(super) items: Vec<Value>,
    /// The parameters of the next page.
    pub(super) next: Option<Map<String, Value>>,
}

impl Client {
    pub(crate) fn new(settings: &Settings, api: &AdminApi) -> Result<Self, Failure> {
        let (url, token) = settings.admin_api(api)?;
        // The admin API is not for proxies, nor is its token.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|error| Failure::of("making an HTTP client", &error))?;
        Ok(Self { http, url, token, data_dir: settings.data_dir.display().to_string() })
    }

    /// One page.
    pub(super) async fn page(&self, path: &str, parameters: &[(String, String)]) -> Result<Page, Failure> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.read(self.ask(self.http.get(format!("{}{path}?{query}", self.url))).await?)
    }

    /// One answer that is no page.
    pub(crate) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<Map<String, Value>, Failure> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.ask(self.http.get(format!("{}{path}?{query}", self.url))).await
    }

    /// Has something done that this body tells.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Result<Map<String, Value>, Failure> {
        let request = self.http.post(format!("{}{path}", self.url));
        self.ask(request.header("Content-Type", "application/json").body(body.to_string())).await
    }

    /// Has something found out that is told line by line, for as long as it takes.
    pub(crate) async fn post_lines(
        &self,
        path: &str,
        body: &Value,
        mut take: impl FnMut(Map<String, Value>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let request = self.http.post(format!("{}{path}", self.url)).timeout(LINES_TIMEOUT);
        let request = request.header("Content-Type", "application/json").body(body.to_string());
        let answer = request.bearer_auth(&self.token).send().await;
        let mut answer = answer.map_err(|error| self.unreachable(error))?;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            let text = answer.text().await.map_err(|error| self.unreachable(error))?;
            return self.understood(status, &text).map(drop);
        }
        let mut rest: Vec<u8> = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(error))? {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let line = serde_json::from_slice(&line)
                    .map_err(|error| Failure::of("reading a line of the admin API's answer", &error))?;
                take(line)?;
            }
        }
        Ok(())
    }

    /// Has something done.
    pub(crate) async fn post(&self, path: &str) -> Result<Map<String, Value>, Failure> {
        self.ask(self.http.post(format!("{}{path}", self.url))).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Map<String, Value>, Failure> {
        let answer = request.bearer_auth(&self.token).send().await;
        let answer = answer.map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(error))?;
        self.understood(status, &text)
    }

    fn understood(&self, status: StatusCode, text: &str) -> Result<Map<String, Value>, Failure> {
        match (status, serde_json::from_str(text)) {
            (StatusCode::OK, Ok(Value::Object(body))) => Ok(body),
            (StatusCode::UNAUTHORIZED, _) => Err(Failure::new(format!(
                "the admin API at {} refuses the token: it belongs to another installation. Name the data folder of the \
                 process that is asked with --data-dir, or give its admin.token as ADMIN_TOKEN",
                self.url
            ))),
            (_, Ok(Value::Object(body))) if body.contains_key("detail") => {
                let detail = body.get("detail").and_then(Value::as_str).unwrap_or_default();
                Err(Failure::new(detail.to_string()))
            }
            (status, _) => Err(Failure::new(format!(
                "{} answers {status}, which the admin API of rollcall {} does not: is it another program, or another \
                 version?",
                self.url,
                env!("CARGO_PKG_VERSION")
            ))),
        }
    }

    fn read(&self, mut body: Map<String, Value>) -> Result<Page, Failure> {
        let items = match body.remove("items") {
            Some(Value::Array(items)) => items,
            Some(_) | None => Vec::new(),
        };
        let next = match body.remove("next") {
            Some(Value::Object(next)) => Some(next),
            Some(_) | None => None,
        };
        if body.get("digest").and_then(Value::as_str) != Some(&Sum::of(&items).digest()) {
            return Err(Failure::new(format!(
                "the answer of {} was changed on its way: ask again",
                self.url
            )));
        }
        Ok(Page { body, items, next })
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        // The URL can hold a person's name.
        Failure::new(format!(
            "the admin API at {} cannot be asked: {}. Start `rollcall up` with --data-dir {}, or say with --admin-url \
             (ADMIN_URL) where one listens",
            self.url,
            causes(&error.without_url()),
            self.data_dir
        ))
    }
}
