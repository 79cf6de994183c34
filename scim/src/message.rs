//! What a message says that it is: PATCH, Bulk and `.search` bodies.

use serde_json::Value;

use crate::{Error, Quirk, Speech};

/// RFC 7643 §3: `schemas` names what the body holds. Where a client leaves it out, the endpoint says what is meant.
pub(crate) fn is(urn: &str, schemas: Option<&Value>, speech: Speech<'_>) -> Result<(), Error> {
    let mut urns = schemas.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if urns.any(|named| named.eq_ignore_ascii_case(urn)) || speech.forgives(Quirk::SchemasMissing) {
        return Ok(());
    }
    Err(Error::syntax(format!("schemas must hold {urn:?}")))
}
