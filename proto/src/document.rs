//! A document: canonical JSON and the tree that it stands for, each made when it is first asked for.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use scim::Object;

/// A resource's document. It never changes, so whoever needs it shares it: clones are cheap. Most that is done with
/// documents needs only their text, which needs no memory of its own.
#[derive(Clone, Default)]
pub struct Document(Arc<Forms>);

#[derive(Default)]
struct Forms {
    json: OnceLock<Bytes>,
    object: OnceLock<Arc<Object>>,
}

impl Document {
    /// The document of this canonical JSON: that of an object, known to be well-formed. Empty bytes stand for an empty
    /// document.
    pub fn of_json(json: Bytes) -> Self {
        Self(Arc::new(Forms { json: json.into(), object: OnceLock::new() }))
    }

    /// Canonical JSON: sorted keys, no spaces; nothing for an empty document.
    pub fn json(&self) -> &Bytes {
        self.0.json.get_or_init(|| json(self))
    }
}

/// Canonical JSON of an object; nothing for an empty one.
pub(crate) fn json(object: &Object) -> Bytes {
    if object.is_empty() { Bytes::new() } else { serde_json::to_vec(object).unwrap_or_default().into() }
}

impl Deref for Document {
    type Target = Object;

    /// The tree; empty when the text was not what it was said to be.
    fn deref(&self) -> &Object {
        self.0.object.get_or_init(|| {
            let json = self.0.json.get().map(|json| &json[..]).unwrap_or_default();
            serde_json::from_slice::<Object>(json).unwrap_or_default().into()
        })
    }
}

impl From<Object> for Document {
    fn from(object: Object) -> Self {
        Arc::new(object).into()
    }
}

impl From<Arc<Object>> for Document {
    fn from(object: Arc<Object>) -> Self {
        Self(Arc::new(Forms { json: OnceLock::new(), object: object.into() }))
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_the_same_document() {
        let object = json!({"userName": "ada", "active": true}).as_object().unwrap().clone();
        let made = Document::from(object.clone());
        assert_eq!(made.json().as_ref(), br#"{"active":true,"userName":"ada"}"#);
        let read = Document::of_json(made.json().clone());
        assert_eq!(*read, object);
        assert_eq!(read, made);
        assert_eq!(Document::default().json().as_ref(), b"");
        assert_eq!(Document::of_json(Bytes::new()), Document::default());
    }
}
