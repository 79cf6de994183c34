//! A resource as a client sees it, as text: the document's own bytes with what is derived put in between. No tree is made.

use std::borrow::Cow;

use jiff::Timestamp;
use proto::{ResourceId, Tenant, Version};
use scim::ResourceType;

use crate::cuts::{Cuts, Named};
use crate::directory::{Directory, Slot};
use crate::fragments::{Halves, New};
use crate::frames::Frame;
use crate::linked::Linked;
use crate::represent::put_date_time;
use crate::{Lens, Projection, Stored};

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its version.
    pub version: Version,
    /// Whether the document is as new as the members: it was not changed since it was read.
    pub is_current: bool,
}

/// What begins the list of a group's members.
const MEMBERS: &[u8] = b"\"members\":[";

/// What stands around ids in links.
#[derive(Clone)]
struct Links<'a> {
    lens: &'a Lens,
    base_url: Cow<'a, [u8]>,
}

impl Projection {
    /// Appends the JSON of the whole representation; the same as [`Projection::represent_now`], save for the order of
    /// its members.
    pub fn write_json(
        &self,
        tenant: &Tenant,
        stored: &Stored,
        kind: &ResourceType,
        lens: &Lens,
        out: &mut Vec<u8>,
    ) -> Written {
        let json = stored.document.json();
        let frame = self.inner.frames.get(&kind.name);
        let cuts = frame.and_then(|frame| match &stored.cuts.content {
            Some(content) => content.cuts(&frame.seams).map(Cow::Borrowed),
            None => frame.seams.cuts(json).map(Cow::Owned),
        });
        let Some((cuts, frame)) = cuts.zip(frame) else {
            let shown = self.represent_now(tenant, stored, kind, lens);
            // Writing a tree to memory cannot fail.
            let _ = serde_json::to_writer(&mut *out, &shown.object);
            return Written { version: shown.version, is_current: shown.is_current };
        };
        let links = Links { lens, base_url: as_escaped(lens.base_url.as_bytes()) };
        head(stored, frame, lens, &cuts, out);
        let mut written = Written { version: stored.version, is_current: true };
        let mut last_modified = stored.last_modified;
        let (members, groups) = (lens.members && frame.has_members, lens.groups && frame.has_groups);
        let mut many = None;
        self.with(tenant, |directory| {
            self.document(directory, json, &cuts.named, &links, out);
            let Some(slot) = directory.slot_near(stored.id, stored.cuts.slot, lens.moment.0) else {
                written.is_current = !members;
                return;
            };
            if members {
                match directory.seen(slot, lens.moment.0) {
                    Some(seen) if seen.row == stored.row => {
                        written.version = seen.version;
                        last_modified = Timestamp::from_millisecond(seen.modified_ms).unwrap_or_default();
                    }
                    Some(_) | None => written.is_current = false,
                }
                let others = directory.edges().members(slot, lens.moment.0);
                match Linked::new(directory, slot, lens.moment.0, others) {
                    Some(few) if few.is_one_piece() => {
                        let mut list = LinkList::begin(MEMBERS, out);
                        self.members_json(directory, few.others(), &links, &mut list);
                        list.end();
                    }
                    found => many = found,
                }
            }
            if groups {
                let kin = stored.cuts.content.as_ref().map(|content| &content.kin);
                let at = directory.moment_or_now(lens.moment.0);
                directory.edges().with_ancestors(slot, at, kin, |groups| {
                    self.groups_json(directory, groups, &links, out);
                });
            }
        });
        if let Some(many) = many {
            let lens = &Lens { moment: many.moment(), ..lens.clone() };
            let (links, mut list) = (Links { lens, ..links.clone() }, LinkList::begin(MEMBERS, out));
            let write = |directory: &Directory, piece: &[Slot]| {
                self.members_json(directory, piece, &links, &mut list);
            };
            written.is_current &= self.in_pieces(tenant, &many, write);
            list.end();
        }
        out.extend_from_slice(&frame.meta);
        put_date_time(stored.created, out);
        out.extend_from_slice(b"\",\"lastModified\":\"");
        put_date_time(last_modified, out);
        out.extend_from_slice(b"\",\"location\":\"");
        location(&links.base_url, &kind.endpoint, stored.id, out);
        out.extend_from_slice(b"\",\"version\":\"W/\\\"");
        written.version.put_opaque(out);
        out.extend_from_slice(b"\\\"\"}}");
        written
    }

    /// The document's members, each with a comma behind it, and the names of whom it names.
    fn document(
        &self,
        directory: &Directory,
        json: &[u8],
        named: &[Named],
        links: &Links<'_>,
        out: &mut Vec<u8>,
    ) {
        let end = json.len().saturating_sub(1);
        let mut from = 1;
        for place in named {
            out.extend_from_slice(json.get(from..place.at).unwrap_or_default());
            from = place.at;
            let value = json.get(place.value.0..place.value.1).unwrap_or_default();
            self.name(directory, (place, value), links, out);
        }
        let rest = json.get(from..end).unwrap_or_default();
        out.extend_from_slice(rest);
        if end > 1 {
            out.push(b',');
        }
    }

    /// `$ref` and `displayName` of whom a document names.
    fn name(
        &self,
        directory: &Directory,
        (place, value): (&Named, &[u8]),
        links: &Links<'_>,
        out: &mut Vec<u8>,
    ) {
        let at = links.lens.moment.0;
        let known = place.id.and_then(|id| directory.slot_near(id, place.guess.get(), at));
        known.into_iter().for_each(|slot| place.guess.set(slot));
        let slot = known.filter(|slot| directory.exists(*slot, at));
        let kind = slot.map(|slot| directory.type_at(slot)).or(place.kind.as_deref());
        if !place.has_ref
            && let Some(kind) = kind.and_then(|name| self.inner.registry.by_name(name))
        {
            out.extend_from_slice(b",\"$ref\":\"");
            out.extend_from_slice(&links.base_url);
            out.extend_from_slice(kind.endpoint.as_bytes());
            out.push(b'/');
            out.extend_from_slice(value);
            out.push(b'"');
        }
        if let Some(display) = slot.and_then(|slot| directory.display_bytes(slot, at)) {
            out.extend_from_slice(b",\"displayName\":\"");
            escaped(display, out);
            out.push(b'"');
        }
    }

    /// Some of a group's members.
    fn members_json(
        &self,
        directory: &Directory,
        slots: &[Slot],
        links: &Links<'_>,
        list: &mut LinkList<'_>,
    ) {
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        for slot in slots {
            before.clear();
            behind.clear();
            if self.link(directory, *slot, links, &mut before, &mut behind) {
                list.put((&before, &behind), links, &as_escaped(directory.type_at(*slot).as_bytes()));
            }
        }
    }

    /// The groups of a resource, with a comma behind them; nothing when there are none. How a link to a group reads is kept for the next reader.
    fn groups_json(
        &self,
        directory: &Directory,
        groups: &mut dyn Iterator<Item = (Slot, bool)>,
        links: &Links<'_>,
        out: &mut Vec<u8>,
    ) {
        let mut list = LinkList::begin(b"\"groups\":[", out);
        let (kept, mut new) = (directory.fragments().kept(), Vec::new());
        for (slot, direct) in groups {
            let word: &[u8] = if direct { b"direct" } else { b"indirect" };
            let modified = directory.modified_until(slot, links.lens.moment.0);
            if let Some(known) = modified.and_then(|modified| kept.find(slot, modified)) {
                list.put(known, links, word);
                continue;
            }
            let (mut before, mut behind) = (Vec::new(), Vec::new());
            if !self.link(directory, slot, links, &mut before, &mut behind) {
                continue;
            }
            list.put((&before, &behind), links, word);
            new.extend(modified.map(|modified| New { slot, modified, before, behind }));
        }
        list.end();
        drop(kept);
        directory.fragments().keep(&new);
    }

    /// Appends what stands before and behind the base of a link's location, save for its type. Whether there is such a
    /// link: one whose type is not known any more is not shown.
    fn link(
        &self,
        directory: &Directory,
        slot: Slot,
        links: &Links<'_>,
        before: &mut Vec<u8>,
        behind: &mut Vec<u8>,
    ) -> bool {
        let kind = self.inner.registry.by_name(directory.type_at(slot));
        let Some((kind, other)) = kind.zip(directory.id(slot)) else { return false };
        before.extend_from_slice(b"{\"value\":\"");
        id(other, before);
        before.extend_from_slice(b"\",\"$ref\":\"");
        location(b"", &kind.endpoint, other, behind);
        if let Some(display) = directory.display_bytes(slot, links.lens.moment.0) {
            behind.extend_from_slice(b"\",\"display\":\"");
            escaped(display, behind);
        }
        behind.extend_from_slice(b"\",\"type\":\"");
        true
    }
}

/// A list of links that is being written.
struct LinkList<'a> {
    begin: &'static [u8],
    is_empty: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> LinkList<'a> {
    fn begin(begin: &'static [u8], out: &'a mut Vec<u8>) -> Self {
        Self { begin, is_empty: true, out }
    }

    /// `word` as it stands in JSON.
    fn put(&mut self, (before, behind): Halves<'_>, links: &Links<'_>, word: &[u8]) {
        self.out.extend_from_slice(if self.is_empty { self.begin } else { b"," });
        self.is_empty = false;
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(&links.base_url);
        self.out.extend_from_slice(behind);
        self.out.extend_from_slice(word);
        self.out.extend_from_slice(b"\"}");
    }

    /// With a comma behind it; one that is empty is not written.
    fn end(self) {
        if !self.is_empty {
            self.out.extend_from_slice(b"],");
        }
    }
}

/// From the opening brace to what comes before the document's own members.
fn head(stored: &Stored, frame: &Frame, lens: &Lens, cuts: &Cuts, out: &mut Vec<u8>) {
    out.extend_from_slice(&frame.begin);
    let mut left = cuts.extensions;
    while left != 0 {
        let number = left.trailing_zeros() as usize;
        out.extend_from_slice(frame.extensions.get(number).map(Vec::as_slice).unwrap_or_default());
        left &= left - 1;
    }
    out.extend_from_slice(b"\"],\"id\":\"");
    id(stored.id, out);
    out.extend_from_slice(b"\",");
    if let Some(external_id) = stored.external_ids.of(&lens.source) {
        out.extend_from_slice(b"\"externalId\":\"");
        escaped(external_id, out);
        out.extend_from_slice(b"\",");
    }
}

fn id(id: ResourceId, out: &mut Vec<u8>) {
    let mut buffer = uuid::Uuid::encode_buffer();
    out.extend_from_slice(id.uuid().hyphenated().encode_lower(&mut buffer).as_bytes());
}

fn location(base_url: &[u8], endpoint: &str, of: ResourceId, out: &mut Vec<u8>) {
    out.extend_from_slice(base_url);
    out.extend_from_slice(endpoint.as_bytes());
    out.push(b'/');
    id(of, out);
}

/// Whether a text stands otherwise between the quotes of JSON.
fn is_special(text: &[u8]) -> bool {
    let is_special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    // Looking at all of them is faster than stopping at the first.
    text.iter().fold(false, |found, byte| found | is_special(*byte))
}

/// A text as it stands between the quotes of JSON.
fn as_escaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !is_special(text) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::new();
    escaped(text, &mut out);
    Cow::Owned(out)
}

/// Appends a text as it stands between the quotes of JSON.
pub(crate) fn escaped(text: &[u8], out: &mut Vec<u8>) {
    if !is_special(text) {
        out.extend_from_slice(text);
        return;
    }
    let begin = out.len();
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, std::str::from_utf8(text).unwrap_or_default());
    out.pop();
    out.remove(begin);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_json_has_them() {
        for text in ["", "plain, ümlaut \u{10FFFF}\u{7f}", "a \"quote\"", "\\", "\n\t\u{1}\u{1f}", "\""] {
            let mut out = b"before".to_vec();
            escaped(text.as_bytes(), &mut out);
            out.push(b'"');
            assert_eq!(
                String::from_utf8(out).unwrap().replacen("before", "\"", 1),
                serde_json::json!(text).to_string()
            );
        }
    }
}
