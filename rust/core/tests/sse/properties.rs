//! Whatever is published and whenever the line is cut, a reader that comes back with its last id
//! gets every message once and in order.

use std::time::Duration;

use moda_core::hub::{Config, ConnKey};
use proptest::prelude::*;

use crate::reader::{parse, world, Block, World};

#[derive(Debug, Clone)]
enum Step {
    Publish {
        topic: usize,
        len: usize,
    },
    Slice,
    /// The line breaks after some of the bytes that were sent; the reader comes back.
    Cut {
        at: usize,
    },
    /// The reader does not take anything for a while.
    Stall,
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4usize, 1..400usize).prop_map(|(topic, len)| Step::Publish { topic, len }),
        4 => Just(Step::Slice),
        2 => any::<usize>().prop_map(|at| Step::Cut { at }),
        1 => Just(Step::Stall),
        2 => Just(Step::Read),
    ]
}

struct Reader {
    conn: ConnKey,
    last_id: String,
    heard: Vec<(String, u64)>,
}

impl Reader {
    /// Takes in what arrived before the cut and comes back.
    fn comes_back(&mut self, world: &mut World, topics: &[&str], keep: usize) {
        let bytes = world.bytes(self.conn);
        let kept = bytes[..keep.min(bytes.len())].to_vec();
        world.gateway.lost(self.conn);
        self.takes_in(&kept);
        let since = (!self.last_id.is_empty()).then_some(&*self.last_id);
        self.conn = world.opens(topics, since);
    }

    fn takes_in(&mut self, bytes: &[u8]) {
        let (_, blocks) = parse(bytes, &self.last_id);
        self.heard.extend(blocks.iter().filter_map(Block::place));
        for told in blocks.iter().filter(|block| block.event == "subscribed") {
            let json = told.json();
            assert_ne!(json["recovered"], false, "{json}");
        }
        if let Some(last) = blocks.last() {
            self.last_id.clone_from(&last.last_id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_once_and_in_order_however_often_the_line_is_cut(
        count in 1..5usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = world(Config { slice: Duration::ZERO, ..Config::default() });
        let topics = &["log:a", "log:b", "log:c", "log:d"][..count];
        let mut reader = Reader { conn: world.opens(topics, None), last_id: String::new(), heard: Vec::new() };
        // A reader that has never heard where it stands has nothing to come back to.
        world.turn();
        let mut published = vec![0; count];
        for step in steps {
            match step {
                Step::Publish { topic, len } => {
                    let topic = topic % count;
                    world.says(topics[topic], &format!("[\n\"{}\"]", "x".repeat(len)));
                    published[topic] += 1;
                }
                Step::Slice => { world.slice(); }
                Step::Cut { at } => {
                    let sent = world.bytes(reader.conn).len();
                    // Its places reach it with the first answer, or it would be a new reader.
                    let least = if reader.last_id.is_empty() { sent } else { 0 };
                    let keep = if sent > least { least + at % (sent - least) } else { sent };
                    reader.comes_back(&mut world, topics, keep);
                }
                Step::Stall => world.stalled.push(reader.conn),
                Step::Read => world.reads(reader.conn),
            }
        }
        world.reads(reader.conn);
        world.turn();
        let bytes = world.bytes(reader.conn).to_vec();
        reader.takes_in(&bytes);
        for (topic, count) in topics.iter().zip(published) {
            let offsets: Vec<u64> = reader.heard.iter().filter(|(of, _)| of == topic).map(|(_, n)| *n).collect();
            prop_assert_eq!(offsets, (1..=count).collect::<Vec<u64>>());
        }
    }
}
