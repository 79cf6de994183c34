//! `rollcall audit` and `rollcall explain`: the auditor's questions, asked of a running process and followed to their
//! last page. Every page is as of the moment of the first.

mod client;
mod csv;
mod shown;

use std::io::{BufWriter, IsTerminal, Stdout, Write};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::args::{Answer, Audit, Explain, Format, Who};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::sum::Sum;
use crate::{Failure, at};
pub(crate) use client::Client;
use client::Page;
use shown::Surface;

/// Items that are asked for at once: the longest page.
const PAGE: &str = "1000";

/// A question and its parameters.
struct Question {
    surface: Surface,
    parameters: Vec<(String, String)>,
}

impl Question {
    fn new(surface: Surface) -> Self {
        Self { surface, parameters: Vec::new() }
    }

    fn with(mut self, name: &str, value: Option<impl Into<String>>) -> Self {
        self.parameters.extend(value.map(|value| (name.to_string(), value.into())));
        self
    }

    fn flag(self, name: &str, is_set: bool) -> Self {
        self.with(name, is_set.then_some("true"))
    }

    fn who(self, who: Who) -> Self {
        self.with("id", who.id).with("user", who.user).with("group", who.group)
    }

    /// A moment; what is none is said before anybody is asked.
    fn moment(self, name: &str, moment: Option<String>) -> Result<Self, Failure> {
        if let Some(text) = &moment {
            at::parse(text).map_err(|reason| Failure::new(format!("--{name}: {reason}")))?;
        }
        Ok(self.with(name, moment))
    }

    /// The question for the page after the one that told these.
    fn follow(&mut self, next: Map<String, Value>) {
        for (name, value) in next {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            self.parameters.retain(|(known, _)| *known != name);
            self.parameters.push((name, value));
        }
    }
}

pub(crate) async fn run(settings: &Settings, command: Audit) -> Result<(), Failure> {
    let (question, answer) = match command {
        Audit::History(asked) => {
            (Question::new(Surface::History).who(asked.who).moment("at", asked.at)?, asked.answer)
        }
        Audit::At(asked) => {
            let question = Question::new(Surface::Resources)
                .with("id", asked.what.id)
                .with("user", asked.what.user)
                .with("group", asked.what.group)
                .with("type", asked.what.resource_type)
                .with("filter", asked.filter)
                .with("sortBy", asked.sort_by)
                .with("sortOrder", asked.descending.then_some("descending"))
                .with("source", asked.source);
            (question.moment("at", asked.at)?, asked.answer)
        }
        Audit::Members(asked) => {
            let surface = if asked.stays { Surface::Stays } else { Surface::Members };
            let question = Question::new(surface)
                .who(asked.who)
                .with("list", asked.list)
                .flag("nested", asked.nested)
                .flag("stays", asked.stays);
            (question.moment("at", asked.at)?, asked.answer)
        }
        Audit::Diff(asked) => {
            let question = Question::new(Surface::Differences).moment("from", Some(asked.from))?;
            (question.moment("to", asked.to)?, asked.answer)
        }
        Audit::Digest(asked) => (Question::new(Surface::Digest).moment("at", asked.at)?, asked.answer),
    };
    ask(settings, question, answer).await
}

pub(crate) async fn explain(settings: &Settings, asked: Explain) -> Result<(), Failure> {
    let question = Question::new(Surface::Plan)
        .with("filter", Some(asked.filter))
        .with("type", asked.resource_type)
        .with("sortBy", asked.sort_by)
        .with("source", asked.source)
        .moment("at", asked.at)?;
    ask(settings, question, asked.answer).await
}

/// Asks for all pages and shows them as they come.
async fn ask(settings: &Settings, mut question: Question, answer: Answer) -> Result<(), Failure> {
    let Answer { tenant, format, digest_file, admin } = answer;
    let client = Client::new(settings, &admin)?;
    question = question.with("tenant", tenant);
    if question.surface != Surface::Digest && question.surface != Surface::Plan {
        question = question.with("count", Some(PAGE));
    }
    let path = question.surface.path();
    let mut page = client.page(path, &question.parameters).await?;
    let mut shown = Shown::begin(question.surface, format, &page)?;
    let mut progress = Progress::start(std::io::stdout().is_terminal());
    loop {
        let Page { body, items, next } = page;
        if body.get("position") != Some(&shown.position) {
            return Err(Failure::new("two pages are as of different moments: ask again"));
        }
        for item in &items {
            shown.item(item)?;
        }
        progress.tell(|| format!("{} items so far", shown.sum.count()));
        let Some(next) = next else { break };
        if shown.is_closed {
            return Ok(());
        }
        question.follow(next);
        page = client.page(path, &question.parameters).await?;
    }
    progress.end();
    shown.end(digest_file)
}

/// An answer that is being written.
struct Shown {
    surface: Surface,
    format: Format,
    out: BufWriter<Stdout>,
    position: Value,
    /// What the first page said about the whole.
    about: Map<String, Value>,
    sum: Sum,
    /// Whether nobody reads on.
    is_closed: bool,
}

impl Shown {
    fn begin(surface: Surface, format: Format, first: &Page) -> Result<Self, Failure> {
        let mut about = first.body.clone();
        for name in ["count", "digest", "total"] {
            about.remove(name);
        }
        let position = about.remove("position").unwrap_or_default();
        let out = BufWriter::new(std::io::stdout());
        let mut shown = Self { surface, format, out, position, about, sum: Sum::default(), is_closed: false };
        match format {
            Format::Text => {}
            Format::Json => {
                let about: String = shown
                    .about
                    .iter()
                    .map(|(name, value)| format!(",{}:{value}", Value::from(name.as_str())))
                    .collect();
                let begin = format!("{{\"position\":{}{about},\"items\":[", shown.position);
                shown.write(&begin)?;
            }
            Format::Csv => shown.write(&csv::row(surface.columns()))?,
        }
        Ok(shown)
    }

    fn item(&mut self, item: &Value) -> Result<(), Failure> {
        let comma = if self.sum.count() == 0 { "" } else { "," };
        self.sum.add(item);
        let text = match self.format {
            Format::Text => self.surface.text(item) + "\n",
            Format::Json => format!("{comma}\n{item}"),
            Format::Csv => self.surface.rows(item).iter().map(|row| csv::row(row)).collect(),
        };
        self.write(&text)
    }

    /// Says what the whole answer is, once it is whole.
    fn end(mut self, digest_file: Option<PathBuf>) -> Result<(), Failure> {
        let (count, digest) = (self.sum.count(), self.sum.digest());
        let of = |name: &str| {
            let value = self.position.get(name).cloned().unwrap_or_default();
            value.as_str().map_or_else(|| value.to_string(), str::to_string)
        };
        let things = if count == 1 { "item" } else { "items" };
        let said = format!("position {} ({}), {count} {things}, sha256 {digest}", of("sequence"), of("time"));
        match self.format {
            Format::Text => self.write(&format!("{said}\n"))?,
            Format::Json => self.write(&format!("\n],\"count\":{count},\"digest\":\"{digest}\"}}\n"))?,
            Format::Csv => {}
        }
        let flushed = self.out.flush();
        self.written(flushed)?;
        if self.format == Format::Csv {
            let _ = writeln!(std::io::stderr(), "{said}");
        }
        let Some(path) = digest_file else { return Ok(()) };
        let whole = json!({"position": self.position, "count": count, "digest": digest});
        std::fs::write(&path, format!("{whole}\n"))
            .map_err(|error| Failure::of(format_args!("writing {}", path.display()), &error))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes());
        self.written(written)
    }

    /// A closed pipe is nobody's mistake; a full disk is.
    fn written(&mut self, written: std::io::Result<()>) -> Result<(), Failure> {
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::of("writing the answer", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_of_the_same_moment() {
        let mut question = Question::new(Surface::History)
            .with("user", Some("ada"))
            .with("tenant", Some("corp"))
            .with("at", Some("2026-11-01"));
        let next = json!({"at": 42, "after": 17});
        question.follow(next.as_object().unwrap().clone());
        let mut parameters = question.parameters;
        parameters.sort();
        let expected = [("after", "17"), ("at", "42"), ("tenant", "corp"), ("user", "ada")];
        assert_eq!(parameters, expected.map(|(name, value)| (name.to_string(), value.to_string())));
    }
}
