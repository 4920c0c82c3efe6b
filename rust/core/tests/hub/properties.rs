//! Whatever happens in whatever order, everybody gets what the oracle says, however it is sliced.

use std::collections::BTreeMap;

use moda_core::hub::{Codec, Config, ConnKey, Delivery, Policy};
use proptest::prelude::*;

use crate::frames::Frame;
use crate::oracle::{Member, Oracle, Owed};
use crate::world::{intercepting, message, World, SLICED};

const TOPICS: [&str; 3] = ["a", "b", "c"];

/// `usize` picks a connection or a topic, modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    Open {
        v1: bool,
        socket: bool,
    },
    Join {
        conn: usize,
        topic: usize,
        watches: bool,
    },
    Leave {
        conn: usize,
        topic: usize,
    },
    Publish {
        topic: usize,
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
    },
    Slice,
    Stall {
        conn: usize,
    },
    Read {
        conn: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let some = || 0..64usize;
    prop_oneof![
        1 => (any::<bool>(), any::<bool>()).prop_map(|(v1, socket)| Step::Open { v1, socket }),
        4 => (some(), some(), prop::bool::weighted(0.2))
            .prop_map(|(conn, topic, watches)| Step::Join { conn, topic, watches }),
        2 => (some(), some()).prop_map(|(conn, topic)| Step::Leave { conn, topic }),
        8 => (some(), prop::bool::weighted(0.2), proptest::option::weighted(0.3, some()), 1..1500usize)
            .prop_map(|(topic, secret, from, len)| Step::Publish { topic, secret, from, len }),
        2 => (some(), 1..3000usize).prop_map(|(conn, len)| Step::Tell { conn, len }),
        2 => some().prop_map(|conn| Step::Beat { conn }),
        1 => some().prop_map(|conn| Step::Close { conn }),
        1 => some().prop_map(|conn| Step::Remove { conn }),
        6 => Just(Step::Slice),
        1 => some().prop_map(|conn| Step::Stall { conn }),
        2 => some().prop_map(|conn| Step::Read { conn }),
    ]
}

/// The hub and the oracle, told the same.
struct Pair {
    world: World,
    oracle: Oracle,
    conns: Vec<ConnKey>,
    said: usize,
    lost: bool,
}

impl Pair {
    fn new(config: Config) -> Self {
        let mut pair = Self {
            world: World::new(config),
            oracle: Oracle::default(),
            conns: Vec::new(),
            said: 0,
            lost: false,
        };
        // Enough on one topic for several slices from the start.
        for n in 0..24 {
            pair.open(n % 5 == 0, n % 2 == 0);
            pair.join(n, 0, false);
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

    /// A text nobody else says, `len` long or a little longer.
    fn words(&mut self, kind: &str, len: usize) -> String {
        self.said += 1;
        format!("{kind} {} {}", self.said, ".".repeat(len))
    }

    fn join(&mut self, conn: usize, topic: usize, watches: bool) {
        let Some(conn) = self.conn(conn) else { return };
        let topic = TOPICS[topic % TOPICS.len()];
        if !self.oracle.is_open(conn) || self.oracle.place(conn, topic).is_some() {
            return;
        }
        let events = watches.then(|| intercepting(&["secret"]));
        let policy = Policy::default();
        let sub = self.world.hub.reserve(conn, topic, policy, events, 0);
        let reply = self.words("joined", 1);
        self.world.tell(conn, &reply);
        self.oracle.tell(conn, &reply);
        self.world.hub.activate(sub);
        self.oracle.join(topic, Member { sub, conn, watches });
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Open { v1, socket } => self.open(v1, socket),
            Step::Join {
                conn,
                topic,
                watches,
            } => self.join(conn, topic, watches),
            Step::Leave { conn, topic } => {
                let topic = TOPICS[topic % TOPICS.len()];
                let Some(conn) = self.conn(conn) else {
                    return Ok(());
                };
                if let Some(sub) = self.oracle.place(conn, topic) {
                    prop_assert_eq!(self.world.hub.find(conn, topic), Some(sub));
                    self.world.hub.release(sub);
                    self.oracle.leave(topic, conn);
                    let goodbye = self.words("left", 1);
                    self.world.tell(conn, &goodbye);
                    self.oracle.tell(conn, &goodbye);
                }
            }
            Step::Publish {
                topic,
                secret,
                from,
                len,
            } => {
                let topic = TOPICS[topic % TOPICS.len()];
                let said = self.words("broadcast", len);
                let from = from.and_then(|pick| self.oracle.place(self.conn(pick)?, topic));
                let event = if secret { "secret" } else { "said" };
                let mut publish = message(topic, &said).event(event);
                if let Some(sub) = from {
                    publish = publish.from(sub);
                }
                let mut asked = self.world.publish(&publish);
                let mut expected = self.oracle.publish(topic, &said, secret, from);
                asked.sort();
                expected.sort();
                prop_assert_eq!(asked, expected);
            }
            Step::Tell { conn, len } => {
                let said = self.words("told", len);
                if let Some(conn) = self.conn(conn) {
                    self.world.tell(conn, &said);
                    self.oracle.tell(conn, &said);
                }
            }
            Step::Beat { conn } => {
                let said = self.words("beat", 1);
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
            Step::Remove { conn } => {
                if self.conns.is_empty() {
                    return Ok(());
                }
                let conn = self.conns.remove(conn % self.conns.len());
                let got = self.world.frames(conn);
                self.world.remove(conn);
                self.lost = true;
                let owed = self.oracle.remove(conn).expect("a client of both");
                is_beginning(got, &owed)?;
            }
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

    fn finish(mut self) -> Result<(), TestCaseError> {
        for conn in self.conns.clone() {
            self.world.read_again(conn);
        }
        for conn in std::mem::take(&mut self.conns) {
            let (beats, ordered) = by_kind(self.world.frames_to_the_end(conn));
            let owed = self.oracle.remove(conn).expect("a client of both");
            prop_assert_eq!(ordered, owed.ordered);
            prop_assert_eq!(beats, owed.beats);
            // Still there: what it got could only be complete if nothing disturbed its topics.
            self.world.remove(conn);
        }
        let stats = &self.world.hub.stats;
        prop_assert_eq!(stats.outbox_bytes, 0);
        prop_assert_eq!(
            (stats.slow_closed, stats.dropped, stats.conflated),
            (0, 0, 0)
        );
        if self.lost {
            prop_assert!(stats.deliveries <= self.oracle.deliveries);
        } else {
            prop_assert_eq!(stats.deliveries, self.oracle.deliveries);
        }
        prop_assert_eq!(self.world.hub.topics(), self.oracle.topics());
        prop_assert_eq!(self.world.hub.topics(), 0);
        Ok(())
    }
}

fn by_kind(frames: Vec<Frame>) -> (Vec<Frame>, Vec<Frame>) {
    frames
        .into_iter()
        .partition(|frame| matches!(frame, Frame::Text(text) if text.starts_with("beat")))
}

/// What a connection had when it was lost is the beginning of what it was owed.
fn is_beginning(got: Vec<Frame>, owed: &Owed) -> Result<(), TestCaseError> {
    let (beats, ordered) = by_kind(got);
    prop_assert_eq!(&ordered[..], &owed.ordered[..ordered.len()]);
    prop_assert_eq!(&beats[..], &owed.beats[..beats.len()]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_connection_gets_what_the_oracle_says_in_that_order(
        steps in prop::collection::vec(step(), 1..150),
        log_bytes in prop_oneof![Just(64 << 20), 0..5000usize],
    ) {
        let mut pair = Pair::new(Config { log_bytes, outbox_bytes: 64 << 20, ..SLICED });
        for step in &steps {
            pair.take(step)?;
        }
        pair.finish()?;
    }

    #[test]
    fn a_lagging_reader_ends_with_the_newest_of_every_key_and_never_steps_back(
        steps in prop::collection::vec((0..8usize, 0..5usize, 1..1500usize), 1..200),
        socket in any::<bool>(),
        log_bytes in prop_oneof![Just(64 << 20), 20_000..30_000usize],
    ) {
        let mut world = World::new(Config { log_bytes, ..SLICED });
        let policy = Policy { delivery: Delivery::Latest, history: None };
        let conn = if socket { world.connect_socket() } else { world.connect() };
        world.join_with(conn, "a", policy, None);
        let mut published = BTreeMap::new();
        for (n, (what, key, len)) in steps.iter().enumerate() {
            match what {
                0 => world.stall(conn),
                1 => world.read_again(conn),
                2 => drop(world.slice()),
                3 => world.say("b", "elsewhere"),
                _ => {
                    let key = format!("key {key}");
                    let said = format!("{key} {n} {}", ".".repeat(*len));
                    world.publish(&message("a", &said).key(&key));
                    published.insert(key, n);
                }
            }
        }
        world.read_again(conn);
        let mut newest = BTreeMap::new();
        let got = world.texts_to_the_end(conn);
        for text in &got {
            let mut words = text.rsplit(' ').skip(1);
            let n: usize = words.next().and_then(|n| n.parse().ok()).expect("a number");
            let key = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
            let before = newest.insert(key, n);
            prop_assert!(before.is_none_or(|before| before < n), "{} after {:?}", n, before);
        }
        prop_assert_eq!(newest, published);
        let count = steps.iter().filter(|(what, ..)| *what > 3).count() as u64;
        let stats = &world.hub.stats;
        prop_assert_eq!(stats.deliveries, got.len() as u64);
        prop_assert_eq!(stats.deliveries + stats.conflated, count);
        prop_assert_eq!(stats.outbox_bytes, 0);
        prop_assert_eq!(stats.slow_closed, 0);
    }
}
