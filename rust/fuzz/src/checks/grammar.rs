//! JSON once more, by recursive descent straight from RFC 8259, to be compared with.
//!
//! Slow on purpose and written without a look at the engine: it shares no code and no shortcut
//! with it. It keeps the top-level parts as text, which is all the frames need.

/// A JSON value and, for an array or object, what it directly holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Top<'a> {
    Array(Vec<&'a str>),
    /// Keys with their quotes and escapes.
    Object(Vec<(&'a str, &'a str)>),
    Other,
}

/// The value `frame` is, or the label of what is wrong with it.
pub fn parse(frame: &[u8]) -> Result<Top<'_>, &'static str> {
    let text = std::str::from_utf8(frame).map_err(|_| "not_utf8")?;
    let mut parser = Parser { text, at: 0 };
    parser.space();
    let top = parser.value().ok_or("not_json")?;
    parser.space();
    if parser.at == text.len() {
        Ok(top)
    } else {
        Err("not_json")
    }
}

/// The characters of a JSON string that [`parse`] has let through.
pub fn unquote(raw: &str) -> String {
    serde_json::from_str(raw).expect("a valid JSON string")
}

/// Most brackets open at once outside strings, for any bytes.
pub fn depth(frame: &[u8]) -> usize {
    let (mut open, mut most, mut in_string, mut skip) = (0usize, 0, false, false);
    for byte in frame {
        if skip {
            skip = false;
        } else if in_string {
            match byte {
                b'\\' => skip = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_string = true,
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
        }
        most = most.max(open);
    }
    most
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<Top<'a>> {
        match self.peek()? {
            b'[' => self.array().map(Top::Array),
            b'{' => self.object().map(Top::Object),
            b'"' => self.string().map(|()| Top::Other),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number().map(|()| Top::Other),
        }
    }

    fn raw_value(&mut self) -> Option<&'a str> {
        self.space();
        let start = self.at;
        self.value()?;
        let raw = &self.text[start..self.at];
        self.space();
        Some(raw)
    }

    fn array(&mut self) -> Option<Vec<&'a str>> {
        self.eat(b'[')?;
        self.space();
        let mut items = Vec::new();
        if self.eat(b']').is_some() {
            return Some(items);
        }
        loop {
            items.push(self.raw_value()?);
            if self.eat(b']').is_some() {
                return Some(items);
            }
            self.eat(b',')?;
        }
    }

    fn object(&mut self) -> Option<Vec<(&'a str, &'a str)>> {
        self.eat(b'{')?;
        self.space();
        let mut members = Vec::new();
        if self.eat(b'}').is_some() {
            return Some(members);
        }
        loop {
            self.space();
            let start = self.at;
            self.string()?;
            let key = &self.text[start..self.at];
            self.space();
            self.eat(b':')?;
            members.push((key, self.raw_value()?));
            if self.eat(b'}').is_some() {
                return Some(members);
            }
            self.eat(b',')?;
        }
    }

    fn word(&mut self, word: &str) -> Option<Top<'a>> {
        let rest = &self.text[self.at..];
        rest.starts_with(word).then(|| self.at += word.len())?;
        Some(Top::Other)
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.eat(b'-');
        if self.eat(b'0').is_none() {
            self.digits()?;
        }
        if self.eat(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<()> {
        self.eat(b'"')?;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.escape()?,
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        if let Some(unit) = self.unit() {
            return match unit {
                0xdc00..=0xdfff => None,
                0xd800..=0xdbff => {
                    let low = self.unit()?;
                    (0xdc00..=0xdfff).contains(&low).then_some(())
                }
                _ => Some(()),
            };
        }
        self.eat(b'\\')?;
        let known = b"\"\\/bfnrt".contains(&self.peek()?);
        known.then(|| self.at += 1)
    }

    /// The code unit of a `\uXXXX` here, if there is one; stays in place if not.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 6)?;
        let digits = digits.strip_prefix(b"\\u")?;
        let mut unit = 0;
        for digit in digits {
            unit = unit * 16 + char::from(*digit).to_digit(16)?;
        }
        self.at += 6;
        Some(unit)
    }
}
