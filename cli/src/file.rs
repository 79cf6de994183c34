//! `rollcall.toml` and what it includes, as one table; every mistake is collected, none stops the reading.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use eventlog::file::text;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// How deep files may include files.
const INCLUDE_DEPTH_MAX: usize = 8;

/// Mistakes found in the configuration, in the order they were met.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Remembers one mistake.
    pub(crate) fn add(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
    }

    /// A number that is out of its range.
    pub(crate) fn check_range(&mut self, place: &str, name: &str, value: u64, range: RangeInclusive<u64>) {
        if !range.contains(&value) {
            self.add(format!("{place}.{name}: must be {} to {}", range.start(), range.end()));
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them as one error, or nothing.
    pub(crate) fn into_result(self) -> Result<(), crate::Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = self.0.iter().map(|mistake| format!("  - {mistake}")).collect();
        Err(crate::Failure::new(format!(
            "the configuration has {}:\n{}",
            match self.0.len() {
                1 => "a mistake".to_string(),
                count => format!("{count} mistakes"),
            },
            list.join("\n")
        )))
    }
}

/// Reads a file and everything it includes into one table.
pub(crate) fn read(path: &Path, mistakes: &mut Mistakes) -> Table {
    let mut merged = Table::new();
    read_into(path, &mut merged, mistakes, 0);
    merged
}

fn read_into(path: &Path, merged: &mut Table, mistakes: &mut Mistakes, depth: usize) {
    if depth > INCLUDE_DEPTH_MAX {
        mistakes.add(format!("{}: includes go deeper than {INCLUDE_DEPTH_MAX} files", path.display()));
        return;
    }
    let text = match text(path) {
        Ok(text) => text,
        Err(error) => return mistakes.add(format!("{}: cannot be read: {error}", path.display())),
    };
    let mut table = match table(&text) {
        Ok(table) => table,
        Err(mistake) => return mistakes.add(format!("{}: is not TOML: {mistake}", path.display())),
    };
    let includes = table.remove("include");
    merge(merged, table, path, "", mistakes);
    for included in include_paths(path, includes, mistakes) {
        read_into(&included, merged, mistakes, depth + 1);
    }
}

/// Reads a text as TOML. The mistake is told by its place: the line itself may hold a secret, and goes into the log.
pub(crate) fn table(text: &str) -> Result<Table, String> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("line {line}, column {column}: {}", error.message().replace('\n', ", "))
    })
}

fn include_paths(path: &Path, includes: Option<Value>, mistakes: &mut Mistakes) -> Vec<PathBuf> {
    let patterns = match includes {
        None => return Vec::new(),
        Some(Value::String(pattern)) => vec![pattern],
        Some(Value::Array(patterns)) => patterns
            .into_iter()
            .filter_map(|pattern| match pattern {
                Value::String(pattern) => Some(pattern),
                other => {
                    mistakes.add(format!("{}: include: {other} is not a file name", path.display()));
                    None
                }
            })
            .collect(),
        Some(other) => {
            mistakes.add(format!("{}: include: {other} is not a list of file names", path.display()));
            return Vec::new();
        }
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let place = format!("{}: include", path.display());
    patterns.iter().flat_map(|pattern| matching(&place, folder, Path::new(pattern), mistakes)).collect()
}

/// Letters that make a name a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// The files that a name or pattern means, relative to a folder. A plain name must be there, and so must the folder of a
/// pattern: one that is not mounted at the moment is not an empty one.
pub(crate) fn matching(place: &str, folder: &Path, pattern: &Path, mistakes: &mut Mistakes) -> Vec<PathBuf> {
    let full = folder.join(pattern);
    let (Some(full), Some(pattern)) = (full.to_str(), pattern.to_str()) else {
        mistakes.add(format!("{place}: {} is not UTF-8", pattern.display()));
        return Vec::new();
    };
    match glob::glob(full) {
        Ok(paths) => {
            let mut found = Vec::new();
            for path in paths {
                match path {
                    Ok(path) => found.push(path),
                    Err(error) => {
                        let (path, error) = (error.path().display(), error.error());
                        mistakes.add(format!("{place}: {path} cannot be read: {error}"));
                    }
                }
            }
            if found.is_empty() && !pattern.contains(WILD) {
                mistakes.add(format!("{place}: there is no file {pattern}"));
            } else if found.is_empty()
                && let Some(fixed) = Path::new(full).ancestors().find(|path| !is_wild(path))
                && !(fixed.as_os_str().is_empty() || fixed.is_dir())
            {
                mistakes.add(format!("{place}: there is no folder {} ({pattern})", fixed.display()));
            }
            found
        }
        Err(error) => {
            mistakes.add(format!("{place}: {pattern}: {error}"));
            Vec::new()
        }
    }
}

fn is_wild(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains(WILD))
}

/// Tables merge key by key; the same key twice is a mistake, never a silent winner.
fn merge(into: &mut Table, from: Table, path: &Path, prefix: &str, mistakes: &mut Mistakes) {
    for (key, value) in from {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (into.get_mut(&key), value) {
            (Some(Value::Table(existing)), Value::Table(more)) => {
                merge(existing, more, path, &name, mistakes)
            }
            (Some(_), _) => mistakes.add(format!("{}: {name} is set a second time", path.display())),
            (None, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Reads one section into its type. Each key is tried alone first, so that several wrong ones are all reported.
pub(crate) fn section<T: DeserializeOwned>(name: &str, value: Value, mistakes: &mut Mistakes) -> Option<T> {
    let Value::Table(table) = value else {
        mistakes.add(format!("{name}: must be a table, written [{name}]"));
        return None;
    };
    let mut wrong = false;
    for (key, value) in &table {
        let alone: Table = [(key.clone(), value.clone())].into_iter().collect();
        if let Err((place, message)) = read_as::<T>(name, alone)
            && !message.starts_with("missing field")
        {
            wrong = true;
            mistakes.add(format!("{place}: {message}"));
        }
    }
    match read_as::<T>(name, table) {
        Ok(section) => Some(section),
        Err((place, message)) if !wrong => {
            mistakes.add(format!("{place}: {message}"));
            None
        }
        Err(_) => None,
    }
}

/// The table as this type, or the key that is wrong, however deep it stands, and why.
fn read_as<T: DeserializeOwned>(name: &str, table: Table) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let place = match error.path().to_string().as_str() {
            "." => name.to_string(),
            path => format!("{name}.{path}"),
        };
        (place, without_value(error.inner().message()))
    })
}

/// What was expected of which type, without the value: a token of digits alone that lacks its quotation marks is one, too.
fn without_value(message: &str) -> String {
    let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message.to_string();
    };
    let kind = found.split([' ', '`', '"']).next().unwrap_or_default();
    format!("invalid type: {kind}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Section {
        count: u32,
        listen: Option<std::net::SocketAddr>,
    }

    fn list(mistakes: &Mistakes) -> String {
        mistakes.0.join("\n")
    }

    #[test]
    fn every_wrong_key_of_a_section_is_reported() {
        let table: Table = "[gateway]\ncount = -1\nlisten = \"nowhere\"\ncolour = 3\n".parse().unwrap();
        let mut mistakes = Mistakes::default();
        let section: Option<Section> = section("gateway", table["gateway"].clone(), &mut mistakes);
        assert!(section.is_none());
        assert_eq!(mistakes.0.len(), 3, "{}", list(&mistakes));
        assert!(list(&mistakes).contains("gateway.colour: unknown field"), "{}", list(&mistakes));
    }

    #[test]
    fn a_wrong_key_is_named_however_deep_it_stands() {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default)]
        struct Outer {
            limits: Section,
            source: std::collections::BTreeMap<String, Section>,
        }

        let text = "[gateway.limits]\ncount = -1\n[gateway.source.hr]\ncolour = 3\n";
        let table: Table = text.parse().unwrap();
        let mut mistakes = Mistakes::default();
        assert!(section::<Outer>("gateway", table["gateway"].clone(), &mut mistakes).is_none());
        let list = list(&mistakes);
        assert!(list.contains("gateway.limits.count: invalid value"), "{list}");
        assert!(list.contains("gateway.source.hr.colour: unknown field"), "{list}");
    }

    #[test]
    fn a_value_of_another_type_is_not_shown() {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default)]
        struct Secrets {
            token: String,
            count: u32,
        }

        let table: Table = "[app]\ntoken = 471100\ncount = \"hidden, expected\"\n".parse().unwrap();
        let mut mistakes = Mistakes::default();
        let read: Option<Secrets> = section("app", table["app"].clone(), &mut mistakes);
        assert!(read.is_none_or(|read| read.token.is_empty() && read.count == 0));
        assert_eq!(
            list(&mistakes),
            "app.count: invalid type: string, expected u32\napp.token: invalid type: integer, expected a string"
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_not_shown() {
        for (text, place) in [
            ("[app.wiki]\ntoken = \"hidden\n", "line 2, column 16: "),
            ("token = hidden", "line 1, column 9: "),
            ("a = 1\nhidden", "line 2, column 7: "),
            ("token = \"é\\hidden\"", "line 1, column 12: "),
        ] {
            let mistake = table(text).unwrap_err();
            assert!(mistake.starts_with(place) && !mistake.contains("hidden"), "{text:?}: {mistake}");
        }
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let mut mistakes = Mistakes::default();
        assert!(read(Path::new("/dev/zero"), &mut mistakes).is_empty());
        assert_eq!(list(&mistakes), "/dev/zero: cannot be read: it is longer than 16 MB");
    }

    #[test]
    fn included_files_merge_and_collisions_are_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("apps")).unwrap();
        let main = folder.path().join("rollcall.toml");
        std::fs::write(&main, "include = [\"apps/*.toml\", \"gone.toml\"]\n[app.one]\nurl = \"a\"\n")
            .unwrap();
        std::fs::write(
            folder.path().join("apps/two.toml"),
            "[app.two]\nurl = \"b\"\n[app.one]\nurl = \"c\"\n",
        )
        .unwrap();
        let mut mistakes = Mistakes::default();
        let table = read(&main, &mut mistakes);
        assert_eq!(table["app"].as_table().unwrap().len(), 2);
        assert_eq!(mistakes.0.len(), 2, "{}", list(&mistakes));
        assert!(list(&mistakes).contains("app.one.url is set a second time"));
        assert!(list(&mistakes).contains("there is no file gone.toml"));
    }

    #[test]
    fn a_folder_that_is_gone_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("rollcall.toml");
        std::fs::write(&main, "include = [\"*.more.toml\", \"apps/*.toml\"]\n").unwrap();
        let mut mistakes = Mistakes::default();
        read(&main, &mut mistakes);
        let gone = format!("there is no folder {}", folder.path().join("apps").display());
        assert!(mistakes.0.len() == 1 && list(&mistakes).contains(&gone), "{}", list(&mistakes));
        std::fs::create_dir(folder.path().join("apps")).unwrap();
        let mut mistakes = Mistakes::default();
        read(&main, &mut mistakes);
        assert_eq!(list(&mistakes), "");
    }
}
