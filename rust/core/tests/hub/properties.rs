//! Whatever happens in whatever order, everybody gets what the oracle says, however it is sliced.

use std::collections::BTreeMap;

use moda_core::hub::{Config, Delivery, Policy};
use proptest::prelude::*;

use crate::pair::{Pair, Step, ALL_EVERY, MIXED};
use crate::world::{message, World, SLICED};

fn step() -> impl Strategy<Value = Step> {
    let some = || 0..64usize;
    prop_oneof![
        1 => (any::<bool>(), any::<bool>()).prop_map(|(v1, socket)| Step::Open { v1, socket }),
        4 => (some(), some(), prop::bool::weighted(0.2), prop::bool::weighted(0.3))
            .prop_map(|(conn, topic, watches, lane)| Step::Join { conn, topic, watches, lane }),
        2 => (some(), some()).prop_map(|(conn, topic)| Step::Leave { conn, topic }),
        8 => (some(), prop::bool::weighted(0.3), prop::bool::weighted(0.2),
              proptest::option::weighted(0.3, some()), 1..1500usize)
            .prop_map(|(topic, lane, secret, from, len)| Step::Publish { topic, lane, secret, from, len }),
        2 => (some(), 1..3000usize).prop_map(|(conn, len)| Step::Tell { conn, len }),
        2 => some().prop_map(|conn| Step::Beat { conn }),
        1 => some().prop_map(|conn| Step::Close { conn }),
        1 => (some(), any::<bool>()).prop_map(|(conn, reuse)| Step::Remove { conn, reuse }),
        6 => Just(Step::Slice),
        1 => some().prop_map(|conn| Step::Stall { conn }),
        2 => some().prop_map(|conn| Step::Read { conn }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_connection_gets_what_the_oracle_says_in_that_order(
        steps in prop::collection::vec(step(), 1..150),
        log_bytes in prop_oneof![Just(64 << 20), 0..5000usize],
    ) {
        let mut pair = Pair::new(Config { log_bytes, outbox_bytes: 64 << 20, ..SLICED }, ALL_EVERY);
        for step in &steps {
            pair.take(step)?;
        }
        pair.finish()?;
    }

    #[test]
    fn under_every_policy_nothing_comes_twice_or_out_of_order_and_the_newest_is_never_missing(
        steps in prop::collection::vec(step(), 1..150),
        log_bytes in prop_oneof![Just(64 << 20), 20_000..30_000usize],
    ) {
        let mut pair = Pair::new(Config { log_bytes, outbox_bytes: 64 << 20, ..SLICED }, MIXED);
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
        let policy = Policy { delivery: Delivery::Latest, key: None, history: None };
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
