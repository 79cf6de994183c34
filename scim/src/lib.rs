//! SCIM 2.0 (RFC 7643, RFC 7644) as a library: schemas, attribute paths, filters, PATCH, attribute selection, errors.
//!
//! Pure: it knows no HTTP, no storage, no clock and no chance. A *document* is a resource as JSON with canonical
//! names, without what others derive (`schemas`, `id`, `meta`, `groups`). Start reading at [`Registry`], which holds
//! the schemas as data, then [`validate`], which turns what a client sent into a document.
//!
//! ```
//! use scim::validate::{self, Context};
//! use scim::{Dialect, Filter, FilterLimits, Patch, Registry};
//! use serde_json::json;
//!
//! let registry = Registry::built_in()?;
//! let kind = registry.by_name("User").expect("a built-in type");
//! let context = Context { registry: &registry, kind, speech: Dialect::Rfc.into() };
//!
//! // A POST: names in any case, canonical afterwards.
//! let body = json!({"schemas": [kind.schema], "USERNAME": "ada", "emails": [{"value": "ada@example.com", "type": "work"}]});
//! let ada = validate::create(context, body)?;
//! assert_eq!(ada["userName"], "ada");
//!
//! // A filter, checked against the schema and asked of a resource.
//! let text = r#"emails[type eq "work" and value co "@example"] and not (active eq false)"#;
//! let filter = Filter::parse(text, &FilterLimits::default(), Dialect::Rfc, &registry, kind)?;
//! assert!(filter.matches(&ada));
//!
//! // A PATCH applies to a copy: all of it, or an error that is ready to be sent.
//! let body = json!({
//!     "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
//!     "Operations": [{"op": "replace", "path": "emails[type eq \"work\"].value", "value": "a@example.com"}],
//! });
//! let patch = Patch::parse(context, body, &FilterLimits::default())?;
//! let changed = patch.apply(context, "the-id", ada, 1_000_000)?;
//! assert_eq!(changed["emails"][0]["value"], "a@example.com");
//! let refused = Patch::parse(context, json!({"Operations": []}), &FilterLimits::default());
//! assert_eq!(refused.unwrap_err().to_body()["status"], "400");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod bulk;
pub mod discovery;
pub mod json;
pub mod list;
pub mod validate;

mod compare;
mod dialect;
mod diff;
mod error;
mod filter;
mod fold;
mod identity;
mod known;
mod members;
mod message;
mod patch;
mod path;
mod quirk;
mod registry;
mod schema;
mod select;
mod sort;
mod unseen;
mod veil;
mod written;

pub use compare::{instant, number};
pub use dialect::{Dialect, Seen, Speech};
pub use diff::{Change, diff};
pub use error::{Error, ScimType};
pub use filter::{Filter, FilterLimits, Op, Rule};
pub use fold::fold;
pub use known::known;
pub use members::MemberChange;
pub use patch::{Operation, Patch, PatchOp, PatchPath};
pub use path::{AttrPath, is_urn};
pub use quirk::{About, Quirk};
pub use registry::{Registry, Resolved};
pub use schema::{Attribute, Mutability, ResourceType, Returned, Schema, SchemaExtension, Type, Uniqueness};
pub use select::AttributeSelection;
pub use sort::{Sort, SortKey};
pub use unseen::{Said, keep_unseen};
pub use veil::{veil, without_veiled};
pub use written::Sent;

/// A JSON object whose keys are sorted, so that its text is canonical.
pub type Object = serde_json::Map<String, serde_json::Value>;
