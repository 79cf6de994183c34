//! How much one request may ask for.

use scim::FilterLimits;
use serde::{Deserialize, Serialize};

/// Every limit of the gateway: `[gateway.limits]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest body; 413 beyond it.
    pub body_bytes_max: usize,
    /// Largest resource, members aside; 413.
    pub resource_bytes_max: usize,
    /// Longest filter; 400 `invalidFilter`.
    pub filter_bytes_max: usize,
    /// Deepest filter; 400 `invalidFilter`.
    pub filter_depth_max: usize,
    /// Most comparisons in a filter; 400 `invalidFilter`.
    pub filter_terms_max: usize,
    /// Most operations in a PATCH; 413.
    pub patch_operations_max: usize,
    /// Most values that the operations of a PATCH look at, all together; 413.
    pub patch_values_max: usize,
    /// Most members that one request names, those aside that a PUT names and that are members already; 413. As
    /// `{"value": …}` each takes 49 bytes of the body.
    pub members_max: usize,
    /// The largest group that a PATCH answers with; a larger one is answered 204, unless the client names attributes.
    pub answer_members_max: usize,
    /// Most names in `attributes`, and in `excludedAttributes`; 400 `invalidValue`.
    pub attributes_max: usize,
    /// Longest answer with several resources; 400 `tooMany`.
    pub answer_bytes_max: usize,
    /// What large bodies and answers may take of the memory, of all requests together; 503 beyond it.
    pub memory_bytes_max: usize,
    /// Longest page; a larger `count` is cut.
    pub page_max: usize,
    /// How long a cursor can be used.
    pub cursor_timeout_s: u64,
    /// Most operations in a Bulk request; 413.
    pub bulk_operations_max: usize,
    /// Most operations of a Bulk request that are carried out at once.
    pub bulk_parallel_max: usize,
    /// Most requests that are accepted and not carried out yet; a further one is answered when it is done.
    pub async_requests_max: usize,
    /// Most resources that a query may look at; 400 `tooMany`.
    pub scan_rows_max: usize,
    /// How long a request may wait for the log; 503 beyond it.
    pub request_timeout_ms: u64,
    /// How often a request decides again after somebody else was faster; 503 beyond it.
    pub attempts_max: u32,
    /// Most connections of a listener; further ones wait where the system keeps those that nobody has accepted.
    pub connections_max: usize,
    /// How long a connection may take until its first request is there, without its body; it is ended.
    pub head_timeout_ms: u64,
    /// How long a body may take to arrive; 408.
    pub body_timeout_ms: u64,
    /// How long a connection stays on which nothing is asked and nothing sent; it is ended.
    pub idle_timeout_ms: u64,
    /// How long a client may take nothing of an answer; the connection is ended.
    pub send_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 * 1024 * 1024,
            resource_bytes_max: 1024 * 1024,
            filter_bytes_max: 8 * 1024,
            filter_depth_max: 32,
            filter_terms_max: 200,
            patch_operations_max: 1_000,
            patch_values_max: 2_000_000,
            members_max: 100_000,
            answer_members_max: 1_000,
            attributes_max: 1_000,
            answer_bytes_max: 64 * 1024 * 1024,
            memory_bytes_max: 1024 * 1024 * 1024,
            page_max: 200,
            cursor_timeout_s: 3_600,
            bulk_operations_max: 1_000,
            bulk_parallel_max: 64,
            async_requests_max: 64,
            scan_rows_max: 1_000_000,
            request_timeout_ms: 10_000,
            attempts_max: 256,
            connections_max: 4_096,
            head_timeout_ms: 30_000,
            body_timeout_ms: 120_000,
            idle_timeout_ms: 120_000,
            send_timeout_ms: 60_000,
        }
    }
}

impl Limits {
    pub(crate) fn filter(&self) -> FilterLimits {
        FilterLimits {
            length_bytes_max: self.filter_bytes_max,
            depth_max: self.filter_depth_max,
            terms_max: self.filter_terms_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ResourceId;
    use serde_json::json;

    #[test]
    fn as_many_members_as_may_be_named_fit_into_a_body() {
        let limits = Limits::default();
        let member = json!({"value": "01890a5d-ac96-774b-bcce-b302099a8057".parse::<ResourceId>().unwrap()});
        let group = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "All"});
        let length = group.to_string().len() + limits.members_max * (member.to_string().len() + ",".len());
        assert!(length < limits.body_bytes_max, "{length}");
    }
}
