//! `[scim]`: schemas and resource types of one's own, as files of the JSON that RFC 7643 §6 and §7 write them in.

use std::path::{Path, PathBuf};

use scim::{Registry, ResourceType, Schema, SchemaExtension};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::file::{self, Mistakes};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ScimSection {
    /// Files, relative to the configuration; a file holds one document, an array of them or a `ListResponse`.
    schemas: Vec<PathBuf>,
    resource_types: Vec<PathBuf>,
    /// Further schemas of resource types that exist.
    extension: Vec<ExtensionSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtensionSection {
    resource_type: String,
    schema: String,
    #[serde(default)]
    required: bool,
}

/// The built-in schemas and those of the configuration.
pub(super) fn registry(section: ScimSection, folder: &Path, mistakes: &mut Mistakes) -> Registry {
    let mut registry = match Registry::built_in() {
        Ok(registry) => registry,
        Err(error) => {
            mistakes.add(format!("the built-in schemas: {error}"));
            Registry::default()
        }
    };
    for (path, schema) in documents::<Schema>("scim.schemas", &section.schemas, folder, mistakes) {
        if let Err(mistake) = registry.add_schema(schema) {
            mistakes.add(format!("scim.schemas: {}: {mistake}", path.display()));
        }
    }
    for (path, kind) in
        documents::<ResourceType>("scim.resource_types", &section.resource_types, folder, mistakes)
    {
        if let Err(mistake) = registry.add_resource_type(kind) {
            mistakes.add(format!("scim.resource_types: {}: {mistake}", path.display()));
        }
    }
    for ExtensionSection { resource_type, schema, required } in section.extension {
        if let Err(mistake) = registry.extend(&resource_type, SchemaExtension { schema, required }) {
            mistakes.add(format!("scim.extension: {mistake}"));
        }
    }
    registry
}

fn documents<T: DeserializeOwned>(
    place: &str,
    files: &[PathBuf],
    folder: &Path,
    mistakes: &mut Mistakes,
) -> Vec<(PathBuf, T)> {
    let mut found = Vec::new();
    for file in files {
        for path in file::matching(place, folder, file, mistakes) {
            let read = eventlog::file::text(&path).map_err(|error| error.to_string());
            let read =
                read.and_then(|text| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string()));
            let values = match read {
                Ok(Value::Array(values)) => values,
                Ok(Value::Object(mut object)) => match object.remove("Resources") {
                    Some(Value::Array(values)) => values,
                    Some(_) | None => vec![object.into()],
                },
                Ok(_) => {
                    mistakes.add(format!("{place}: {}: is no JSON object", path.display()));
                    continue;
                }
                Err(error) => {
                    mistakes.add(format!("{place}: {}: {error}", path.display()));
                    continue;
                }
            };
            for value in values {
                match serde_json::from_value(value) {
                    Ok(value) => found.push((path.clone(), value)),
                    Err(error) => mistakes.add(format!("{place}: {}: {error}", path.display())),
                }
            }
        }
    }
    found
}
