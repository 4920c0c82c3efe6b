//! Native handlers: everything a document room will need of them, done by a small one, and what
//! becomes of a topic whose handler panics.

#[allow(dead_code)] // each test binary uses its part of them
#[path = "support/frames.rs"]
mod frames;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use moda_core::dialect::{self, websocket};
use moda_core::gateway::{
    Act, Asking, Body, Decision, Gateway, Handler, Kind, Route, Said, Service, Verdict,
};
use moda_core::hub::{Config, ConnKey, Hub, Policy, Sink, SubKey};
use moda_core::ws::Opcode;

/// What a room asks of the driver.
#[derive(Debug, PartialEq)]
enum Store {
    Load,
    Save(Vec<u8>),
}

/// What the driver tells a room.
enum Stored {
    Loaded(Vec<u8>),
    Saved,
}

const LINGER_MS: u64 = 5_000;

/// A document of bytes: edits are appended, told to all but their author, and acknowledged once saved.
#[derive(Default)]
struct Room {
    document: Option<Vec<u8>>,
    waiting: Vec<SubKey>,
    unsaved: Vec<(SubKey, String)>,
    members: Vec<SubKey>,
    lingers: bool,
    _alive: Alive,
}

/// Counts rooms.
#[derive(Default)]
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler for Room {
    fn join(&mut self, act: &mut Act<'_>, join: &Asking<'_>) -> Decision {
        if join.payload == Body::Json(b"{\"pass\":true}") {
            return Decision::Pass;
        }
        let boom = join.payload == Body::Json(b"{\"boom\":true}");
        assert!(!boom, "the join went wrong");
        assert_eq!(
            join.params,
            [("name".to_owned(), act.topic()[4..].to_owned())]
        );
        if act.topic() == "doc:secret" {
            return Decision::Refuse(b"{\"reason\":\"unauthorized\"}".to_vec());
        }
        if self.document.is_some() {
            return Decision::Accept(b"{\"loaded\":true}".to_vec());
        }
        if self.waiting.is_empty() {
            act.request(Box::new(Store::Load));
        }
        self.waiting.push(join.sub);
        Decision::Later
    }

    fn joined(&mut self, act: &mut Act<'_>, sub: SubKey) {
        self.members.push(sub);
        let document = self.document.as_deref().unwrap_or_default();
        // A client without binary frames has joined all the same.
        let _ = act.push(sub, "state", Body::Binary(document));
    }

    fn message(&mut self, act: &mut Act<'_>, said: &Said<'_>) -> bool {
        match (said.event, said.body) {
            ("edit", Body::Binary(edit)) => {
                self.document.get_or_insert_default().extend(edit);
                act.publish("edit", said.body, None, said.sub);
                if let Some(reference) = said.reference {
                    self.unsaved.push((said.sub, reference.to_owned()));
                }
                act.request(Box::new(Store::Save(edit.to_vec())));
                true
            }
            ("out", _) => {
                act.end(said.sub, false);
                true
            }
            ("boom", _) => panic!("the {} went wrong", "edit"),
            _ => false,
        }
    }

    fn left(&mut self, act: &mut Act<'_>, sub: SubKey) {
        self.waiting.retain(|waiting| *waiting != sub);
        let Some(at) = self.members.iter().position(|member| *member == sub) else {
            return;
        };
        self.members.remove(at);
        act.publish("left", Body::Json(b"{}"), None, sub);
        if self.members.is_empty() {
            self.lingers = true;
            act.wake_at(act.now_ms() + LINGER_MS);
        }
    }

    fn told(&mut self, act: &mut Act<'_>, what: &mut dyn Any) {
        match what.downcast_mut::<Stored>() {
            Some(Stored::Loaded(document)) => {
                self.document = Some(std::mem::take(document));
                for sub in std::mem::take(&mut self.waiting) {
                    act.accept(sub, Body::Json(b"{\"loaded\":true}")).unwrap();
                }
            }
            Some(Stored::Saved) => {
                for (sub, reference) in std::mem::take(&mut self.unsaved) {
                    let _ = act.reply(sub, &reference, "ok", Body::Json(b"{}"));
                }
            }
            None => panic!("not for a room"),
        }
    }

    fn tick(&mut self, _: &mut Act<'_>) {
        self.lingers = false;
    }

    fn may_unload(&self) -> bool {
        !self.lingers && self.unsaved.is_empty()
    }
}

/// Rooms, and how many there are.
struct Rooms(Arc<AtomicUsize>);

impl Service for Rooms {
    fn name(&self) -> &'static str {
        "rooms"
    }
    fn hears(&self) -> bool {
        true
    }
    fn born(&self, topic: &str) -> Box<dyn Handler> {
        assert_ne!(topic, "doc:stillborn");
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::new(Room {
            _alive: Alive(self.0.clone()),
            ..Room::default()
        })
    }
}

struct House {
    gateway: Gateway<u32>,
    mount: u16,
    rooms: Arc<AtomicUsize>,
    received: BTreeMap<ConnKey, Vec<u8>>,
}

impl House {
    /// Rooms at `doc:{name}`, a stream at `news`.
    fn new() -> Self {
        let mut gateway = dialect::gateway(Hub::new(Config::default(), 1));
        let mount = gateway.add_mount(10, 1 << 20, 0);
        let rooms = Arc::new(AtomicUsize::new(0));
        for pattern in ["doc:{name}", "news"] {
            let route = gateway.add_route(Route {
                kind: Kind::Stream,
                policy: Policy::default(),
                intercepts: None,
            });
            gateway.expose(mount, pattern, route).unwrap();
            if pattern != "news" {
                gateway.serve(route, Arc::new(Rooms(rooms.clone())));
            }
        }
        Self {
            gateway,
            mount,
            rooms,
            received: BTreeMap::new(),
        }
    }

    fn connect(&mut self) -> ConnKey {
        let codec = self.gateway.codec("phoenix/2").unwrap();
        self.gateway.open(codec, self.mount, Sink::Transport, None)
    }

    fn alive(&self) -> usize {
        self.rooms.load(Ordering::Relaxed)
    }

    /// What a message leaves for the driver to decide.
    fn says(&mut self, conn: ConnKey, message: &str) -> Verdict<'static> {
        let op = Opcode::Text as u8;
        let message = message.as_bytes();
        let verdict = websocket::receive(&mut self.gateway, conn, op, true, false, message);
        assert!(matches!(verdict, Verdict::Done), "{verdict:?}");
        self.freed()
    }

    /// What joins and decisions leave for it.
    fn freed(&mut self) -> Verdict<'static> {
        let freed = self.gateway.next_join();
        let freed = freed.or_else(|| self.gateway.next_deferred());
        freed.unwrap_or(Verdict::Done)
    }

    fn asks(&mut self, conn: ConnKey, message: &str) {
        assert!(matches!(self.says(conn, message), Verdict::Done));
    }

    fn join(&mut self, conn: ConnKey, topic: &str) {
        self.asks(conn, &format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
    }

    /// A binary edit of the document `doc:a` with the ref 5.
    fn edit(&mut self, conn: ConnKey, edit: &str) {
        let frame = format!("\0\x01\x01\x05\x0415doc:aedit{edit}");
        let op = Opcode::Binary as u8;
        let verdict =
            websocket::receive(&mut self.gateway, conn, op, true, false, frame.as_bytes());
        assert!(matches!(verdict, Verdict::Done));
    }

    fn tell(&mut self, topic: &str, mut what: Stored) -> bool {
        let told = self.gateway.tell_topic(topic, &mut what);
        assert!(matches!(self.freed(), Verdict::Done));
        told
    }

    fn requests(&mut self) -> Vec<(String, Store)> {
        let mut all = Vec::new();
        while let Some(request) = self.gateway.next_request() {
            let what = request.what.downcast::<Store>().unwrap();
            all.push((request.topic.to_string(), *what));
        }
        all
    }

    /// The frames a connection has been sent since the last time; binary ones as text, too.
    fn hears(&mut self, conn: ConnKey) -> Vec<String> {
        while self.gateway.needs_flush() {
            self.gateway.flush();
            while let Some((to, bytes)) = self.gateway.hub.next_write() {
                self.received.entry(to).or_default().extend(bytes);
                self.gateway.resume(to);
            }
        }
        let frames = frames::take(self.received.entry(conn).or_default());
        let text = frames.into_iter().map(|frame| match frame {
            frames::Frame::Binary(bytes) => String::from_utf8(bytes).unwrap(),
            text => frames::into_text(text),
        });
        text.collect()
    }

    /// A connection that has joined `doc:a`, which is loaded.
    fn member(&mut self) -> ConnKey {
        let conn = self.connect();
        self.join(conn, "doc:a");
        if !self.requests().is_empty() {
            self.tell("doc:a", Stored::Loaded(b"text".to_vec()));
        }
        self.hears(conn);
        conn
    }
}

const ACCEPTED: &str =
    r#"["1","1","doc:a","phx_reply",{"status":"ok","response":{"loaded":true}}]"#;

#[test]
fn joins_wait_for_one_load_and_what_was_sent_meanwhile_is_handled_behind_it() {
    let mut house = House::new();
    let (ann, bob) = (house.connect(), house.connect());
    house.join(ann, "doc:a");
    house.edit(ann, "!");
    house.join(bob, "doc:a");
    assert!(house.hears(ann).is_empty() && house.hears(bob).is_empty());
    assert_eq!(house.requests(), [("doc:a".into(), Store::Load)]);
    assert!(house.tell("doc:a", Stored::Loaded(b"text".to_vec())));
    assert_eq!(
        house.requests(),
        [("doc:a".into(), Store::Save(b"!".to_vec()))]
    );
    assert_eq!(
        house.hears(ann),
        [ACCEPTED, "\0\x01\x05\x051doc:astatetext"]
    );
    let heard = house.hears(bob);
    assert_eq!(heard[0], ACCEPTED);
    assert_eq!(
        heard[1..],
        ["\0\x01\x05\x051doc:astatetext", "\x02\x05\x04doc:aedit!"]
    );
}

#[test]
fn a_later_join_is_accepted_at_once_and_one_may_be_refused() {
    let mut house = House::new();
    house.member();
    let late = house.connect();
    house.join(late, "doc:a");
    assert_eq!(house.hears(late)[0], ACCEPTED);
    house.join(late, "doc:secret");
    let refused = r#"{"status":"error","response":{"reason":"unauthorized"}}"#;
    let refused = format!(r#"["1","1","doc:secret","phx_reply",{refused}]"#);
    assert_eq!(house.hears(late), [refused]);
    assert_eq!(house.alive(), 1);
}

#[test]
fn an_edit_goes_to_all_others_and_is_acknowledged_once_it_is_saved() {
    let mut house = House::new();
    let (ann, bob) = (house.member(), house.member());
    house.edit(ann, "!");
    assert_eq!(house.hears(bob), ["\x02\x05\x04doc:aedit!"]);
    assert!(house.hears(ann).is_empty());
    house.tell("doc:a", Stored::Saved);
    let saved = r#"["1","5","doc:a","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(house.hears(ann), [saved]);
}

#[test]
fn what_no_handler_takes_is_an_unknown_event_and_a_handler_may_end_a_subscription() {
    let mut house = House::new();
    let (ann, bob) = (house.member(), house.member());
    house.asks(ann, r#"["1","6","doc:a","dance",{}]"#);
    house.asks(ann, r#"["1",null,"doc:a","dance",{}]"#);
    let unknown = r#"{"status":"error","response":{"reason":"unknown event"}}"#;
    assert_eq!(
        house.hears(ann),
        [format!(r#"["1","6","doc:a","phx_reply",{unknown}]"#)]
    );
    house.asks(ann, r#"["1","7","doc:a","out",{}]"#);
    assert_eq!(house.hears(ann), [r#"["1","1","doc:a","phx_close",{}]"#]);
    assert_eq!(house.hears(bob), [r#"[null,null,"doc:a","left",{}]"#]);
}

#[test]
fn a_join_that_a_handler_passes_on_is_the_drivers() {
    let mut house = House::new();
    let conn = house.connect();
    let verdict = house.says(conn, r#"["1","1","doc:a","phx_join",{"pass":true}]"#);
    let Verdict::Join { sub, .. } = verdict else {
        panic!("{verdict:?}")
    };
    house.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
    assert_eq!(house.hears(conn)[1], "\0\x01\x05\x051doc:astate");
}

#[test]
fn a_topic_nobody_is_on_is_unloaded_when_its_handler_is_done_with_it() {
    let mut house = House::new();
    let (ann, bob) = (house.member(), house.member());
    house.edit(ann, "!");
    house.gateway.lost(ann);
    house.asks(bob, r#"["1","8","doc:a","phx_leave",{}]"#);
    assert_eq!(house.alive(), 1);
    house.gateway.hub.set_now(LINGER_MS - 1);
    house.gateway.wake();
    house.tell("doc:a", Stored::Saved);
    assert_eq!(house.alive(), 1);
    house.gateway.hub.set_now(LINGER_MS);
    assert_eq!(house.gateway.next_wake(), Some(LINGER_MS));
    house.gateway.wake();
    assert_eq!(house.alive(), 0);
    assert!(!house.tell("doc:a", Stored::Saved));
    assert_eq!(house.gateway.next_wake(), None);
}

#[test]
fn a_client_that_goes_while_its_join_waits_leaves_nothing() {
    let mut house = House::new();
    let (ann, bob) = (house.connect(), house.connect());
    house.join(ann, "doc:a");
    house.join(bob, "doc:b");
    house.gateway.lost(ann);
    house.gateway.close(bob, 1001, "bye", "closed", false);
    assert_eq!(house.alive(), 0);
    assert!(!house.tell("doc:a", Stored::Loaded(Vec::new())));
}

#[test]
fn a_panic_ends_the_subscriptions_of_its_topic_with_an_error_and_nothing_else() {
    let mut house = House::new();
    let (ann, bob, eve) = (house.member(), house.member(), house.connect());
    house.join(eve, "doc:b");
    house.tell("doc:b", Stored::Loaded(Vec::new()));
    let news = r#"["2","2","news","phx_join",{}]"#;
    assert!(matches!(house.says(eve, news), Verdict::Join { .. }));
    house.hears(eve);
    house.asks(ann, r#"["1","7","doc:a","boom",{}]"#);
    let ended = r#"["1","1","doc:a","phx_error",{"reason":"channel_crash"}]"#;
    assert_eq!(house.hears(ann), [ended]);
    assert_eq!(house.hears(bob), [ended]);
    assert!(house.hears(eve).is_empty());
    let crash = house.gateway.next_crash().unwrap();
    assert_eq!((&*crash.topic, crash.service), ("doc:a", "rooms"));
    assert_eq!(crash.message, "the edit went wrong");
    assert_eq!(house.gateway.counts.handler_crashes, 1);
    assert_eq!(
        (house.alive(), house.gateway.hub.subscribers("doc:b")),
        (1, 1)
    );
    house.requests();
    house.member();
    assert_eq!(house.alive(), 2);
}

#[test]
fn a_panic_in_a_join_answers_it_and_those_that_wait_beside_it() {
    let mut house = House::new();
    let (ann, bob) = (house.connect(), house.connect());
    house.join(ann, "doc:a");
    house.asks(bob, r#"["2","2","doc:a","phx_join",{"boom":true}]"#);
    let crashed = r#"{"status":"error","response":{"reason":"join crashed"}}"#;
    assert_eq!(
        house.hears(ann),
        [format!(r#"["1","1","doc:a","phx_reply",{crashed}]"#)]
    );
    assert_eq!(
        house.hears(bob),
        [format!(r#"["2","2","doc:a","phx_reply",{crashed}]"#)]
    );
    assert_eq!((house.alive(), house.gateway.counts.channels), (0, 0));
}

#[test]
fn a_panic_before_there_is_a_handler_answers_the_join() {
    let mut house = House::new();
    let conn = house.connect();
    house.join(conn, "doc:stillborn");
    assert!(house.hears(conn)[0].contains("join crashed"));
    assert_eq!(house.gateway.counts.channels, 0);
    assert_eq!(
        house.gateway.next_crash().unwrap().topic,
        Arc::from("doc:stillborn")
    );
}

#[test]
fn a_panic_over_what_the_driver_says_or_when_time_has_come_is_no_other() {
    let mut house = House::new();
    let conn = house.member();
    assert!(house.gateway.tell_topic("doc:a", &mut "nonsense"));
    assert!(house.hears(conn)[0].contains("phx_error"));
    assert_eq!(
        house.gateway.next_crash().unwrap().message,
        "not for a room"
    );
}
