//! Asking an app something that changes nothing there: what it says of itself, and whether it lets us look.

use http::{Method, StatusCode};
use scim::ResourceType;
use serde_json::Value;

use super::{NoAnswer, ScimApp, Unanswered, answer};
use crate::budget::Denied;

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Probed {
    /// An answer; its body where it is JSON.
    Answer { status: u16, body: Option<Value>, throttled: bool },
    /// The budget does not allow it yet.
    NotYet(Denied),
    /// Nobody answered.
    Lost(NoAnswer),
}

impl Probed {
    /// The body of a success.
    pub(crate) fn document(&self) -> Option<&Value> {
        match self {
            Self::Answer { status: 200..=299, body, .. } => body.as_ref(),
            Self::Answer { .. } | Self::NotYet(_) | Self::Lost(_) => None,
        }
    }

    /// What it was, in a few words that name nobody.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Answer { status, .. } => {
                let reason = StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
                format!("the app answers {status} {}", reason.unwrap_or_default()).trim_end().to_string()
            }
            Self::NotYet(denied) => {
                format!("the app's budget allows no call for {} s", denied.after.as_secs().max(1))
            }
            Self::Lost(no_answer) => no_answer.to_string(),
        }
    }
}

impl ScimApp {
    /// Asks for a path below the base, with these parameters.
    pub(crate) async fn probe(&self, path: &str, parameters: &[(&str, &str)]) -> Probed {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        match self.request(Method::GET, &format!("{}{path}{mark}{query}", self.base), None).await {
            Ok(response) => Probed::Answer {
                status: response.status().as_u16(),
                body: answer::json_body(&response),
                throttled: answer::is_throttle(&self.profile.answers, &response),
            },
            Err(Unanswered::NotYet(denied)) => Probed::NotYet(denied),
            Err(Unanswered::Lost(no_answer)) => Probed::Lost(no_answer),
        }
    }

    /// Searches a type for a value that nobody has.
    pub(crate) async fn probe_search(&self, kind: &ResourceType, attribute: &str) -> Probed {
        let filter = format!("{attribute} eq \"rollcall-app-test\"");
        self.probe(&kind.endpoint, &[("filter", &filter), ("count", "1")]).await
    }
}
