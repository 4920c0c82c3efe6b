//! The hub and the oracle, told the same, and what their clients may then differ in.

use std::collections::BTreeMap;
use std::ops::Range;

use moda_core::hub::{Codec, Config, ConnKey, Delivery, Policy, SubKey};
use proptest::prelude::*;

use crate::frames::Frame;
use crate::oracle::{Member, Oracle, Owed};
use crate::world::{intercepting, message, World};

const TOPICS: [&str; 3] = ["a", "b", "c"];
/// Where each topic is published to: its own address, and that of its lane.
const ADDRESSES: [[&str; 2]; 3] = [["a", "a\0lane"], ["b", "b\0lane"], ["c", "c\0lane"]];
/// What each topic gives those who cannot keep up.
pub const ALL_EVERY: [Delivery; 3] = [Delivery::Every; 3];
pub const MIXED: [Delivery; 3] = [Delivery::Latest, Delivery::Drop, Delivery::Every];

/// `usize` picks a connection or a topic, modulo how many there are.
#[derive(Debug, Clone)]
pub enum Step {
    Open {
        v1: bool,
        socket: bool,
    },
    Join {
        conn: usize,
        topic: usize,
        watches: bool,
        lane: bool,
    },
    Leave {
        conn: usize,
        topic: usize,
    },
    Publish {
        topic: usize,
        lane: bool,
        secret: bool,
        from: Option<usize>,
        len: usize,
    },
    Tell {
        conn: usize,
        len: usize,
    },
    Beat {
        conn: usize,
    },
    Close {
        conn: usize,
    },
    Remove {
        conn: usize,
        /// The next connection gets its descriptor.
        reuse: bool,
    },
    Slice,
    Stall {
        conn: usize,
    },
    Read {
        conn: usize,
    },
}

/// The hub and the oracle, told the same.
pub struct Pair {
    world: World,
    oracle: Oracle,
    policies: [Delivery; 3],
    conns: Vec<ConnKey>,
    /// Address and key of every message published, by its number.
    published: BTreeMap<usize, (&'static str, String)>,
    said: usize,
    lost: bool,
}

impl Pair {
    pub fn new(config: Config, policies: [Delivery; 3]) -> Self {
        let mut pair = Self {
            world: World::new(config),
            oracle: Oracle::default(),
            policies,
            conns: Vec::new(),
            published: BTreeMap::new(),
            said: 0,
            lost: false,
        };
        // Enough on one topic for several slices from the start.
        for n in 0..24 {
            pair.open(n % 5 == 0, n % 2 == 0);
            pair.join(n, 0, false, false);
        }
        pair
    }

    fn open(&mut self, v1: bool, socket: bool) {
        let codec = if v1 && !socket {
            Codec::PhoenixV1
        } else {
            Codec::PhoenixV2
        };
        let conn = if socket {
            self.world.connect_socket()
        } else {
            self.world.connect_as(codec)
        };
        self.oracle.open(conn, codec);
        self.conns.push(conn);
    }

    fn conn(&self, pick: usize) -> Option<ConnKey> {
        self.conns.get(pick % self.conns.len().max(1)).copied()
    }

    /// A text nobody else says about an address, `len` long or a little longer.
    fn words(&mut self, kind: &str, about: &str, len: usize) -> String {
        self.said += 1;
        format!("{kind}|{about}|{}|{}", self.said, ".".repeat(len))
    }

    /// Where a connection sits on a topic: in its lane or not.
    fn seat(&self, conn: ConnKey, topic: usize) -> Option<(&'static str, SubKey)> {
        let mut addresses = ADDRESSES[topic % TOPICS.len()].into_iter();
        addresses.find_map(|address| Some((address, self.oracle.place(conn, address)?)))
    }

    fn join(&mut self, conn: usize, topic: usize, watches: bool, lane: bool) {
        let Some(conn) = self.conn(conn) else { return };
        if !self.oracle.is_open(conn) || self.seat(conn, topic).is_some() {
            return;
        }
        let topic = topic % TOPICS.len();
        let address = ADDRESSES[topic][usize::from(lane)];
        let events = watches.then(|| intercepting(&["secret"]));
        let policy = Policy {
            delivery: self.policies[topic],
            key: None,
            history: None,
        };
        let name = TOPICS[topic];
        let sub = self.world.hub.reserve(conn, name, policy, events, 0);
        if lane {
            assert!(self.world.hub.reseat(sub, address));
        }
        let reply = self.words("joined", address, 1);
        self.world.tell(conn, &reply);
        self.oracle.tell(conn, &reply);
        self.world.hub.activate(sub);
        self.oracle.join(address, Member { sub, conn, watches });
    }

    pub fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Open { v1, socket } => self.open(v1, socket),
            Step::Join {
                conn,
                topic,
                watches,
                lane,
            } => self.join(conn, topic, watches, lane),
            Step::Leave { conn, topic } => {
                let name = TOPICS[topic % TOPICS.len()];
                let Some(conn) = self.conn(conn) else {
                    return Ok(());
                };
                if let Some((address, sub)) = self.seat(conn, topic) {
                    prop_assert_eq!(self.world.hub.find(conn, name), Some(sub));
                    self.world.hub.release(sub);
                    self.oracle.leave(address, conn);
                    let goodbye = self.words("left", address, 1);
                    self.world.tell(conn, &goodbye);
                    self.oracle.tell(conn, &goodbye);
                }
            }
            Step::Publish {
                topic,
                lane,
                secret,
                from,
                len,
            } => {
                let topic = topic % TOPICS.len();
                let address = ADDRESSES[topic][usize::from(lane)];
                let said = self.words("broadcast", address, len);
                let from = from.and_then(|pick| self.oracle.place(self.conn(pick)?, address));
                let event = if secret { "secret" } else { "said" };
                let key = format!("key {}", len % 3);
                let mut publish = message(address, &said).event(event).key(&key);
                if let Some(sub) = from {
                    publish = publish.from(sub);
                }
                let mut asked = self.world.publish(&publish);
                let mut expected = self.oracle.publish(address, &said, secret, from);
                asked.sort();
                expected.sort();
                prop_assert_eq!(asked, expected);
                self.published.insert(self.said, (address, key));
                let members = ADDRESSES[topic].map(|address| self.oracle.members(address));
                let hub = &self.world.hub;
                prop_assert_eq!(hub.subscribers(TOPICS[topic]), members[0] + members[1]);
                prop_assert_eq!(hub.subscribers(ADDRESSES[topic][1]), members[1]);
            }
            Step::Tell { conn, len } => {
                let said = self.words("told", "", len);
                if let Some(conn) = self.conn(conn) {
                    self.world.tell(conn, &said);
                    self.oracle.tell(conn, &said);
                }
            }
            Step::Beat { conn } => {
                let said = self.words("beat", "", 1);
                if let Some(conn) = self.conn(conn) {
                    self.world.beat(conn, &said);
                    self.oracle.beat(conn, &said);
                }
            }
            Step::Close { conn } => {
                if let Some(conn) = self.conn(conn) {
                    self.world.hub.close(conn, 1001, "bye", false);
                    self.oracle.close(conn, 1001, "bye");
                }
            }
            Step::Remove { conn, reuse } => self.remove(conn, reuse)?,
            Step::Slice => {
                self.world.slice();
            }
            Step::Stall { conn } => {
                if let Some(conn) = self.conn(conn) {
                    self.world.stall(conn);
                }
            }
            Step::Read { conn } => {
                if let Some(conn) = self.conn(conn) {
                    self.world.read_again(conn);
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, pick: usize, reuse: bool) -> Result<(), TestCaseError> {
        if self.conns.is_empty() {
            return Ok(());
        }
        let conn = self.conns.remove(pick % self.conns.len());
        let got = self.world.frames(conn);
        let sockets = self.world.remove(conn);
        self.lost = true;
        let owed = self.oracle.remove(conn).expect("a client of both");
        self.is_part(got, &owed, false)?;
        if let Some(sockets) = sockets.filter(|_| reuse) {
            let next = self.world.adopt(sockets);
            self.oracle.open(next, Codec::PhoenixV2);
            self.conns.push(next);
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<(), TestCaseError> {
        for conn in self.conns.clone() {
            self.world.read_again(conn);
        }
        for conn in std::mem::take(&mut self.conns) {
            let got = self.world.frames_to_the_end(conn);
            let open = self.oracle.is_open(conn);
            let owed = self.oracle.remove(conn).expect("a client of both");
            self.is_part(got, &owed, open)?;
            // Still there: what it got could only be complete if nothing disturbed its topics.
            self.world.remove(conn);
        }
        let stats = &self.world.hub.stats;
        let bytes = (stats.outbox_bytes, stats.latest_bytes, stats.slow_closed);
        prop_assert_eq!(bytes, (0, 0, 0));
        let unheard = stats.dropped + stats.conflated;
        prop_assert!(self.policies == MIXED || unheard == 0);
        if self.lost {
            prop_assert!(stats.deliveries + unheard <= self.oracle.deliveries);
        } else {
            prop_assert_eq!(stats.deliveries + unheard, self.oracle.deliveries);
        }
        prop_assert_eq!(self.world.hub.topics(), self.oracle.topics());
        prop_assert_eq!(self.world.hub.topics(), 0);
        Ok(())
    }
}

impl Pair {
    /// What a client got is what it was owed, but for what its topics' policies let go and for the
    /// end that a lost connection did not have. With `open` it has caught up and stayed to the end.
    fn is_part(&self, got: Vec<Frame>, owed: &Owed, open: bool) -> Result<(), TestCaseError> {
        let (beats, got) = by_kind(got);
        let here = |frames: &[Frame], kept: &dyn Fn(Delivery) -> bool| -> Vec<Frame> {
            let of = |frame: &&Frame| kept(self.delivery(frame));
            frames.iter().filter(of).cloned().collect()
        };
        let every = |delivery| delivery == Delivery::Every;
        let (ordered, all) = (here(&got, &every), here(&owed.ordered, &every));
        let told = |end: usize, whole: usize| if open { whole } else { end };
        prop_assert_eq!(&ordered[..], &all[..told(ordered.len(), all.len())]);
        prop_assert_eq!(
            &beats[..],
            &owed.beats[..told(beats.len(), owed.beats.len())]
        );
        for address in ADDRESSES.into_iter().flatten() {
            let on = |frame: &&Frame| about(frame).is_some_and(|(_, on, _)| on == address);
            let got: Vec<Frame> = got.iter().filter(on).cloned().collect();
            let owed: Vec<Frame> = owed.ordered.iter().filter(on).cloned().collect();
            self.is_subsequence(&got, &owed, open)?;
        }
        Ok(())
    }

    /// What is said on one address, in order and once; its joins and leaves all of them, and of
    /// `Delivery::Latest` the newest message of each key before a leave and at the end.
    fn is_subsequence(
        &self,
        got: &[Frame],
        owed: &[Frame],
        open: bool,
    ) -> Result<(), TestCaseError> {
        let mut rest = got.iter().peekable();
        let mut joined = 0;
        // Owed since the join and not given.
        let mut missed = Vec::new();
        for frame in owed {
            if !open && rest.peek().is_none() {
                return Ok(());
            }
            let (kind, address, n) = about(frame).expect("words of ours");
            let given = rest.next_if_eq(&frame).is_some();
            match kind {
                "joined" => {
                    prop_assert!(given, "{:?} is missing", frame);
                    joined = n;
                    missed.clear();
                }
                "left" => {
                    prop_assert!(given, "{:?} is missing", frame);
                    self.none_is_newest(&missed, address, joined..n)?;
                    missed.clear();
                }
                _ if !given => missed.push(n),
                _ => {}
            }
        }
        prop_assert_eq!(rest.next(), None, "twice, or not owed");
        if let Some((_, address, _)) = owed.last().and_then(about).filter(|_| open) {
            self.none_is_newest(&missed, address, joined..usize::MAX)?;
        }
        Ok(())
    }

    fn none_is_newest(
        &self,
        missed: &[usize],
        address: &str,
        stay: Range<usize>,
    ) -> Result<(), TestCaseError> {
        let topic = ADDRESSES.iter().position(|both| both.contains(&address));
        if self.policies[topic.expect("an address")] != Delivery::Latest {
            return Ok(());
        }
        let said = self.published.range(stay);
        let newest: BTreeMap<&str, usize> = said
            .filter(|(_, (on, _))| *on == address)
            .map(|(n, (_, key))| (key.as_str(), *n))
            .collect();
        for n in missed {
            prop_assert!(
                !newest.values().any(|newest| newest == n),
                "{} is missing",
                n
            );
        }
        Ok(())
    }

    /// Whether a frame is a broadcast under a policy that may let it go.
    fn delivery(&self, frame: &Frame) -> Delivery {
        let Some(("broadcast", address, _)) = about(frame) else {
            return Delivery::Every;
        };
        let topic = ADDRESSES.iter().position(|both| both.contains(&address));
        self.policies[topic.expect("an address")]
    }
}

/// Kind, address and number of a frame that says `words`.
fn about(frame: &Frame) -> Option<(&str, &str, usize)> {
    let Frame::Text(text) = frame else {
        return None;
    };
    let mut parts = text.trim_start_matches("v1 ").split('|');
    Some((parts.next()?, parts.next()?, parts.next()?.parse().ok()?))
}

fn by_kind(frames: Vec<Frame>) -> (Vec<Frame>, Vec<Frame>) {
    frames
        .into_iter()
        .partition(|frame| about(frame).is_some_and(|(kind, ..)| kind == "beat"))
}
