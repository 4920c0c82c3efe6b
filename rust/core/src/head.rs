//! The head of a request that may become a WebSocket: RFC 9112 strictly, and RFC 6455 section 4.2.1
//! for the ordinary case.
//!
//! Every client that arrives passes here once, and after a restart all of them arrive together. The
//! reading itself is `httparse`'s. On top of it: a line ends in CRLF and in nothing else, and nothing
//! follows the head.

use std::fmt;
use std::mem::MaybeUninit;

/// Header lines one head may have; a browser sends fourteen.
pub const MAX_LINES: usize = 256;

/// Why the bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1.0 or 1.1.
    Malformed,
    /// The blank line is missing.
    Incomplete,
    /// More than [`MAX_LINES`] header lines.
    TooManyLines,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the request is not HTTP/1.1"),
            Self::Incomplete => f.write_str("the request head is incomplete"),
            Self::TooManyLines => {
                write!(f, "the request has more than {MAX_LINES} header lines")
            }
        }
    }
}

impl std::error::Error for HeadError {}

/// A head as it was sent. Header values are without the blanks around them.
#[derive(Debug)]
pub struct Head<'b, 'h> {
    pub method: &'b str,
    pub target: &'b str,
    /// 0 or 1: of HTTP/1.0 or HTTP/1.1.
    pub minor: u8,
    pub headers: &'h [httparse::Header<'b>],
}

/// Room for the header lines of a head that is read.
pub type Lines<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_LINES];

/// Empty [`Lines`]. Costs nothing: they are written before they are read.
pub const fn lines<'b>() -> Lines<'b> {
    [const { MaybeUninit::uninit() }; MAX_LINES]
}

/// Reads a head, blank line included.
///
/// # Errors
/// [`HeadError`]: what is wrong with it. Bytes behind the blank line are wrong, too.
pub fn read<'b, 'h>(raw: &'b [u8], lines: &'h mut Lines<'b>) -> Result<Head<'b, 'h>, HeadError> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(raw, lines) {
        Ok(httparse::Status::Complete(length)) if length == raw.len() => {}
        Ok(httparse::Status::Partial) => return Err(HeadError::Incomplete),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyLines),
        Ok(httparse::Status::Complete(_)) | Err(_) => return Err(HeadError::Malformed),
    }
    // A recipient may take a lone LF for a line's end (RFC 9112 section 2.2); one in front of it may
    // not, and the two would see different heads.
    // An empty line in front of the first one may be skipped (the same section): not here.
    let lone = |at: usize| raw[at] == b'\n' && (at == 0 || raw[at - 1] != b'\r');
    match (request.method, request.path, request.version) {
        (Some(method), Some(target), Some(minor))
            if raw[0] != b'\r' && !(0..raw.len()).any(lone) =>
        {
            Ok(Head {
                method,
                target,
                minor,
                headers: request.headers,
            })
        }
        _ => Err(HeadError::Malformed),
    }
}

impl<'b> Head<'b, '_> {
    /// The `Sec-WebSocket-Key` of a WebSocket upgrade with nothing wrong or unusual about it.
    ///
    /// None of any other head, even of a few that could still be taken for an upgrade: who is
    /// refused deserves a reason, and the place that knows the reasons decides about those.
    pub fn key(&self) -> Option<&'b [u8]> {
        let (mut connection, mut upgrade, mut version, mut key) = (false, 0, 0, None);
        for header in self.headers {
            let (name, value) = (header.name, header.value);
            if name.eq_ignore_ascii_case("connection") {
                connection |= value
                    .split(|&byte| byte == b',')
                    .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            } else if name.eq_ignore_ascii_case("upgrade") {
                upgrade += if value.eq_ignore_ascii_case(b"websocket") {
                    1
                } else {
                    2
                };
            } else if name.eq_ignore_ascii_case("sec-websocket-version") {
                version += if value == b"13" { 1 } else { 2 };
            } else if name.eq_ignore_ascii_case("sec-websocket-key") {
                if key.is_some() || !is_key(value) {
                    return None;
                }
                key = Some(value);
            } else if name.eq_ignore_ascii_case("content-length")
                || name.eq_ignore_ascii_case("transfer-encoding")
            {
                return None;
            }
        }
        let usual =
            self.method == "GET" && self.minor == 1 && connection && upgrade == 1 && version == 1;
        key.filter(|_| usual)
    }
}

/// Whether this is sixteen bytes in base64.
fn is_key(value: &[u8]) -> bool {
    value.len() == 24
        && value.ends_with(b"==")
        && value[..22]
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn key_of(head: &str) -> Option<String> {
        let mut room = lines();
        let head = read(head.as_bytes(), &mut room).expect("a head");
        head.key()
            .map(|key| String::from_utf8_lossy(key).into_owned())
    }

    fn upgrade(change: impl Fn(&str) -> String) -> String {
        change(&format!(
            "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        ))
    }

    #[test]
    fn a_head_is_read_whole() {
        let raw = b"GET /a%20b?x=%41 HTTP/1.1\r\nHost: h\r\nX-A:  1 \r\nx-a: 2\r\n\r\n";
        let mut room = lines();
        let head = read(raw, &mut room).unwrap();
        assert_eq!(
            (head.method, head.target, head.minor),
            ("GET", "/a%20b?x=%41", 1)
        );
        let headers: Vec<_> = head
            .headers
            .iter()
            .map(|one| (one.name, one.value))
            .collect();
        assert_eq!(headers, [("Host", &b"h"[..]), ("X-A", b"1"), ("x-a", b"2")]);
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for raw in [
            &b""[..],
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\n\r\nx",
            b"\r\nGET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\nhost: a\n\n",
            b"GET / HTTP/1.1\r\nhost: a\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n",
            b"GET / HTTP/1.1\r\nx\0y: a\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\n",
            b"hello\r\n\r\n",
        ] {
            assert!(read(raw, &mut lines()).is_err(), "{raw:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_LINES + 1));
        let refused = read(many.as_bytes(), &mut lines()).unwrap_err();
        assert_eq!(refused, HeadError::TooManyLines);
        assert_eq!(
            refused.to_string(),
            "the request has more than 256 header lines"
        );
    }

    #[test]
    fn an_upgrade_gives_its_key_in_any_spelling_of_the_names() {
        assert_eq!(key_of(&upgrade(str::to_owned)).as_deref(), Some(KEY));
        assert_eq!(
            key_of(&upgrade(|head| head.replace("Sec-", "sEC-"))).as_deref(),
            Some(KEY)
        );
        assert_eq!(
            key_of(&upgrade(
                |head| head.replace("keep-alive, Upgrade", "UPGRADE,x")
            ))
            .as_deref(),
            Some(KEY)
        );
    }

    #[test]
    fn an_upgrade_with_anything_unusual_gives_none() {
        for (from, to) in [
            ("GET", "POST"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("keep-alive, Upgrade", "keep-alive"),
            ("Upgrade: websocket", "Upgrade: h2c"),
            (
                "Upgrade: websocket",
                "Upgrade: websocket\r\nUpgrade: websocket",
            ),
            ("Version: 13", "Version: 8"),
            ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13"),
            ("Version: 13", "Version: 13\r\nContent-Length: 1"),
            ("Version: 13", "Version: 13\r\nTransfer-Encoding: chunked"),
            ("b25j", "b25"),
            ("dGhl", "d hl"),
            (
                "ZQ==",
                "ZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ),
            ("ZQ==", "ZQA="),
            ("ZQ==", ""),
        ] {
            let head = upgrade(|head| head.replacen(from, to, 1));
            assert_ne!(head, upgrade(str::to_owned), "{from}");
            assert_eq!(key_of(&head), None, "{to}");
        }
    }
}
