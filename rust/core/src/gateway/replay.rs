//! Coming back: what a client missed, at its own reading speed, and then the live order.
//!
//! A client that says where it has been is answered at once (`Began`), but its place on the topic is
//! not served yet: it is given the kept messages a piece at a time, whenever it has taken the last
//! one, and enters the live order at the very message that follows them. What is published
//! meanwhile is kept like everything else, and so comes in its turn: nothing is missed and nothing
//! is given twice. A client that does not read waits without costing anything; when the log has
//! forgotten what it still needs, it is a slow reader and is closed as one.
//!
//! What a durable topic does not keep here is asked of the driver ([`Gateway::next_want`]), a piece
//! at a time too, and comes back through [`Gateway::fetched`].
//!
//! Thousands come back together after a cut, and most of them from the same place: a piece is
//! encoded once for all who need it ([`Replays::pieces`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::hub::{Batch, Codec, ConnKey, Encode, Frame, SubKey};
use crate::log::{Position, Record};

use super::publish::Broadcast;
use super::{Began, Body, Event, Gateway, Recovery};

/// Bytes of one piece, or one message more.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces kept for the next who need them: clients come back in waves, to one topic or a few.
const PIECES: usize = 16;

/// Where a subscription stands before it is in the live order.
#[derive(Debug)]
pub(super) enum Resume {
    /// The client says it has been here.
    Asked(Position),
    /// The offset it is to be given next, and whether it waits for its socket to take more.
    At { next: u64, waiting: bool },
}

/// Encoded messages of a topic, from one offset on.
#[derive(Debug)]
struct EncodedPiece {
    topic: Arc<str>,
    epoch: u64,
    codec: Codec,
    first: u64,
    next: u64,
    encoded: Encoded,
}

/// A piece of a durable topic's log that a subscription needs: what follows offset `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub sub: SubKey,
    pub topic: Arc<str>,
    pub after: u64,
}

/// Frames, and where each of them lies.
type Encoded = (Arc<Batch>, Arc<[Frame]>);

/// Who is on the way to the live order.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// Subscriptions that could be given more.
    ready: VecDeque<SubKey>,
    /// Those who need what only the driver's store has.
    wants: VecDeque<Want>,
    pieces: VecDeque<EncodedPiece>,
}

impl<H> Gateway<H> {
    /// What to tell a client whose join is accepted, on a topic that keeps a log, and the offset it
    /// is to be given first when it missed anything.
    pub(super) fn begin(&mut self, sub: SubKey) -> (Option<Began>, Option<u64>) {
        let Some(topic) = self.hub.topic_name(sub) else {
            return (None, None);
        };
        let held = self.hub.sub_mut(sub).map(|sub| &mut sub.seat);
        let asked = held.and_then(|held| held.resume.take());
        let asked = match asked.as_deref() {
            Some(Resume::Asked(since)) => Some(*since),
            _ => None,
        };
        let intercepts = self.hub.sub(sub).and_then(|sub| sub.intercepts.clone());
        let Some(history) = self.hub.history(&topic) else {
            return (None, None);
        };
        let position = history.position();
        let recovery = match asked.map(|since| (since, history.missed(since))) {
            None => Recovery::NotAsked,
            Some((_, Err(gap))) => Recovery::Lost(gap.as_str()),
            Some((since, Ok(missed))) => {
                // A channel that looks at an event before its client does would not be asked.
                let hidden = intercepts.is_some_and(|events| {
                    let mut kept = history.after(since.offset);
                    kept.any(|kept| events.contains(&*kept.event))
                });
                if hidden {
                    Recovery::Lost("intercepted")
                } else {
                    Recovery::Complete(missed)
                }
            }
        };
        let next = match (recovery, asked) {
            (Recovery::Complete(1..), Some(since)) => Some(since.offset + 1),
            _ => None,
        };
        (Some(Began { position, recovery }), next)
    }

    /// Brings an accepted subscription to the live order by way of the log.
    pub(super) fn replay_from(&mut self, sub: SubKey, next: u64) {
        if let Some(sub) = self.hub.sub_mut(sub) {
            let waiting = false;
            sub.seat.resume = Some(Box::new(Resume::At { next, waiting }));
        }
        self.replays.ready.push_back(sub);
    }

    /// True when [`Gateway::flush`] has something to do.
    pub fn needs_flush(&self) -> bool {
        self.hub.needs_flush() || !self.replays.ready.is_empty()
    }

    /// Sends what is queued and what is missed, for about one slice; true when more is left: call it
    /// again after the loop has had a turn.
    pub fn flush(&mut self) -> bool {
        self.wake();
        self.hub.flush();
        let deadline = Instant::now() + self.hub.config.slice;
        while let Some(sub) = self.replays.ready.pop_front() {
            self.replay(sub);
            if Instant::now() >= deadline {
                break;
            }
        }
        self.needs_flush()
    }

    /// Lets go of what was encoded for a wave of clients that has passed.
    pub(super) fn forget_pieces(&mut self) {
        self.replays.pieces.clear();
    }

    /// The transport's buffer is empty again, see [`crate::hub::Hub::resume`].
    pub fn resume(&mut self, conn: ConnKey) {
        self.hub.resume(conn);
        let subs = self.hub.conn(conn).map(crate::hub::Conn::subs);
        for sub in subs.unwrap_or_default().to_vec() {
            let held = self.hub.sub_mut(sub).map(|sub| &mut sub.seat);
            let resume = held.and_then(|held| held.resume.as_deref_mut());
            if let Some(Resume::At { waiting, .. }) = resume {
                if std::mem::take(waiting) {
                    self.replays.ready.push_back(sub);
                }
            }
        }
    }

    /// Gives one subscriber one piece, or its place in the live order.
    fn replay(&mut self, key: SubKey) {
        let Some(sub) = self.hub.sub(key) else {
            return;
        };
        let conn = sub.conn;
        let Some(Resume::At { next, .. }) = sub.seat.resume.as_deref() else {
            return;
        };
        let next = *next;
        if !self.hub.has_room(conn) {
            return self.replay_at(key, next, true);
        }
        let Some(topic) = self.hub.topic_name(key) else {
            return;
        };
        let Some(codec) = self.hub.conn(conn).map(|conn| conn.codec) else {
            return;
        };
        let Some(history) = self.hub.history(&topic) else {
            return self.hub.overrun(conn);
        };
        let here = history.position();
        if next > here.offset {
            if let Some(sub) = self.hub.sub_mut(key) {
                sub.seat.resume = None;
            }
            self.hub.activate(key);
            return self.activated(key);
        }
        let since = Position {
            offset: next - 1,
            ..here
        };
        if history.missed(since).is_err() {
            return self.hub.overrun(conn);
        }
        if !history.holds(next) {
            // Not waiting for its socket: the answer brings it back.
            self.replays.wants.push_back(Want {
                sub: key,
                topic,
                after: next - 1,
            });
            return;
        }
        let ((batch, frames), next) = self.piece(&topic, here.epoch, codec, next);
        self.hub.give(conn, key, &batch, &frames);
        self.replay_at(key, next, false);
    }

    /// A piece that the driver is to fetch from its store, and to answer with [`Gateway::fetched`] or
    /// [`Gateway::unfetched`].
    pub fn next_want(&mut self) -> Option<Want> {
        self.replays.wants.pop_front()
    }

    /// Messages of a durable topic, the first of them at `first`. One that begins elsewhere than
    /// where the subscription stands, or none at all, means that the store has forgotten what it
    /// needs: its reader came too late.
    pub fn fetched<'a>(
        &mut self,
        key: SubKey,
        first: Position,
        messages: impl Iterator<Item = Record<'a>>,
    ) {
        let Some(sub) = self.hub.sub(key) else {
            return;
        };
        let conn = sub.conn;
        let Some(Resume::At { next, .. }) = sub.seat.resume.as_deref() else {
            return;
        };
        let (mut next, expected) = (*next, *next);
        let (Some(topic), Some(codec)) = (
            self.hub.topic_name(key),
            self.hub.conn(conn).map(|conn| conn.codec),
        ) else {
            return;
        };
        let (mut batch, mut frames) = (Batch::default(), Vec::new());
        for stored in messages {
            let position = Position {
                offset: next,
                ..first
            };
            self.encode_kept(codec, &topic, stored, position, &mut batch, &mut frames);
            next += 1;
        }
        if first.offset != expected || next == expected {
            return self.hub.overrun(conn);
        }
        let batch = self.hub.share(batch);
        self.hub.give(conn, key, &batch, &frames);
        self.replay_at(key, next, false);
    }

    /// The driver's store could not be asked: the subscription ends, and its client may come back.
    pub fn unfetched(&mut self, key: SubKey) -> Option<H> {
        self.end(key, true)
    }

    fn encode_kept(
        &self,
        codec: Codec,
        topic: &str,
        message: Record<'_>,
        position: Position,
        batch: &mut Batch,
        frames: &mut Vec<Frame>,
    ) {
        let broadcast = Broadcast {
            dialects: &self.dialects,
            codecs: &self.codecs,
            event: Event {
                topic,
                event: message.event,
                body: if message.binary {
                    Body::Binary(message.payload)
                } else {
                    Body::Json(message.payload)
                },
                position: None,
            },
        };
        let start = batch.bytes.len();
        if broadcast.encode(codec, Some(position), &mut batch.bytes) {
            batch.frames += 1;
            frames.push((Some(position), start..batch.bytes.len()));
        }
    }

    fn replay_at(&mut self, key: SubKey, next: u64, waiting: bool) {
        if let Some(sub) = self.hub.sub_mut(key) {
            if let Some(resume) = sub.seat.resume.as_deref_mut() {
                *resume = Resume::At { next, waiting };
            }
        }
        if !waiting {
            self.replays.ready.push_back(key);
        }
    }

    /// The messages from `first` on, as many as a piece holds, and the offset behind them.
    fn piece(&mut self, topic: &Arc<str>, epoch: u64, codec: Codec, first: u64) -> (Encoded, u64) {
        let known = self.replays.pieces.iter().find(|piece| {
            (piece.first, piece.codec, piece.epoch) == (first, codec, epoch)
                && piece.topic == *topic
        });
        if let Some(known) = known {
            return (known.encoded.clone(), known.next);
        }
        let mut batch = Batch::default();
        let mut frames = Vec::new();
        let mut next = first;
        let history = self.hub.topic_by_name(topic);
        let history = history.and_then(|topic| topic.history.as_ref());
        for kept in history.iter().flat_map(|history| history.after(first - 1)) {
            next = kept.offset + 1;
            let message = Record {
                event: &kept.event,
                payload: &kept.payload,
                binary: kept.binary,
            };
            let position = Position {
                epoch,
                offset: kept.offset,
            };
            self.encode_kept(codec, topic, message, position, &mut batch, &mut frames);
            if batch.bytes.len() >= PIECE_BYTES {
                break;
            }
        }
        let encoded: Encoded = (self.hub.share(batch), frames.into());
        if self.replays.pieces.len() == PIECES {
            self.replays.pieces.pop_front();
        }
        self.replays.pieces.push_back(EncodedPiece {
            topic: Arc::clone(topic),
            epoch,
            codec,
            first,
            next,
            encoded: encoded.clone(),
        });
        (encoded, next)
    }
}
