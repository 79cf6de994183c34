//! SCIM 2.0 (RFC 7643, RFC 7644) as a library: schemas, attribute paths, filters, PATCH, attribute selection, errors.
//!
//! Pure: it knows no HTTP, no storage, no clock and no chance. A *document* is a resource as JSON with canonical
//! names, without what others derive (`schemas`, `id`, `meta`, `groups`). Start reading at [`Registry`], which holds
//! the schemas as data, then [`validate`], which turns what a client sent into a document.

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
mod members;
mod patch;
mod path;
mod quirk;
mod registry;
mod schema;
mod select;
mod sort;

pub use dialect::{Dialect, Seen, Speech};
pub use diff::{Change, diff};
pub use error::{Error, ScimType};
pub use filter::{Filter, FilterLimits, Op};
pub use fold::fold;
pub use members::MemberChange;
pub use patch::{Operation, Patch, PatchOp, PatchPath};
pub use path::AttrPath;
pub use quirk::{About, Quirk};
pub use registry::{Registry, Resolved};
pub use schema::{Attribute, Mutability, ResourceType, Returned, Schema, SchemaExtension, Type, Uniqueness};
pub use select::AttributeSelection;
pub use sort::{Sort, SortKey};

/// A JSON object whose keys are sorted, so that its text is canonical.
pub type Object = serde_json::Map<String, serde_json::Value>;
