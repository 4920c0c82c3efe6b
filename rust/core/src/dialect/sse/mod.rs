//! Server-sent events: an answer to one GET that does not end, for `EventSource` and for `curl`.
//!
//! A connection subscribes to the topics of its URL, each decided as every other join, and then only
//! listens. What it hears are the objects of the JSON dialect: messages of topics as blocks without a
//! name (`onmessage`), everything else (`subscribed`, `unsubscribed`, `error`, `close`) under one. The
//! `id` of a block is where the client stands on all topics once it has read it; a browser comes back
//! with the last one by itself, and is given what it missed (`id`).
//!
//! The answer begins when the first subscription does. Until then errors wait: a stream of which
//! nothing came is answered as any HTTP request, with a status and a JSON body.
//!
//! The driver says what a client asked for in the one message of a connection (`stream::Asked`).
//!
//! Two variants, because the id of one topic is the same for all its readers, and that of several is
//! each reader's own: [`crate::hub::Hub::stamp`] writes it.

mod stream;
mod write;

pub mod id;

use std::borrow::Cow;

use crate::dialect::json::{object, BUSY, NO_SUCH_TOPIC, TOO_MANY};
use crate::gateway::{
    Began, Body, Content, Dialect, End, Event, Gateway, Join, Notes, Recovery, Refusal, Unsent,
    Verdict,
};
use crate::hub::{ConnKey, SubKey};

use stream::{Asked, Outcome, Place, Stream};

/// Streams of one topic.
pub const ONE: u8 = 0;
/// Streams of several.
pub const MANY: u8 = 1;
/// Their names.
pub const VARIANTS: &[&str] = &["sse", "sse/many"];

/// What a join that failed is answered with, whoever says so.
const CRASHED: &[u8] = br#"{"reason":"join crashed"}"#;

/// The dialect; see the module's text.
#[derive(Debug, Clone, Copy)]
pub struct Sse;

impl<H> Dialect<H> for Sse {
    fn variants(&self) -> &'static [&'static str] {
        VARIANTS
    }

    fn encode(&self, variant: u8, event: &Event<'_>, out: &mut Vec<u8>) -> bool {
        write::event(out, event, variant == ONE);
        true
    }

    fn message<'f>(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        _text: bool,
        message: &'f [u8],
    ) -> Verdict<'f> {
        if gateway.link(conn).is_some_and(|link| link.notes.is_none()) {
            let topics = open(gateway, conn, message);
            (0..topics).for_each(|at| subscribe(gateway, conn, at));
        }
        Verdict::Done
    }

    fn accept(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        response: Body<'_>,
        began: Option<Began>,
    ) -> Result<(), Unsent> {
        let (conn, topic) = gateway.addressee(sub)?;
        let place: Option<&mut Place> = gateway
            .hub
            .sub_mut(sub)
            .and_then(|sub| sub.seat.notes.downcast_mut());
        let place = place.ok_or(Unsent::Ended)?;
        place.decided = true;
        let at = place.at;
        let alone = gateway.variant(conn) == Some(ONE);
        let stream = Stream::of(gateway, conn).ok_or(Unsent::Ended)?;
        let asked = stream.asked.as_mut().ok_or(Unsent::Ended)?;
        asked.undecided -= 1;
        let since = asked.since.get(at).copied().flatten();
        let bad_id = asked.bad_id;
        let began = began.map(|began| match began.recovery {
            Recovery::NotAsked if bad_id => Began {
                recovery: Recovery::Lost("invalid_id"),
                ..began
            },
            _ => began,
        });
        // Whoever is given what it missed stands where it was: the id is never ahead of the data.
        let stands = began.map(|began| match (began.recovery, since) {
            (Recovery::Complete(_), Some(since)) => since,
            _ => began.position,
        });
        gateway.hub.stand(conn, sub, stands);
        begin(gateway, conn);
        gateway.hub.ordered_stamped(conn, |out| {
            if let Some(position) = stands.filter(|_| alone) {
                out.extend_from_slice(b"id: ");
                id::write_one(out, position);
                out.push(b'\n');
            }
            write::named(out, "subscribed", |out| {
                object::subscribed(out, None, &topic, response, began);
            });
        });
        forget_asked(gateway, conn);
        Ok(())
    }

    fn refuse(&self, gateway: &mut Gateway<H>, sub: SubKey, response: &[u8]) {
        let Ok((conn, topic)) = gateway.addressee(sub) else {
            return;
        };
        gateway.release(sub);
        let outcome = if response == CRASHED {
            Outcome::Crashed
        } else {
            Outcome::Refused
        };
        let mut error = Vec::new();
        object::refused(&mut error, None, &topic, response);
        missed_out(gateway, conn, outcome, error);
    }

    fn reply(
        &self,
        _: &mut Gateway<H>,
        _: SubKey,
        _: &str,
        _: &str,
        _: Body<'_>,
    ) -> Result<(), Unsent> {
        // It has sent nothing that could be answered.
        Ok(())
    }

    fn push(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        event: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        let (conn, topic) = gateway.addressee(sub)?;
        gateway.hub.ordered(conn, |out| {
            write::push(out, &topic, event, body);
        });
        Ok(())
    }

    fn end(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        topic: &str,
        notes: Notes,
        how: End<'_>,
    ) {
        let (outcome, reason) = match how {
            End::Left { .. } => (Outcome::Closed, "left"),
            End::Closed => (Outcome::Closed, "closed"),
            End::Crashed => (Outcome::Crashed, "crashed"),
        };
        if Place::from_notes(notes).is_some_and(|place| !place.decided) {
            let mut error = Vec::new();
            let response = format!("{{\"reason\":\"{reason}\"}}");
            object::refused(&mut error, None, topic, response.as_bytes());
            return missed_out(gateway, conn, outcome, error);
        }
        let alive = gateway.hub.conn(conn).map_or(0, |conn| conn.subs().len());
        let Some(stream) = Stream::of(gateway, conn) else {
            return;
        };
        stream.crashed |= how == End::Crashed;
        let over = alive == 0 && stream.asked.is_none();
        let for_good = over && !stream.crashed;
        gateway.hub.ordered(conn, |out| {
            if for_good {
                out.extend_from_slice(format!("id: {}\n", id::CLOSED).as_bytes());
            }
            write::named(out, "unsubscribed", |out| {
                object::unsubscribed(out, None, topic, reason);
            });
        });
        if over {
            hang_up(gateway, conn);
        }
    }

    fn close(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        code: u16,
        reason: &str,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(stream) = Stream::of(gateway, conn).filter(|_| code != DONE) else {
            return false;
        };
        if stream.begun {
            write::named(out, "close", |out| {
                let head = format!("{{\"type\":\"close\",\"code\":{code},\"reason\":");
                out.extend_from_slice(head.as_bytes());
                crate::json::write_string(out, reason);
                out.push(b'}');
            });
        } else {
            let lines = stream.asked.as_ref().map_or("", |asked| &asked.lines);
            let lines = format!("{lines}retry-after: 5\r\n");
            write::refusal(
                out,
                503,
                &lines,
                br#"{"type":"error","code":"unavailable"}"#,
            );
        }
        false
    }

    fn sign(&self, gateway: &mut Gateway<H>, conn: ConnKey) -> Option<&'static [u8]> {
        let begun = Stream::of(gateway, conn)?.begun;
        begun.then_some(write::COMMENT)
    }
}

/// What a stream whose topics have all ended is closed with; it needs no word of its own.
const DONE: u16 = 1000;

/// Takes the mount's request; gives the number of topics. One that is none closes the connection: it
/// is a fault of ours.
fn open<H>(gateway: &mut Gateway<H>, conn: ConnKey, request: &[u8]) -> usize {
    let Some(asked) = Asked::read(request) else {
        gateway.close(conn, 1011, "", "closed", true);
        return 0;
    };
    let topics = asked.topics.len();
    if gateway.variant(conn) == Some(MANY) {
        let check = id::check(asked.topics.iter().map(String::as_str));
        let line = move |positions: &[_], out: &mut Vec<u8>| {
            out.extend_from_slice(b"id: ");
            id::write_many(out, check, positions);
            out.push(b'\n');
        };
        let positions = asked.since.clone();
        gateway.hub.stamp(conn, positions, Box::new(line));
    }
    let stream = Stream {
        asked: Some(Box::new(asked)),
        ..Stream::default()
    };
    if let Some(link) = gateway.link(conn) {
        link.notes = Some(Box::new(stream));
    }
    topics
}

/// Asks for one of a stream's topics.
fn subscribe<H>(gateway: &mut Gateway<H>, conn: ConnKey, at: usize) {
    let asked = Stream::of(gateway, conn).and_then(|stream| stream.asked.as_ref());
    let Some((asked, topic)) = asked.and_then(|asked| Some((asked, asked.topics.get(at)?.clone())))
    else {
        return;
    };
    let (since, params) = (asked.since[at], asked.params.clone());
    let why = match gateway.target(conn, &topic) {
        Ok(target) => {
            let join = Join {
                payload: Content {
                    binary: false,
                    bytes: Cow::Owned(params.into_bytes()),
                },
                since: since.filter(|_| gateway.keeps_log(target.route)),
                notes: Box::new(Place { at, decided: false }),
            };
            match gateway.subscribe(conn, &topic, target, join) {
                Ok(sub) => return gateway.hub.stamp_with(conn, at, sub),
                Err(_) => (Outcome::Busy, BUSY),
            }
        }
        Err(Refusal::Unmatched) => (Outcome::Unmatched, NO_SUCH_TOPIC),
        Err(Refusal::TooMany) => (Outcome::Refused, TOO_MANY),
    };
    let (outcome, why) = why;
    if outcome == Outcome::Unmatched {
        gateway.counts.unmatched += 1;
    } else {
        gateway.counts.joins_refused += 1;
    }
    let mut error = Vec::new();
    object::error(&mut error, None, why, Some(topic.as_bytes()));
    missed_out(gateway, conn, outcome, error);
}

/// Begins the answer, if it has not begun, with the errors that waited for it.
fn begin<H>(gateway: &mut Gateway<H>, conn: ConnKey) {
    let Some(stream) = Stream::of(gateway, conn) else {
        return;
    };
    if std::mem::replace(&mut stream.begun, true) {
        return;
    }
    let asked = stream.asked.as_mut();
    let (lines, errors) = asked.map_or_else(Default::default, |asked| {
        (
            std::mem::take(&mut asked.lines),
            std::mem::take(&mut asked.errors),
        )
    });
    gateway.hub.direct(conn, |out| {
        write::begin(out, &lines);
        for (_, error) in &errors {
            write::named(out, "error", |out| out.extend_from_slice(error));
        }
    });
}

/// One topic of a stream will not come. `error` says why, as a JSON object.
fn missed_out<H>(gateway: &mut Gateway<H>, conn: ConnKey, outcome: Outcome, error: Vec<u8>) {
    let alive = gateway.hub.conn(conn).map_or(0, |conn| conn.subs().len());
    let Some(stream) = Stream::of(gateway, conn) else {
        return;
    };
    let begun = stream.begun;
    stream.crashed |= outcome == Outcome::Crashed;
    let Some(asked) = stream.asked.as_mut() else {
        return;
    };
    asked.undecided -= 1;
    let over = asked.undecided == 0 && alive == 0;
    if begun {
        gateway.hub.ordered(conn, |out| {
            write::named(out, "error", |out| out.extend_from_slice(&error));
        });
    } else {
        asked.errors.push((outcome, error));
        if over {
            refuse_all(gateway, conn);
        }
    }
    forget_asked(gateway, conn);
    if over {
        hang_up(gateway, conn);
    }
}

/// Answers a stream of which nothing came: with the status of its topics, or 403 where they differ.
fn refuse_all<H>(gateway: &mut Gateway<H>, conn: ConnKey) {
    let Some(stream) = Stream::of(gateway, conn) else {
        return;
    };
    let Some(asked) = stream.asked.as_mut() else {
        return;
    };
    let errors = std::mem::take(&mut asked.errors);
    let lines = std::mem::take(&mut asked.lines);
    let first = errors
        .first()
        .map_or(Outcome::Refused, |(outcome, _)| *outcome);
    let same = errors.iter().all(|(outcome, _)| *outcome == first);
    let status = if same { first } else { Outcome::Refused }.status();
    let body = if let [(_, error)] = &errors[..] {
        error.clone()
    } else {
        let mut body =
            br#"{"type":"error","code":"refused","message":"none of the topics could be subscribed","errors":["#
                .to_vec();
        let errors: Vec<_> = errors.iter().map(|(_, error)| &error[..]).collect();
        body.extend_from_slice(&errors.join(&b","[..]));
        body.extend_from_slice(b"]}");
        body
    };
    gateway.hub.direct(conn, |out| {
        write::refusal(out, status, &lines, &body);
    });
}

/// Once everything is decided nobody needs to know what was asked.
fn forget_asked<H>(gateway: &mut Gateway<H>, conn: ConnKey) {
    if let Some(stream) = Stream::of(gateway, conn) {
        if stream
            .asked
            .as_ref()
            .is_some_and(|asked| asked.undecided == 0)
        {
            stream.asked = None;
        }
    }
}

/// The stream is over.
fn hang_up<H>(gateway: &mut Gateway<H>, conn: ConnKey) {
    gateway.close(conn, DONE, "", "closed", true);
}
