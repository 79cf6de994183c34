//! The members of an object's JSON text, found without reading what they hold. It is for texts that were written by us and
//! came out of their seal whole: of a value that nobody wants only the end is looked for. What is not as we write it, such as
//! space between two words or a name with an escape in it, ends the search.

use memchr::memchr2;

/// What is to be done about a member.
pub(crate) enum Step {
    /// Its value is of no interest.
    Pass,
    /// Its value was read to here.
    Read(usize),
    /// The search is over.
    Stop,
}

/// Shows the members of the object that begins here, each by its name and where its value begins. Returns where the object
/// ends; nothing when it is not as we write it, or the search is over.
pub(crate) fn each(json: &[u8], begin: usize, mut member: impl FnMut(&[u8], usize) -> Step) -> Option<usize> {
    parted(json, begin, *b"{}", |at| {
        let Text { end, is_plain } = text(json, at)?;
        if !is_plain || *json.get(end)? != b':' {
            return None;
        }
        done(json, end + 1, member(json.get(at + 1..end - 1)?, end + 1))
    })
}

/// Shows where each value of the list that begins here begins. Returns where the list ends; nothing when it is not as we write
/// it, or the search is over.
pub(crate) fn items(json: &[u8], begin: usize, mut item: impl FnMut(usize) -> Step) -> Option<usize> {
    parted(json, begin, *b"[]", |at| done(json, at, item(at)))
}

/// Goes from comma to comma; `part` says where the one ends that begins here.
fn parted(
    json: &[u8],
    begin: usize,
    [open, close]: [u8; 2],
    mut part: impl FnMut(usize) -> Option<usize>,
) -> Option<usize> {
    if *json.get(begin)? != open {
        return None;
    }
    let mut at = begin + 1;
    if *json.get(at)? == close {
        return Some(at + 1);
    }
    loop {
        let end = part(at)?;
        match *json.get(end)? {
            b',' => at = end + 1,
            last if last == close => return Some(end + 1),
            _ => return None,
        }
    }
}

/// Where the value that begins here ends, after what was done about it.
fn done(json: &[u8], begin: usize, step: Step) -> Option<usize> {
    match step {
        Step::Pass => value(json, begin),
        Step::Read(to) => Some(to),
        Step::Stop => None,
    }
}

/// Where a text ends, behind its quotation mark.
pub(crate) struct Text {
    pub(crate) end: usize,
    /// Whether it stands as it is, without escapes.
    pub(crate) is_plain: bool,
}

/// The text that begins here.
pub(crate) fn text(json: &[u8], begin: usize) -> Option<Text> {
    if *json.get(begin)? != b'"' {
        return None;
    }
    let (mut at, mut is_plain) = (begin + 1, true);
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        if json.get(at) == Some(&b'"') {
            return Some(Text { end: at + 1, is_plain });
        }
        (at, is_plain) = (at + 2, false);
    }
}

/// Where the value that begins here ends.
pub(crate) fn value(json: &[u8], begin: usize) -> Option<usize> {
    match *json.get(begin)? {
        b'"' => text(json, begin).map(|text| text.end),
        b'{' | b'[' => nested(json, begin),
        // A number, or a word.
        _ => {
            let is_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
            let length = json.get(begin..)?.iter().position(|byte| !is_of_it(byte))?;
            (length > 0).then_some(begin + length)
        }
    }
}

/// Where an object or a list ends.
fn nested(json: &[u8], begin: usize) -> Option<usize> {
    let (mut at, mut depth) = (begin, 0_usize);
    loop {
        match *json.get(at)? {
            b'"' => {
                at = text(json, at)?.end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Its members with their values' texts.
    fn members(json: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let put = |name: &[u8], begin: usize| {
            let value = value(json.as_bytes(), begin).map(|end| json[begin..end].to_string());
            found.push((String::from_utf8_lossy(name).to_string(), value.unwrap_or_default()));
            Step::Pass
        };
        (each(json.as_bytes(), 0, put)? == json.len()).then_some(found)
    }

    #[test]
    fn members_are_those_that_a_tree_has() {
        for json in [
            r#"{}"#,
            r#"{"a":1}"#,
            r#"{"a":"x","b":"","c":"q\"}","d":"\\","e":"\\\"","f":"\u00e9{","":null}"#,
            r#"{"a":[],"b":{},"c":[{"d":[[1,-2.5e3],"]"]},true],"e":{"f":{"g":"}{"}},"h":false}"#,
            r#"{"ümlaut":"ß","urn:x:2.0:User":{"a":{"b":["\"",{"c":"\\"}]}},"z":0}"#,
        ] {
            let tree: serde_json::Map<String, Value> = serde_json::from_str(json).unwrap();
            let found = members(json).unwrap();
            assert_eq!(found.len(), tree.len(), "{json}");
            for (name, text) in found {
                assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), tree[&name], "{json} {name}");
            }
        }
    }

    /// Some value of any shape, with texts that hold what ends other things.
    fn any(state: &mut u32, depth: u32) -> Value {
        let mut next = |below: u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 8) % below
        };
        const TEXTS: [&str; 8] = ["", "a", "\"", "\\", "\\\"}", "{\"id\":[", "\u{1}\u{e4},", "]}:"];
        match next(if depth > 3 { 5 } else { 8 }) {
            0 => Value::Null,
            1 => (next(2) == 0).into(),
            2 => (f64::from(next(9)) / 4.0 - 1.0).into(),
            3 => u64::MAX.into(),
            4 => TEXTS[next(8) as usize].into(),
            5 => (0..next(4)).map(|_| any(state, depth + 1)).collect(),
            _ => {
                let names: Vec<String> = (0..next(4)).map(|name| format!("{name}")).collect();
                Value::Object(names.into_iter().map(|name| (name, any(state, depth + 1))).collect())
            }
        }
    }

    #[test]
    fn members_of_whatever_is_written_are_found() {
        let (mut state, mut objects) = (7, 0);
        for _ in 0..5_000 {
            let value = any(&mut state, 0);
            let found = members(&value.to_string());
            let Value::Object(tree) = value else {
                assert_eq!(found, None, "{value}");
                continue;
            };
            let found = found.unwrap().into_iter();
            let found = found.map(|(name, text)| (name, serde_json::from_str(&text).unwrap()));
            assert_eq!(found.collect::<serde_json::Map<_, _>>(), tree);
            objects += 1;
        }
        assert!(objects > 1_000, "{objects}");
    }

    #[test]
    fn what_is_not_as_we_write_it_is_left_to_others() {
        for json in [
            "",
            "[]",
            "{",
            "\"a\"",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":\"x}",
            "{\"a\":\"x\\\"}",
            "{\"a\": 1}x",
            "{ \"a\":1}",
            "{\"a\" :1}",
            "{\"a\":[1}",
            "{\"\\u0061\":1}",
            "{\"a\":1} ",
            "{a:1}",
            "{\"a\":\"\\",
        ] {
            assert_eq!(members(json), None, "{json}");
        }
    }

    #[test]
    fn items_are_those_that_a_list_has() {
        let items = |json: &str| {
            let mut found = Vec::new();
            let end = items(json.as_bytes(), 0, |begin| {
                found.push(
                    value(json.as_bytes(), begin).map(|end| json[begin..end].to_string()).unwrap_or_default(),
                );
                if found.last().is_some_and(|found| found == "9") { Step::Stop } else { Step::Pass }
            });
            (end == Some(json.len())).then_some(found)
        };
        for json in ["[]", "[1]", r#"["]",{"a":[2]},[],null,-1.5,true]"#] {
            let list: Vec<Value> = serde_json::from_str(json).unwrap();
            let found = items(json).unwrap();
            assert_eq!(
                found.iter().map(|text| serde_json::from_str(text).unwrap()).collect::<Vec<Value>>(),
                list
            );
        }
        for json in ["", "{}", "[", "[1", "[1,", "[1,]", "[1 ,2]", "[1}", "[1]]", "[9]"] {
            assert_eq!(items(json), None, "{json}");
        }
    }

    #[test]
    fn a_value_that_was_read_is_not_read_again_and_the_search_can_end() {
        let json = br#"{"a":{"b":1},"c":2}"#;
        let (mut names, mut inner) = (Vec::new(), Vec::new());
        let end = each(json, 0, |name, begin| {
            names.push(name.to_vec());
            match each(json, begin, |name, _| {
                inner.push(name.to_vec());
                Step::Pass
            }) {
                Some(end) => Step::Read(end),
                None => Step::Pass,
            }
        });
        assert_eq!(
            (end, names, inner),
            (Some(json.len()), vec![b"a".to_vec(), b"c".to_vec()], vec![b"b".to_vec()])
        );
        assert_eq!(each(json, 0, |name, _| if name == b"c" { Step::Stop } else { Step::Pass }), None);
    }
}
