//! JSON pointers (RFC 6901), followed through text that is never decoded as a whole.
//!
//! A `latest` topic keeps the newest message per key, and a document names the key by a pointer into
//! the payload. A payload reaches the hub as bytes, whoever made it, so it is looked
//! for in bytes: once per publish, nothing allocated for what is skipped.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::json;

/// A pointer such as `/data/s`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Box<[Box<str>]>);

/// Text that is no pointer: neither empty nor beginning with `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPointer;

impl fmt::Display for NotAPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON pointer is empty or begins with /, such as /symbol")
    }
}

impl std::error::Error for NotAPointer {}

/// What a pointer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// A string's characters.
    Text(Cow<'a, str>),
    /// The JSON text of anything else, as it was written.
    Value(&'a str),
}

impl Pointer {
    /// # Errors
    /// [`NotAPointer`].
    pub fn parse(text: &str) -> Result<Self, NotAPointer> {
        let mut tokens = text.split('/');
        if tokens.next() != Some("") {
            return Err(NotAPointer);
        }
        // In this order: `~01` is `~1`.
        let plain = |token: &str| token.replace("~1", "/").replace("~0", "~").into_boxed_str();
        Ok(Self(tokens.map(plain).collect()))
    }

    /// What is at the pointer; of several members of one name the last, as other parsers have it.
    /// `None` where nothing is, or `payload` is not JSON that `serde_json` reads (128 levels of
    /// nesting; half a surrogate pair only where it has to be read).
    pub fn find<'a>(&self, payload: &'a [u8]) -> Option<Found<'a>> {
        let mut parser = serde_json::Deserializer::from_slice(payload);
        let found = Walk(&self.0).deserialize(&mut parser).ok()??;
        parser.end().ok()?;
        let text = found.get();
        if !json::is_string(text) {
            return Some(Found::Value(text));
        }
        Some(Found::Text(json::unquote(text).ok()?))
    }
}

/// The rest of the way, from the value that is read next.
#[derive(Clone, Copy)]
struct Walk<'p>(&'p [Box<str>]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return <&RawValue>::deserialize(input).map(Some);
        }
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(here) = map.next_key_seed(Is(name))? {
            if here {
                found = map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0.split_first();
        let wanted = wanted.and_then(|(token, rest)| Some((index(token)?, rest)));
        let mut found = None;
        let mut at = 0;
        loop {
            match wanted {
                Some((index, rest)) if index == at => match items.next_element_seed(Walk(rest))? {
                    Some(here) => found = here,
                    None => return Ok(found),
                },
                _ => {
                    if items.next_element::<IgnoredAny>()?.is_none() {
                        return Ok(found);
                    }
                }
            }
            at += 1;
        }
    }

    // Nothing is below these.

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An index has no sign and no leading zero (RFC 6901 section 4).
fn index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (token == "0" || !token.starts_with('0'));
    plain.then(|| token.parse().ok()).flatten()
}

/// Whether a member's name is this one.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<bool, D::Error> {
        input.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn find<'a>(pointer: &str, payload: &'a str) -> Option<Found<'a>> {
        Pointer::parse(pointer).unwrap().find(payload.as_bytes())
    }

    fn text(pointer: &str, payload: &str) -> String {
        match find(pointer, payload) {
            Some(Found::Text(text)) => text.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_examples_of_rfc_6901_lead_where_it_says() {
        let document = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        assert_eq!(find("", document), Some(Found::Value(document)));
        assert_eq!(
            find("/foo", document),
            Some(Found::Value(r#"["bar","baz"]"#))
        );
        assert_eq!(text("/foo/0", document), "bar");
        for (pointer, value) in [
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            (r"/i\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(
                find(pointer, document),
                Some(Found::Value(value)),
                "{pointer}"
            );
        }
    }

    #[test]
    fn a_string_is_found_as_its_characters() {
        assert_eq!(text("/s", r#"{"s":"BTCUSDT"}"#), "BTCUSDT");
        assert_eq!(text("/s", r#" { "s" : "B\u0054C\n" } "#), "BTC\n");
        assert_eq!(text("/s", r#"{"\u0073":"x"}"#), "x");
        assert_eq!(text("/a/1/s", r#"{"a":[0,{"s":"deep"}]}"#), "deep");
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for (pointer, payload) in [
            ("/s", r#"{"t":1}"#),
            ("/s", "[]"),
            ("/s", "[1]"),
            ("/s", r#""s""#),
            ("/s", "5"),
            ("/s", "-5"),
            ("/s", "1.5"),
            ("/s", "true"),
            ("/s", "null"),
            ("/s/t", r#"{"s":"t"}"#),
            ("/01", "[1,2]"),
            ("/-", "[1,2]"),
            ("/+1", "[1,2]"),
            ("/2", "[1,2]"),
            ("/99999999999999999999999", "[1,2]"),
        ] {
            assert_eq!(find(pointer, payload), None, "{pointer} in {payload}");
        }
    }

    #[test]
    fn nothing_is_found_in_what_is_not_json() {
        for payload in [
            "",
            "{",
            r#"{"s":"x""#,
            r#"{"s":"x"}x"#,
            r#"{"s":}"#,
            "\u{0}",
            r#"{"s":"\ud800"}"#,
        ] {
            assert_eq!(find("/s", payload), None, "{payload}");
        }
        assert_eq!(
            Pointer::parse("/s").unwrap().find(b"{\"s\":\"\xff\"}"),
            None
        );
        let deep = "[".repeat(100_000);
        assert_eq!(find("/0", &deep), None);
    }

    #[test]
    fn of_two_members_of_one_name_the_last_counts() {
        assert_eq!(text("/s", r#"{"s":"first","s":"last"}"#), "last");
        assert_eq!(find("/s/t", r#"{"s":{"t":1},"s":2}"#), None);
    }

    #[test]
    fn a_pointer_is_empty_or_begins_with_a_slash() {
        assert_eq!(Pointer::parse("symbol"), Err(NotAPointer));
        assert_eq!(Pointer::parse("#/symbol"), Err(NotAPointer));
        assert_eq!(Pointer::parse("/~01").unwrap().0[0].as_ref(), "~1");
    }

    fn json() -> impl Strategy<Value = Value> {
        let name = "[ab/~0-2é\"\\\\]{0,2}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            name.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(name, inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Every pointer that leads somewhere in a value.
    fn places(value: &Value, at: &str, into: &mut Vec<String>) {
        into.push(at.to_owned());
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let token = name.replace('~', "~0").replace('/', "~1");
                    places(member, &format!("{at}/{token}"), into);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    places(item, &format!("{at}/{index}"), into);
                }
            }
            _ => {}
        }
    }

    fn agrees(pointer: &str, text: &str, value: &Value) {
        let found = find(pointer, text);
        match (value.pointer(pointer), found) {
            (None, None) => {}
            (Some(Value::String(expected)), Some(Found::Text(text))) => assert_eq!(expected, &text),
            (Some(expected), Some(Found::Value(text))) => {
                assert_eq!(expected, &serde_json::from_str::<Value>(text).unwrap());
            }
            (expected, found) => panic!("{pointer} in {text}: {expected:?}, {found:?}"),
        }
    }

    proptest! {
        #[test]
        fn every_place_of_a_value_is_found_as_serde_json_finds_it(value in json()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            let mut pointers = Vec::new();
            places(&value, "", &mut pointers);
            for pointer in pointers {
                agrees(&pointer, &text, &value);
            }
        }

        #[test]
        fn any_pointer_leads_where_serde_json_says(value in json(), pointer in "(/[ab/~0-2é]{0,2}){0,3}") {
            let text = value.to_string();
            let value: Value = serde_json::from_str(&text).unwrap();
            agrees(&pointer, &text, &value);
        }

        #[test]
        fn no_bytes_make_it_panic(payload: Vec<u8>, pointer in "(/[a0]?){0,3}") {
            let _ = Pointer::parse(&pointer).unwrap().find(&payload);
        }
    }
}
