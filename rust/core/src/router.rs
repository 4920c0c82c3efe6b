//! Topic addresses to routes. A pattern is text with `{name}` parameters and at most one
//! trailing `*`; the first declared pattern that matches wins (Phoenix `channel/3` order).
//!
//! A parameter takes at least one byte. One that ends the pattern takes all that is left, colons
//! included (`y_doc_room:{docName}` matches `y_doc_room:notes:draft`); one before literal text
//! ends at the first occurrence of that text. `*` takes whatever is left, even nothing.

use std::collections::HashMap;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
    Rest,
}

/// Why a pattern cannot be used; `Display` names the pattern and the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    pattern: String,
    reason: &'static str,
}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "topic pattern {:?}: {}; a pattern is text with {{name}} parameters and at most one trailing *",
            self.pattern, self.reason
        )
    }
}

impl std::error::Error for PatternError {}

#[derive(Debug, Clone)]
struct Pattern {
    segments: Vec<Segment>,
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, PatternError> {
        let fail = |reason| PatternError {
            pattern: pattern.to_owned(),
            reason,
        };
        if pattern.is_empty() {
            return Err(fail("it is empty"));
        }
        let (body, rest) = match pattern.strip_suffix('*') {
            Some(body) => (body, true),
            None => (pattern, false),
        };
        if body.contains('*') {
            return Err(fail("a * stands before the end"));
        }
        let mut segments = Vec::new();
        let mut left = body;
        while let Some(open) = left.find('{') {
            let close = left[open..]
                .find('}')
                .ok_or_else(|| fail("a { is never closed"))?
                + open;
            let name = &left[open + 1..close];
            if !is_name(name) {
                return Err(fail("a parameter's name takes letters, digits, _ and -"));
            }
            if open > 0 {
                segments.push(Segment::Literal(left[..open].to_owned()));
            } else if matches!(segments.last(), Some(Segment::Parameter(_))) {
                return Err(fail("two parameters touch"));
            }
            if segments
                .iter()
                .any(|s| matches!(s, Segment::Parameter(n) if n == name))
            {
                return Err(fail("a parameter is named twice"));
            }
            segments.push(Segment::Parameter(name.to_owned()));
            left = &left[close + 1..];
        }
        if left.contains('}') {
            return Err(fail("a } was never opened"));
        }
        if !left.is_empty() {
            segments.push(Segment::Literal(left.to_owned()));
        }
        if rest {
            if matches!(segments.last(), Some(Segment::Parameter(_))) {
                return Err(fail("a * after a parameter that already takes the rest"));
            }
            segments.push(Segment::Rest);
        }
        Ok(Self { segments })
    }

    fn exact(&self) -> Option<&str> {
        match self.segments.as_slice() {
            [Segment::Literal(text)] => Some(text),
            _ => None,
        }
    }

    fn captures<'p, 't>(&'p self, topic: &'t str) -> Option<Vec<(&'p str, &'t str)>> {
        let mut found = Vec::new();
        let mut left = topic;
        let mut segments = self.segments.iter().peekable();
        while let Some(segment) = segments.next() {
            match segment {
                Segment::Literal(text) => left = left.strip_prefix(text.as_str())?,
                Segment::Rest => return Some(found),
                Segment::Parameter(name) => {
                    let first = left.chars().next()?.len_utf8();
                    let end = match segments.peek() {
                        Some(Segment::Literal(text)) => left[first..].find(text.as_str())? + first,
                        _ => left.len(),
                    };
                    found.push((name.as_str(), &left[..end]));
                    left = &left[end..];
                }
            }
        }
        left.is_empty().then_some(found)
    }
}

/// Patterns in declaration order; a route is its position.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<String, usize>,
    templates: Vec<(usize, Pattern)>,
    len: usize,
}

/// A matched route and what its parameters captured.
#[derive(Debug, PartialEq, Eq)]
pub struct Match<'p, 't> {
    pub route: usize,
    pub params: Vec<(&'p str, &'t str)>,
}

impl Router {
    /// Adds a pattern after those declared before and returns its route number.
    ///
    /// # Errors
    /// [`PatternError`] when the text is no pattern.
    pub fn add(&mut self, pattern: &str) -> Result<usize, PatternError> {
        let parsed = Pattern::parse(pattern)?;
        let route = self.len;
        match parsed.exact() {
            Some(text) => {
                self.exact.entry(text.to_owned()).or_insert(route);
            }
            None => self.templates.push((route, parsed)),
        }
        self.len += 1;
        Ok(route)
    }

    /// The first declared route that matches `topic`. O(1) for exact patterns plus one attempt per
    /// template declared before it.
    pub fn find<'p, 't>(&'p self, topic: &'t str) -> Option<Match<'p, 't>> {
        let exact = self.exact.get(topic).copied();
        for (route, pattern) in &self.templates {
            if exact.is_some_and(|e| e < *route) {
                break;
            }
            if let Some(params) = pattern.captures(topic) {
                return Some(Match {
                    route: *route,
                    params,
                });
            }
        }
        exact.map(|route| Match {
            route,
            params: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(patterns: &[&str]) -> Router {
        let mut router = Router::default();
        for p in patterns {
            router.add(p).unwrap();
        }
        router
    }

    #[test]
    fn the_first_declared_pattern_that_matches_wins() {
        let r = router(&["food*", "foo*", "foobar", "{any}"]);
        assert_eq!(r.find("foods").unwrap().route, 0);
        assert_eq!(r.find("foobar").unwrap().route, 1);
        assert_eq!(r.find("bar").unwrap().route, 3);
        let r = router(&["foobar", "foo*"]);
        assert_eq!(r.find("foobar").unwrap().route, 0);
    }

    #[test]
    fn a_prefix_matches_itself_and_beyond() {
        let r = router(&["room:*"]);
        assert!(r.find("room:").is_some());
        assert!(r.find("room:1:2").is_some());
        assert!(r.find("room").is_none());
    }

    #[test]
    fn a_last_parameter_takes_the_rest_and_never_nothing() {
        let r = router(&["y_doc_room:{docName}"]);
        assert_eq!(
            r.find("y_doc_room:notes:draft").unwrap().params,
            vec![("docName", "notes:draft")]
        );
        assert!(r.find("y_doc_room:").is_none());
    }

    #[test]
    fn a_middle_parameter_ends_at_the_next_literal() {
        let r = router(&["run:{run}:step:{step}"]);
        assert_eq!(
            r.find("run:a:step:b:c").unwrap().params,
            vec![("run", "a"), ("step", "b:c")]
        );
        assert!(r.find("run::step:b").is_none());
        assert_eq!(
            r.find("run:ü:step:é").unwrap().params,
            vec![("run", "ü"), ("step", "é")]
        );
    }

    #[test]
    fn a_bad_pattern_says_what_is_wrong() {
        for (pattern, word) in [
            ("", "empty"),
            ("a*b", "before the end"),
            ("a{b", "never closed"),
            ("a}b", "never opened"),
            ("{a}{b}", "touch"),
            ("{a}:{a}", "twice"),
            ("{a b}", "letters"),
            ("{a}*", "after a parameter"),
        ] {
            let error = Router::default().add(pattern).unwrap_err().to_string();
            assert!(error.contains(word), "{pattern}: {error}");
        }
    }
}
