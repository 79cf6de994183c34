//! ServiceProviderConfig, ResourceTypes, Schemas.

use axum::extract::State;
use scim::discovery::{self, Limits};
use scim::list;
use serde_json::Value;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Discovering;
use crate::Gateway;

pub(super) async fn service_provider_config(State(gateway): State<Gateway>, asked: Discovering) -> Reply {
    let limits = &gateway.inner.limits;
    let limits = Limits {
        results_max: limits.page_max,
        bulk_operations_max: limits.bulk_operations_max,
        payload_bytes_max: limits.body_bytes_max,
        cursor_timeout_s: limits.cursor_timeout_s,
        security_events: gateway.inner.announce_security_events,
    };
    Reply::ok(discovery::service_provider_config(limits, &asked.base_url))
}

pub(super) async fn resource_types(State(gateway): State<Gateway>, asked: Discovering) -> Reply {
    let found = discovery::resource_types(&gateway.inner.registry, &asked.base_url);
    Reply::ok(list::response(found.len(), list::Place::Index(1), found))
}

pub(super) async fn resource_type(
    State(gateway): State<Gateway>,
    asked: Discovering,
) -> Result<Reply, Problem> {
    let kind = gateway.inner.registry.by_name(&asked.id);
    let kind = kind.ok_or_else(|| Problem::not_found("there is no such resource type"))?;
    Ok(Reply::ok(Value::Object(discovery::resource_type(kind, &asked.base_url))))
}

pub(super) async fn schemas(State(gateway): State<Gateway>, asked: Discovering) -> Reply {
    let found = discovery::schemas(&gateway.inner.registry, &asked.base_url);
    Reply::ok(list::response(found.len(), list::Place::Index(1), found))
}

pub(super) async fn schema(State(gateway): State<Gateway>, asked: Discovering) -> Result<Reply, Problem> {
    let schema = gateway.inner.registry.schema(&asked.id);
    let schema = schema.ok_or_else(|| Problem::not_found("there is no such schema"))?;
    Ok(Reply::ok(Value::Object(discovery::schema(schema, &asked.base_url))))
}
