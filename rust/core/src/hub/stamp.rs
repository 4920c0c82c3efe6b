//! Frames that say where their connection stands on all of its topics.
//!
//! A client of several topics that keeps one place for all of them (the last `id` of an event stream)
//! needs every position with every message. That line is different for each connection, so the frames
//! cannot be sent as they are shared: such a connection gets a copy of each, behind its own line. The
//! copy is what it costs (a memcpy of the frame and a line of some 25 bytes per topic); encoding is
//! still done once for all.
//!
//! Positions advance in the order in which frames enter the outbox, each in the same step as its
//! frame. So no line is ahead of what has been queued before it, and a client that kept the line of
//! the last whole frame has everything up to it.
//!
//! Runs of a topic with such a subscriber keep their [`super::run::Mark`]s, as those of a `latest`
//! topic do. A connection is stamped before its first subscription and until its end.

use std::fmt;
use std::ops::Range;

use crate::log::Position;

use super::batch::{ConnKey, SubKey};
use super::{Conn, Hub};

/// Writes the line of a connection that stands at these positions, in the order of its topics; None
/// for a topic that has none.
pub type Line = Box<dyn Fn(&[Option<Position>], &mut Vec<u8>) + Send + Sync>;

/// Where a frame lies in its batch, and where its message in the topic's log.
pub type Frame = (Option<Position>, Range<usize>);

/// Where a connection stands.
pub(super) struct Stamp {
    line: Line,
    subs: Vec<SubKey>,
    positions: Vec<Option<Position>>,
}

impl Stamp {
    /// Copies frames of a subscription's topic, each behind the line that is true once it is read. A
    /// message without a position moves nothing and needs no line.
    pub fn copy(
        &mut self,
        sub: SubKey,
        bytes: &[u8],
        frames: impl Iterator<Item = Frame>,
        out: &mut Vec<u8>,
    ) {
        for (position, range) in frames {
            if position.is_some() {
                self.stand(sub, position);
                (self.line)(&self.positions, out);
            }
            out.extend_from_slice(&bytes[range]);
        }
    }

    fn stand(&mut self, sub: SubKey, position: Option<Position>) {
        if let Some(at) = self.subs.iter().position(|known| *known == sub) {
            self.positions[at] = position;
        }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stamp").field(&self.positions).finish()
    }
}

impl<S> Hub<S> {
    /// From now on each frame of a connection follows a line that says where it stands. To be called
    /// before it subscribes to anything; `positions` are where it stands on the topics it will
    /// subscribe to.
    pub fn stamp(&mut self, key: ConnKey, positions: Vec<Option<Position>>, line: Line) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.stamp = Some(Box::new(Stamp {
                line,
                subs: vec![SubKey::default(); positions.len()],
                positions,
            }));
        }
    }

    /// Names the subscription that belongs to one of the positions of [`Hub::stamp`].
    pub fn stamp_with(&mut self, key: ConnKey, at: usize, sub: SubKey) {
        let stamp = self.conns.get_mut(key).and_then(|conn| conn.stamp.as_mut());
        if let Some(known) = stamp.and_then(|stamp| stamp.subs.get_mut(at)) {
            *known = sub;
        }
    }

    /// Says where a subscription begins; nothing on a connection that is not stamped.
    pub fn stand(&mut self, key: ConnKey, sub: SubKey, position: Option<Position>) {
        let stamp = self.conns.get_mut(key).and_then(|conn| conn.stamp.as_mut());
        if let Some(stamp) = stamp {
            stamp.stand(sub, position);
        }
    }

    /// As [`Hub::ordered`], behind the connection's line if it is stamped.
    pub fn ordered_stamped(&mut self, key: ConnKey, write: impl FnOnce(&mut Vec<u8>)) {
        self.catch_up(key);
        let mut line = Vec::new();
        if let Some(stamp) = self.conns.get(key).and_then(|conn| conn.stamp.as_ref()) {
            (stamp.line)(&stamp.positions, &mut line);
        }
        self.direct(key, |out| {
            out.extend_from_slice(&line);
            write(out);
        });
    }
}

impl Conn {
    pub(super) fn is_stamped(&self) -> bool {
        self.stamp.is_some()
    }
}
