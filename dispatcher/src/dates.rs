//! When somebody's account begins and ends, by attributes that hold dates. Pure: time is an input.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use scim::{AttrPath, Object, Registry, Resolved, Type};
use serde::Deserialize;

/// What an app holds of somebody who has not begun yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BeforeStart {
    /// Nothing.
    #[default]
    Absent,
    /// An account that is switched off.
    Inactive,
}

/// Which attributes say when an account begins and ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dates {
    start: Option<AttrPath>,
    end: Option<AttrPath>,
    before_start: BeforeStart,
}

/// Where somebody stands between beginning and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not before this time.
    Early { until: Timestamp },
    /// At work, until this time if one is known.
    Present { until: Option<Timestamp> },
    /// The end has passed.
    Over,
    /// A date that nobody can read; says which.
    Unclear(&'static str),
}

impl Dates {
    /// Reads the paths. What is wrong is said in a sentence.
    pub fn new(
        registry: &Registry,
        start: Option<&str>,
        end: Option<&str>,
        before_start: BeforeStart,
    ) -> Result<Self, String> {
        let path = |name, text| path(registry, text).map_err(|why| format!("{name}: {why}"));
        Ok(Self {
            start: start.map(|text| path("start_date", text)).transpose()?,
            end: end.map(|text| path("end_date", text)).transpose()?,
            before_start,
        })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.start.is_none() && self.end.is_none()
    }

    /// The attributes, or whole extensions, that hold them.
    pub(crate) fn roots(&self) -> impl Iterator<Item = String> {
        [&self.start, &self.end].into_iter().flatten().filter_map(|path| path.root().map(str::to_string))
    }

    pub(crate) fn before_start(&self) -> BeforeStart {
        self.before_start
    }

    /// Where a resource with this document stands.
    pub(crate) fn standing(&self, document: &Object, now: Timestamp) -> Standing {
        let read = |path: &Option<AttrPath>, is_end| match path {
            None => Ok(None),
            Some(path) => match path.values(document).first() {
                None => Ok(None),
                Some(value) => value.as_str().and_then(|text| instant(text, is_end)).map(Some).ok_or(()),
            },
        };
        let Ok(end) = read(&self.end, true) else {
            return Standing::Unclear("the end date cannot be read");
        };
        if end.is_some_and(|end| end <= now) {
            return Standing::Over;
        }
        let Ok(start) = read(&self.start, false) else {
            return Standing::Unclear("the start date cannot be read");
        };
        match start.filter(|start| *start > now) {
            Some(until) => Standing::Early { until },
            None => Standing::Present { until: end },
        }
    }
}

/// As the configuration's hash has it.
impl fmt::Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in [&self.start, &self.end] {
            match path {
                None => f.write_str("-")?,
                Some(path) => write!(f, "{path}")?,
            }
            f.write_str(" ")?;
        }
        write!(f, "{:?}", self.before_start)
    }
}

/// A path with canonical names that can hold a date.
fn path(registry: &Registry, text: &str) -> Result<AttrPath, String> {
    let path = AttrPath::parse(text, registry)?;
    let found = registry.resource_types().iter().find_map(|kind| match registry.resolve(kind, &path)? {
        Resolved::Attribute { attribute, sub, .. } => {
            let kind_of_value = sub.unwrap_or(attribute).kind;
            Some((registry.canonical(kind, &path)?, kind_of_value))
        }
        Resolved::Extension(_) => None,
    });
    match found {
        None => Err(format!("{text:?} is an attribute of no resource type")),
        Some((path, Type::DateTime | Type::String)) => Ok(path),
        Some((_, other)) => {
            Err(format!("{text:?} is {}; a date stands in a dateTime or a string", other.as_str()))
        }
    }
}

/// The instant that a text means: with an offset, or in UTC without one. A day begins at its midnight in UTC; as an end
/// it counts as a whole.
fn instant(text: &str, is_end: bool) -> Option<Timestamp> {
    let text = text.trim();
    // A text with a time is none of a day only.
    if text.len() > "2026-01-01".len() {
        return scim::instant(&text.replacen(' ', "T", 1));
    }
    let day = text.parse::<Date>().ok()?;
    // The last day that there is has no other after it: as an end it says "never".
    let day = if is_end { day.tomorrow().unwrap_or(day) } else { day };
    scim::instant(&format!("{day}T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Somebody with these two dates, on 2026-06-15 at noon.
    #[track_caller]
    fn check(start: &str, end: &str, expected: Standing) {
        let registry = Registry::built_in().unwrap();
        let dates = Dates::new(&registry, Some("nickName"), Some("title"), BeforeStart::Absent).unwrap();
        let mut document = Object::new();
        for (name, text) in [("nickName", start), ("title", end)] {
            if !text.is_empty() {
                document.insert(name.to_string(), json!(text));
            }
        }
        assert_eq!(dates.standing(&document, at("2026-06-15T12:00:00Z")), expected, "{start} {end}");
    }

    #[test]
    fn where_somebody_stands() {
        check("", "", Standing::Present { until: None });
        check("2026-06-15", "", Standing::Present { until: None });
        check("2026-06-16", "", Standing::Early { until: at("2026-06-16T00:00:00Z") });
        check("2026-06-15T15:00:00+02:00", "", Standing::Early { until: at("2026-06-15T13:00:00Z") });
        check("2026-06-15T13:00:00", "", Standing::Early { until: at("2026-06-15T13:00:00Z") });
        check("", "2026-06-15", Standing::Present { until: Some(at("2026-06-16T00:00:00Z")) });
        check("", "2026-06-14", Standing::Over);
        check("", "2026-06-15T12:00:00Z", Standing::Over);
        check("2027-01-01", "2026-01-01", Standing::Over);
        // What HR systems write for "never".
        for never in
            ["9999-12-31", "9999-12-31T00:00:00Z", "9999-12-31 23:59:59", "9999-12-31T23:59:59.9999999Z"]
        {
            check("2026-06-15", never, Standing::Present { until: Some(Timestamp::MAX) });
            check(never, "", Standing::Early { until: Timestamp::MAX });
        }
        check("soon", "2026-06-14", Standing::Over);
        check("soon", "", Standing::Unclear("the start date cannot be read"));
        check("", "2026-02-30", Standing::Unclear("the end date cannot be read"));
    }

    #[test]
    fn mistakes_name_the_setting() {
        let registry = Registry::built_in().unwrap();
        let mistake = |start, end| Dates::new(&registry, start, end, BeforeStart::Absent).unwrap_err();
        assert_eq!(mistake(Some("shoe"), None), "start_date: \"shoe\" is an attribute of no resource type");
        assert!(mistake(None, Some("active")).starts_with("end_date: \"active\" is boolean"));
    }
}
