//! The head of a request.

use moda_core::head::{lines, read, HeadError, MAX_LINES};

/// Any bytes as a head.
pub fn head(data: &[u8]) {
    let mut room = lines();
    let outcome = read(data, &mut room);
    let Some(model) = model(data) else {
        assert!(outcome.is_err(), "read what is no head: {outcome:?}");
        return;
    };
    if model.headers.len() > MAX_LINES {
        assert_eq!(outcome.unwrap_err(), HeadError::TooManyLines);
        return;
    }
    let head = outcome.expect("the grammar says it is a head");
    assert_eq!(head.method.as_bytes(), model.method);
    assert_eq!(head.target.as_bytes(), model.target);
    assert_eq!(head.minor, model.minor);
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|one| (one.name.as_bytes(), one.value))
        .collect();
    assert_eq!(headers, model.headers);
    if let Some(key) = head.key() {
        assert_eq!(key.len(), 24);
        let keys = |name: &[u8]| name.eq_ignore_ascii_case(b"sec-websocket-key");
        let sent: Vec<_> = headers.iter().filter(|(name, _)| keys(name)).collect();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].1, key);
    }
}

struct Model<'b> {
    method: &'b [u8],
    target: &'b [u8],
    minor: u8,
    headers: Vec<(&'b [u8], &'b [u8])>,
}

/// RFC 9112 sections 2.1, 3 and 5, line by line. A target may be any visible text.
fn model(data: &[u8]) -> Option<Model<'_>> {
    let mut rest = data.strip_suffix(b"\r\n\r\n")?;
    let mut next_line = || {
        let end = rest.windows(2).position(|two| two == b"\r\n");
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[][..], |at| &rest[at + 2..]);
        (line, end.is_some())
    };
    let (start, mut more) = next_line();
    let mut words = start.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let minor = match version {
        b"HTTP/1.0" => 0,
        b"HTTP/1.1" => 1,
        _ => return None,
    };
    let visible = |byte: &u8| *byte > 0x20 && *byte != 0x7f;
    if words.next().is_some()
        || !is_token(method)
        || target.is_empty()
        || !target.iter().all(visible)
        || std::str::from_utf8(target).is_err()
    {
        return None;
    }
    let mut headers = Vec::new();
    while more {
        let (line, another) = next_line();
        more = another;
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let text = |byte: &u8| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f);
        if !is_token(name) || !value.iter().all(text) {
            return None;
        }
        headers.push((name, trimmed(value)));
    }
    Some(Model {
        method,
        target,
        minor,
        headers,
    })
}

fn is_token(word: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !word.is_empty() && word.iter().all(token)
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
