//! The little JSON the codecs need around `serde_json`: bounds before it, text forms after it.
//!
//! Grammar is `serde_json`'s business. Two things are not. Its skipping parser, which lets payloads
//! through as text, does not look at surrogate pairs, yet half a pair makes other decoders fail
//! later, in somebody else's process. And nesting has to be measured for the recursive decoders
//! that come after: `serde_json` skips a value without recursion.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How many arrays and objects may stand open at once in a text.
///
/// Checked before anything recursive sees the text: decoders down the line (Python's among them)
/// spend stack per level, and a few hundred kilobytes of `[` must not find out how much.
pub const MAX_DEPTH: usize = 128;

/// Why bytes are not JSON text that the engine takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NotUtf8,
    /// Not one JSON value, or a string in it holds half a surrogate pair.
    NotJson,
    /// More than [`MAX_DEPTH`] levels of nesting.
    TooDeep,
}

/// The frame as text, not yet known to be JSON.
pub(crate) fn text(frame: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(frame).map_err(|_| Fault::NotUtf8)
}

/// As [`text`], bounded in depth.
pub(crate) fn bounded_text(frame: &[u8]) -> Result<&str, Fault> {
    if nests_too_deep(frame) {
        return Err(Fault::TooDeep);
    }
    text(frame)
}

/// The first byte that is not white space: it decides the type of the value.
pub(crate) fn first_byte(text: &str) -> Option<u8> {
    text.bytes().find(|byte| !is_space(*byte))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Whether this is JSON of whatever type, every string in it whole.
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok() && surrogates_are_paired(text)
}

/// Whether more than [`MAX_DEPTH`] brackets are open at once, whatever the bytes are.
///
/// Both shortcuts are exact. Text no longer than the bound cannot exceed it, and neither can text
/// with no more opening brackets in total, counted without regard to strings; the counting loop is
/// vectorised, so the walk over strings is left to frames that have earned it.
pub(crate) fn nests_too_deep(frame: &[u8]) -> bool {
    frame.len() > MAX_DEPTH && opening_brackets(frame) > MAX_DEPTH && depth_exceeds(frame)
}

fn opening_brackets(frame: &[u8]) -> usize {
    // A byte-sized counter per chunk of 255 keeps the inner loop in byte lanes. The two opening
    // brackets differ in bit 5 alone.
    frame
        .chunks(255)
        .map(|chunk| {
            let in_chunk = chunk
                .iter()
                .fold(0u8, |count, byte| count + u8::from(byte | 0x20 == b'{'));
            usize::from(in_chunk)
        })
        .sum()
}

fn depth_exceeds(frame: &[u8]) -> bool {
    let mut depth = 0usize;
    let mut bytes = frame.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    false
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// Whether every surrogate escape in this valid JSON text has its other half.
pub(crate) fn surrogates_are_paired(text: &str) -> bool {
    // The library's byte search goes a word at a time, and most frames end here.
    if !text.as_bytes().contains(&b'\\') {
        return true;
    }
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at..];
        rest = match escape_unit(rest) {
            Some(0xd800..=0xdbff) => match escape_unit(&rest[6..]) {
                Some(0xdc00..=0xdfff) => &rest[12..],
                _ => return false,
            },
            Some(0xdc00..=0xdfff) => return false,
            Some(_) => &rest[6..],
            None => rest.get(2..).unwrap_or_default(),
        };
    }
    true
}

/// The code unit of the `\uXXXX` escape that `bytes` starts with, if it does.
fn escape_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.get(..6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether this JSON text is a string.
pub(crate) fn is_string(raw: &str) -> bool {
    raw.starts_with('"')
}

/// The characters of a JSON string; borrowed when nothing in it is escaped.
pub(crate) fn unquote(raw: &str) -> Result<Cow<'_, str>, Fault> {
    if raw.as_bytes().contains(&b'\\') {
        serde_json::from_str(raw)
            .map(Cow::Owned)
            .map_err(|_| Fault::NotJson)
    } else {
        // A string without escapes is what stands between its quotes.
        let inner = raw
            .strip_prefix('"')
            .and_then(|tail| tail.strip_suffix('"'));
        inner.map(Cow::Borrowed).ok_or(Fault::NotJson)
    }
}

/// One spelling per value for strings, so that equal refs are equal bytes; other terms verbatim.
pub(crate) fn canonical(raw: &str) -> Result<Cow<'_, str>, Fault> {
    if is_string(raw) && raw.as_bytes().contains(&b'\\') {
        Ok(Cow::Owned(quote(&unquote(raw)?)))
    } else {
        // Without escapes a valid string is already minimal: only `"`, `\` and control
        // characters ever need one.
        Ok(Cow::Borrowed(raw))
    }
}

/// The text of some members of an object, by name. A name given twice counts with its last value,
/// as in the decoders of Phoenix and of Python; members of other names are ignored.
///
/// # Errors
/// [`Fault::NotJson`] for text that is not one JSON object.
pub(crate) fn members<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_map(Members(names));
    let members = members.and_then(|members| deserializer.end().map(|()| members));
    match members {
        Ok(members) if surrogates_are_paired(text) => Ok(members),
        _ => Err(Fault::NotJson),
    }
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de str>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(index) = map.next_key_seed(Name(&self.0))? {
            match index {
                Some(index) => found[index] = Some(map.next_value::<&RawValue>()?.get()),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Which of the names a key is, told without allocating, escapes included.
struct Name<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

/// A JSON object with more members, which follow its own; None when `object` is none.
pub(crate) fn with_members(object: &[u8], members: &str) -> Option<Vec<u8>> {
    let own = object.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?;
    let own = own.trim_ascii();
    let mut all = Vec::with_capacity(own.len() + members.len() + 3);
    all.push(b'{');
    all.extend_from_slice(own);
    if !own.is_empty() {
        all.push(b',');
    }
    all.extend_from_slice(members.as_bytes());
    all.push(b'}');
    Some(all)
}

/// `text` as a JSON string.
pub(crate) fn quote(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    // SAFETY: `write_string` copies `text` whole except for ASCII bytes, which it replaces by
    // ASCII escapes, so what it wrote is UTF-8.
    unsafe { String::from_utf8_unchecked(out) }
}

/// Appends `text` as a JSON string with the fewest escapes the grammar allows.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut copied = 0;
    for (at, &byte) in text.as_bytes().iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[copied..at]);
        write_escape(out, byte);
        copied = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[copied..]);
    out.push(b'"');
}

#[cold]
fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0x0f)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_counts_open_brackets_outside_strings() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(!nests_too_deep(&nested(MAX_DEPTH)));
        assert!(nests_too_deep(&nested(MAX_DEPTH + 1)));
        assert!(!nests_too_deep(&b"[]".repeat(10_000)));
        let quoted = format!(r#"["\"{}",1]"#, "[{".repeat(10_000));
        assert!(!nests_too_deep(quoted.as_bytes()));
        assert!(nests_too_deep(&vec![b'{'; 100_000]));
    }

    #[test]
    fn the_bracket_count_survives_a_chunk_of_nothing_else() {
        assert_eq!(opening_brackets(&[b'['; 1_000]), 1_000);
        assert_eq!(opening_brackets(b"]}[{\x7f;\xfb\xdb"), 2);
    }

    #[test]
    fn half_a_surrogate_pair_is_found_wherever_it_stands() {
        for whole in [
            r#""""#,
            r#""\ud83d\ude00""#,
            r#""\\ud83d""#,
            r#""\uD83D\uDE00\n\u00e9""#,
            r#""\\\\""#,
        ] {
            assert!(surrogates_are_paired(whole), "{whole}");
        }
        for half in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx\ude00""#,
            r#""\ud83d\n""#,
            r#"{"\\\udc00":1}"#,
            r#""\ud83d\ud83d\ude00""#,
        ] {
            assert!(!surrogates_are_paired(half), "{half}");
        }
    }

    #[test]
    fn strings_are_written_with_the_fewest_escapes() {
        assert_eq!(quote("plain é / \u{7f} 日"), "\"plain é / \u{7f} 日\"");
        assert_eq!(
            quote("\"\\\n\r\t\u{8}\u{c}\u{0}\u{1f}"),
            r#""\"\\\n\r\t\b\f\u0000\u001f""#
        );
        assert_eq!(quote(""), r#""""#);
    }

    #[test]
    fn equal_strings_have_one_canonical_text_and_other_terms_are_left_alone() {
        assert_eq!(canonical(r#""\u0031""#), Ok(Cow::Borrowed(r#""1""#)));
        assert_eq!(canonical(r#""\/""#), Ok(Cow::Borrowed(r#""/""#)));
        assert_eq!(canonical("1.50"), Ok(Cow::Borrowed("1.50")));
        assert_eq!(
            canonical(r#"{"a":"\u0031"}"#),
            Ok(Cow::Borrowed(r#"{"a":"\u0031"}"#))
        );
        assert!(matches!(canonical(r#""1""#), Ok(Cow::Borrowed(_))));
    }
}
