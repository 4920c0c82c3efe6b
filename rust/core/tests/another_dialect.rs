//! A protocol of one's own: lines of text over any stream, in one file, with nothing of the hub or
//! the gateway changed. `+topic` subscribes, `-topic` leaves, and what is published comes as
//! `topic event payload`.

use std::sync::Arc;

use moda_core::gateway::{
    Began, Body, Content, Dialect, End, Event, Gateway, Join, Kind, Notes, Route, Unsent, Verdict,
};
use moda_core::hub::{Config, ConnKey, Hub, Policy, Sink, SubKey};

struct Lines;

fn line<H>(gateway: &mut Gateway<H>, conn: ConnKey, text: &str) {
    gateway.hub.ordered(conn, |out| {
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    });
}

impl<H> Dialect<H> for Lines {
    fn variants(&self) -> &'static [&'static str] {
        &["lines"]
    }
    fn encode(&self, _: u8, event: &Event<'_>, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(format!("{} {} ", event.topic, event.event).as_bytes());
        out.extend_from_slice(event.body.bytes());
        out.push(b'\n');
        !event.body.is_binary()
    }
    fn message<'f>(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        _text: bool,
        message: &'f [u8],
    ) -> Verdict<'f> {
        let text = std::str::from_utf8(message).unwrap_or_default();
        let found = gateway.hub.find(conn, &text[1..]);
        match (text.as_bytes()[0], found) {
            (b'+', None) => {
                let topic = &text[1..];
                let join = Join {
                    payload: Content {
                        binary: false,
                        bytes: (&b"{}"[..]).into(),
                    },
                    since: None,
                    notes: Box::new(()),
                };
                let target = gateway.target(conn, topic);
                if target.is_ok_and(|target| gateway.subscribe(conn, topic, target, join).is_ok()) {
                    return Verdict::Done;
                }
                line(gateway, conn, "! no such topic");
                Verdict::Done
            }
            (b'-', Some(sub)) => {
                gateway.finish_leave(sub, "");
                Verdict::Done
            }
            _ => Verdict::Done,
        }
    }
    fn accept(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        _: Body<'_>,
        _: Option<Began>,
    ) -> Result<(), Unsent> {
        let (conn, topic) = gateway.addressee(sub)?;
        line(gateway, conn, &format!("+{topic}"));
        Ok(())
    }
    fn refuse(&self, gateway: &mut Gateway<H>, sub: SubKey, _: &[u8]) {
        gateway.release(sub);
    }
    fn reply(
        &self,
        _: &mut Gateway<H>,
        _: SubKey,
        _: &str,
        _: &str,
        _: Body<'_>,
    ) -> Result<(), Unsent> {
        Err(Unsent::Unencodable)
    }
    fn push(&self, _: &mut Gateway<H>, _: SubKey, _: &str, _: Body<'_>) -> Result<(), Unsent> {
        Err(Unsent::Unencodable)
    }
    fn end(&self, gateway: &mut Gateway<H>, conn: ConnKey, topic: &str, _: Notes, _: End<'_>) {
        line(gateway, conn, &format!("-{topic}"));
    }
    fn close(&self, _: &mut Gateway<H>, _: ConnKey, _: u16, _: &str, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(b"bye\n");
        false
    }
}

#[test]
fn a_protocol_of_one_folder_is_served_beside_the_others() {
    let mut gateway: Gateway<()> = moda_core::dialect::gateway(Hub::new(Config::default(), 1));
    gateway.add_dialect(Arc::new(Lines));
    let mount = gateway.add_mount(10, 1000, 0);
    let route = gateway.add_route(Route {
        kind: Kind::Stream,
        policy: Policy::default(),
        intercepts: None,
    });
    gateway.expose(mount, "news", route).unwrap();
    let mut open = |name: &str| {
        let codec = gateway.codec(name).unwrap();
        gateway.open(codec, mount, Sink::Transport, None)
    };
    let (conn, other) = (open("lines"), open("json"));
    let (lines, json) = (Lines, br#"{"type":"subscribe","topic":"news"}"#);
    lines.message(&mut gateway, conn, true, b"+news");
    moda_core::dialect::websocket::receive(&mut gateway, other, 1, true, false, json);
    while let Some(join) = gateway.next_join() {
        let Verdict::Join { sub, .. } = join else {
            panic!("{join:?}")
        };
        gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
    }
    assert!(matches!(
        lines.message(&mut gateway, conn, true, b"+olds"),
        Verdict::Done
    ));
    gateway.publish("news", "said", Body::Json(b"[1]"), None, SubKey::default());
    assert!(matches!(
        lines.message(&mut gateway, conn, true, b"-news"),
        Verdict::Done
    ));
    gateway.close(conn, 1001, "bye", "closed", false);
    while gateway.flush() {}
    let mut heard = String::new();
    while let Some((to, bytes)) = gateway.hub.next_write() {
        if to == conn {
            heard.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
    assert_eq!(heard, "+news\n! no such topic\nnews said [1]\n-news\nbye\n");
}
