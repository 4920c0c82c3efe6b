//! A fan-out in slices, and everything that may happen between two of them.
//!
//! `SLICED` makes a slice of no time at all, so each flush serves exactly sixteen connections: what
//! is served and what is not is known, and no clock decides a test.

use moda_core::hub::{ConnKey, Policy, SubKey};

use crate::frames::{text, Frame};
use crate::world::{closing, intercepting, message, World, SLICED};

const AT_ONCE: usize = 16;

struct Crowd {
    world: World,
    conns: Vec<ConnKey>,
    subs: Vec<SubKey>,
}

/// `n` subscribers of "a", with one message published and one slice of it served.
fn half_way(n: usize) -> Crowd {
    let mut crowd = gather(n);
    crowd.world.say("a", "1");
    assert!(crowd.world.slice(), "more is left");
    crowd
}

fn gather(n: usize) -> Crowd {
    let mut world = World::new(SLICED);
    let conns: Vec<_> = (0..n).map(|_| world.connect()).collect();
    let subs = conns.iter().map(|conn| world.join(*conn, "a")).collect();
    Crowd { world, conns, subs }
}

impl Crowd {
    fn all_got(&mut self, expected: &[&str]) {
        self.got(0..self.conns.len(), expected);
    }

    fn got(&mut self, which: std::ops::Range<usize>, expected: &[&str]) {
        for n in which {
            assert_eq!(self.world.texts(self.conns[n]), expected, "subscriber {n}");
        }
    }
}

#[test]
fn a_slice_serves_the_first_and_the_next_one_goes_on_behind_them() {
    let mut crowd = gather(50);
    crowd.world.say("a", "1");
    for slice in 1..=3 {
        assert!(crowd.world.slice(), "slice {slice}");
        let served = usize::try_from(crowd.world.hub.stats.deliveries).unwrap();
        assert_eq!(served, slice * AT_ONCE);
    }
    crowd.got(0..48, &["1"]);
    crowd.got(48..50, &[]);
    crowd.world.turn();
    crowd.got(0..48, &[]);
    crowd.got(48..50, &["1"]);
    assert_eq!(crowd.world.hub.stats.fanout.count, 1);
}

#[test]
fn leavers_between_slices_make_nobody_skipped_and_nobody_served_twice() {
    let mut crowd = half_way(60);
    // Two who have been served, the next in turn, the last, and one between.
    for n in [0, 15, 16, 40, 59] {
        crowd.world.hub.release(crowd.subs[n]);
        crowd.world.tell(crowd.conns[n], "left");
    }
    crowd.world.turn();
    for n in 0..60 {
        let got = crowd.world.texts(crowd.conns[n]);
        let left = [0, 15, 16, 40, 59].contains(&n);
        let expected: &[&str] = if left { &["1", "left"] } else { &["1"] };
        assert_eq!(got, expected, "subscriber {n}");
    }
    assert_eq!(crowd.world.hub.stats.deliveries, 60);
}

#[test]
fn the_places_are_right_again_after_a_fan_out_with_leavers() {
    let mut crowd = half_way(40);
    for n in (0..40).step_by(3) {
        crowd.world.hub.release(crowd.subs[n]);
    }
    crowd.world.turn();
    crowd.all_got(&["1"]);
    let topic = crowd.world.hub.topic_by_name("a").unwrap();
    assert_eq!((topic.holes, topic.members.len()), (0, 26));
    // Every place is used once more, by leaving.
    for n in (0..40).filter(|n| n % 3 != 0) {
        crowd.world.say("a", "again");
        crowd.world.turn();
        assert_eq!(
            crowd.world.texts(crowd.conns[n]),
            ["again"],
            "subscriber {n}"
        );
        crowd.world.hub.release(crowd.subs[n]);
        for rest in (n + 1..40).filter(|n| n % 3 != 0) {
            assert_eq!(crowd.world.texts(crowd.conns[rest]), ["again"]);
        }
    }
    assert_eq!(crowd.world.hub.topics(), 0);
}

#[test]
fn a_joiner_between_slices_gets_nothing_of_the_fan_out_under_way() {
    let mut crowd = half_way(40);
    let new = crowd.world.subscriber("a");
    crowd.world.say("a", "2");
    crowd.world.turn();
    crowd.all_got(&["1", "2"]);
    assert_eq!(crowd.world.texts(new), ["2"]);
}

#[test]
fn one_who_leaves_and_joins_again_between_slices_gets_each_message_once() {
    let mut crowd = half_way(40);
    for n in [3, 30] {
        crowd.world.hub.release(crowd.subs[n]);
        crowd.world.tell(crowd.conns[n], "joined again");
        crowd.subs[n] = crowd.world.join(crowd.conns[n], "a");
    }
    crowd.world.say("a", "2");
    crowd.world.turn();
    for n in 0..40 {
        let again: &[&str] = if n == 3 || n == 30 {
            &["1", "joined again", "2"]
        } else {
            &["1", "2"]
        };
        assert_eq!(crowd.world.texts(crowd.conns[n]), again, "subscriber {n}");
    }
}

#[test]
fn a_connection_closed_between_slices_gets_what_was_published_and_then_the_close() {
    let mut crowd = half_way(40);
    for n in [2, 35] {
        crowd
            .world
            .hub
            .close(crowd.conns[n], 1001, false, closing(1001, "bye"));
    }
    crowd.world.say("a", "2");
    crowd.world.turn();
    for n in 0..40 {
        let closed = n == 2 || n == 35;
        let second = if closed {
            Frame::Close(1001, "bye".to_owned())
        } else {
            text("2")
        };
        let got = crowd.world.frames(crowd.conns[n]);
        assert_eq!(got, [text("1"), second], "subscriber {n}");
    }
}

#[test]
fn a_connection_lost_between_slices_is_forgotten_and_the_others_are_served() {
    let mut crowd = half_way(40);
    for n in [39, 20, 16, 0] {
        let lost = crowd.conns.remove(n);
        assert_eq!(crowd.world.hub.remove(lost), [0]);
    }
    crowd.world.turn();
    crowd.all_got(&["1"]);
    assert_eq!(crowd.world.hub.stats.deliveries, 37, "one had been served");
    assert_eq!(crowd.world.hub.stats.outbox_bytes, 0);
}

#[test]
fn messages_published_between_slices_come_behind_those_before() {
    let mut crowd = half_way(40);
    crowd.world.say("a", "2");
    assert!(crowd.world.slice());
    crowd.world.say("a", "3");
    crowd.world.turn();
    crowd.all_got(&["1", "2", "3"]);
}

#[test]
fn a_frame_for_one_between_slices_comes_behind_the_broadcast_it_had_not_yet() {
    let mut crowd = half_way(40);
    crowd.world.tell(crowd.conns[39], "for you");
    crowd.world.tell(crowd.conns[0], "for you");
    crowd.world.turn();
    assert_eq!(crowd.world.texts(crowd.conns[0]), ["1", "for you"]);
    assert_eq!(crowd.world.texts(crowd.conns[39]), ["1", "for you"]);
    crowd.got(1..39, &["1"]);
}

#[test]
fn heartbeats_are_answered_within_the_next_slice_and_not_behind_the_fan_out() {
    let mut crowd = half_way(200);
    let last = crowd.conns[199];
    crowd.world.beat(last, "beat");
    assert!(crowd.world.slice());
    assert_eq!(crowd.world.texts(last), ["beat"]);
    crowd.world.turn();
    assert_eq!(crowd.world.texts(last), ["1"]);
}

#[test]
fn a_fan_out_goes_on_however_many_single_frames_are_queued() {
    let mut crowd = half_way(100);
    let before = crowd.world.hub.stats.deliveries;
    for conn in &crowd.conns {
        crowd
            .world
            .hub
            .direct(*conn, |out| out.extend_from_slice(&[0x81, 0]));
    }
    assert!(crowd.world.slice());
    assert!(crowd.world.hub.stats.deliveries > before);
}

#[test]
fn two_topics_in_slices_keep_publish_order_for_those_on_both() {
    let mut crowd = gather(40);
    for n in (0..40).step_by(2) {
        crowd.world.join(crowd.conns[n], "b");
    }
    for (topic, said) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")] {
        crowd.world.say(topic, said);
        crowd.world.slice();
    }
    crowd.world.turn();
    for n in 0..40 {
        let expected: &[&str] = if n % 2 == 0 {
            &["1", "2", "3", "4"]
        } else {
            &["1", "3"]
        };
        assert_eq!(
            crowd.world.texts(crowd.conns[n]),
            expected,
            "subscriber {n}"
        );
    }
}

#[test]
fn an_interception_holds_through_all_slices() {
    let mut crowd = gather(40);
    let watcher = crowd.world.connect();
    crowd.world.join_with(
        watcher,
        "a",
        Policy::default(),
        Some(intercepting(&["secret"])),
    );
    crowd.world.publish(&message("a", "hidden").event("secret"));
    crowd.world.turn();
    crowd.all_got(&["hidden"]);
    assert!(crowd.world.texts(watcher).is_empty());
}

#[test]
fn places_of_leavers_are_cleared_though_the_next_fan_out_is_already_queued() {
    let mut crowd = gather(40);
    for n in 0..20 {
        // Never without a run in the queue, as under a flood.
        crowd.world.say("a", &format!("{n}"));
        crowd.world.slice();
        crowd.world.hub.release(crowd.subs[n]);
        crowd.world.subscriber("a");
        crowd.world.say("a", &format!("{n} again"));
        while crowd.world.hub.stats.fanout.count < 2 * n as u64 + 1 {
            crowd.world.slice();
        }
        let topic = crowd.world.hub.topic_by_name("a").unwrap();
        assert!(topic.members.len() <= 42, "{}", topic.members.len());
        assert_eq!(topic.subscribers(), 40);
    }
    crowd.world.turn();
    let said = |n: usize| [format!("{n}"), format!("{n} again")];
    let all: Vec<String> = (0..20).flat_map(said).collect();
    for n in 0..40 {
        let end = if n < 20 { 2 * n + 1 } else { 40 };
        assert_eq!(
            crowd.world.texts(crowd.conns[n]),
            all[..end],
            "subscriber {n}"
        );
    }
}

#[test]
fn the_last_to_leave_during_a_fan_out_takes_the_topic_along() {
    let mut crowd = half_way(40);
    for n in 0..40 {
        crowd.world.hub.release(crowd.subs[n]);
    }
    assert_eq!(crowd.world.hub.topics(), 1, "a run is still queued");
    crowd.world.turn();
    crowd.all_got(&["1"]);
    assert_eq!(crowd.world.hub.topics(), 0);
}
