//! How connections, topics and histories come into being and end, and that nothing is left of them.

use moda_core::hub::{Action, ConnKey, Delivery, Hub, Overdue, Policy, Silence, Sink, SubKey};
use moda_core::log::{History, Limits as HistoryLimits, Position, Recovery};

use crate::frames::Frame;
use crate::world::{closing, message, World, NEW, SLICED, WHOLE};

const KEEPING: Policy = Policy {
    delivery: Delivery::Every,
    key: None,
    history: Some(HistoryLimits {
        size: 3,
        ttl_ms: 1000,
        bytes: 1000,
    }),
    durable: false,
};

// -- topics

#[test]
fn a_topic_lives_as_long_as_somebody_is_on_it() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    let sub = world.hub.reserve(conn, "a", Policy::default(), None, 5);
    assert_eq!(world.hub.topics(), 1, "one who joins holds it");
    world.hub.activate(sub);
    world.hub.activate(sub);
    assert_eq!(world.hub.topic_by_name("a").unwrap().subscribers(), 1);
    assert_eq!(world.hub.release(sub), Some(5));
    assert_eq!(world.hub.topics(), 0);
    assert!(world.hub.topic_by_name("a").is_none());
    assert_eq!(world.hub.release(sub), None);
}

#[test]
fn ten_thousand_refused_joins_leave_nothing_behind() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    for n in 0..10_000 {
        let topic = format!("room:{n}");
        let sub = world.hub.reserve(conn, &topic, KEEPING, None, 0);
        assert_eq!(world.hub.release(sub), Some(0));
    }
    assert_eq!(world.hub.topics(), 0);
    assert!(world.hub.conn(conn).unwrap().subs().is_empty());
    assert!(!world.hub.needs_flush());
}

#[test]
fn a_publish_to_nobody_makes_no_topic() {
    let mut world = World::new(WHOLE);
    world.say("a", "1");
    assert_eq!(world.hub.topics(), 0);
    assert_eq!(world.hub.stats.published, 1);
}

#[test]
fn a_connection_that_is_gone_takes_no_place() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    world.hub.remove(conn);
    let sub = world.join(conn, "a");
    assert_eq!(sub, SubKey::default());
    assert_eq!(world.hub.topics(), 0);
}

#[test]
fn a_removed_connection_gives_back_its_places_served_or_not() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    for (n, topic) in ["a", "b", "c"].into_iter().enumerate() {
        let seat = u32::try_from(n).unwrap();
        let sub = world
            .hub
            .reserve(conn, topic, Policy::default(), None, seat);
        if n < 2 {
            world.hub.activate(sub);
        }
    }
    assert_eq!(world.hub.remove(conn), [0, 1, 2]);
    assert_eq!((world.hub.topics(), world.hub.connections()), (0, 0));
    assert!(world.hub.remove(conn).is_empty(), "once");
    assert_eq!((world.hub.stats.opened, world.hub.stats.closed), (1, 1));
}

#[test]
fn a_place_is_found_by_its_topic_however_many_there_are() {
    let mut world = World::new(WHOLE);
    let (conn, other) = (world.connect(), world.connect());
    let names: Vec<String> = (0..20).map(|n| format!("room:{n}")).collect();
    let mut subs = Vec::new();
    for (n, name) in names.iter().enumerate() {
        subs.push(world.join(conn, name));
        for (known, sub) in names.iter().zip(&subs) {
            assert_eq!(world.hub.find(conn, known), Some(*sub), "{n} places");
        }
        assert_eq!(world.hub.find(conn, "room:none"), None);
    }
    world.join(other, "elsewhere");
    assert_eq!(world.hub.find(conn, "elsewhere"), None);
    assert_eq!(world.hub.find(other, "room:1"), None);
    assert_eq!(world.hub.topic_name(subs[3]).as_deref(), Some("room:3"));
    world.hub.release(subs[3]);
    assert_eq!(world.hub.find(conn, "room:3"), None);
    assert_eq!(world.hub.topic_name(subs[3]), None);
    assert!(world.hub.sub(subs[3]).is_none());
}

// -- socket ids

#[test]
fn connections_are_found_by_their_socket_id_until_they_are_gone() {
    let mut hub: Hub<u32> = Hub::new(WHOLE, 1);
    let open = |hub: &mut Hub<u32>, id| hub.open(NEW, 0, Sink::Transport, id);
    let ann = open(&mut hub, Some("user:1"));
    let tab = open(&mut hub, Some("user:1"));
    let bob = open(&mut hub, Some("user:2"));
    open(&mut hub, None);
    assert_eq!(hub.by_id("user:1"), [ann, tab]);
    assert_eq!(hub.by_id("user:2"), [bob]);
    assert!(hub.by_id("user:3").is_empty());
    hub.remove(ann);
    assert_eq!(hub.by_id("user:1"), [tab]);
    hub.remove(tab);
    assert!(hub.by_id("user:1").is_empty());
    assert_eq!(hub.connections(), 2);
    assert_eq!(hub.connection_keys().count(), 2);
}

// -- silence

fn overdue_after(hub: &mut Hub<u32>, now_ms: u64) -> Vec<(ConnKey, Overdue)> {
    hub.set_now(now_ms);
    let silence = |mount| Silence {
        idle_ms: [60_000, 1_000, 0][usize::from(mount)],
        ping_ms: 0,
    };
    hub.sweep(&silence, &mut |_, _| None).overdue
}

fn idle_after(hub: &mut Hub<u32>, now_ms: u64) -> Vec<ConnKey> {
    let overdue = overdue_after(hub, now_ms);
    assert!(overdue.iter().all(|(_, why)| *why == Overdue::Idle));
    overdue.into_iter().map(|(conn, _)| conn).collect()
}

#[test]
fn silence_is_measured_by_each_mounts_own_limit_and_ends_with_any_frame() {
    let mut hub: Hub<u32> = Hub::new(WHOLE, 1);
    let conns: Vec<_> = (0..3)
        .map(|mount| hub.open(NEW, mount, Sink::Transport, None))
        .collect();
    assert!(idle_after(&mut hub, 999).is_empty());
    assert_eq!(idle_after(&mut hub, 1_000), [conns[1]]);
    hub.touch(conns[1]);
    assert!(idle_after(&mut hub, 1_999).is_empty());
    assert_eq!(idle_after(&mut hub, 60_000), [conns[0], conns[1]]);
    hub.close(conns[0], 1002, false, closing(1002, "idle"));
    assert_eq!(
        idle_after(&mut hub, 60_001),
        [conns[1]],
        "a goodbye is under way"
    );
    // Frames to the client are no sign of its life.
    hub.direct(conns[1], |out| out.extend_from_slice(&[0x81, 0]));
    assert_eq!(idle_after(&mut hub, 60_002), [conns[1]]);
    hub.touch(ConnKey::default());
}

#[test]
fn a_silent_client_is_pinged_once_and_closed_only_if_it_does_not_answer() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    let silence = |idle_ms| {
        move |_| Silence {
            idle_ms,
            ping_ms: 20_000,
        }
    };
    let check = |world: &mut World, now, idle_ms| {
        world.hub.set_now(now);
        let swept = world.hub.sweep(&silence(idle_ms), &mut |_, _| None);
        (swept.to_ping, swept.overdue)
    };
    let ping = || vec![conn];
    let idle = || vec![(conn, Overdue::Idle)];
    assert_eq!(check(&mut world, 19_999, 60_000), (vec![], vec![]));
    assert_eq!(check(&mut world, 20_000, 60_000), (ping(), vec![]));
    assert_eq!(check(&mut world, 45_000, 60_000), (vec![], vec![]), "once");
    world.hub.touch(conn);
    assert_eq!(check(&mut world, 64_999, 60_000), (vec![], vec![]));
    assert_eq!(check(&mut world, 65_000, 60_000), (ping(), vec![]));
    assert_eq!(check(&mut world, 105_000, 60_000), (vec![], idle()));
    // Where silence closes nobody an unanswered ping does.
    world.hub.touch(conn);
    assert_eq!(check(&mut world, 125_000, 0), (ping(), vec![]));
    assert_eq!(check(&mut world, 144_999, 0), (vec![], vec![]));
    assert_eq!(check(&mut world, 145_000, 0), (vec![], idle()));
}

#[test]
fn a_message_in_pieces_has_a_minute_whatever_comes_in_between() {
    let mut hub: Hub<u32> = Hub::new(WHOLE, 1);
    let conn = hub.open(NEW, 1, Sink::Transport, None);
    let mut begun: Option<u64> = None;
    let mut sweep = |now: u64, begun: Option<u64>| {
        hub.set_now(now);
        hub.touch(conn);
        let silence = |_| Silence {
            idle_ms: 1_000,
            ping_ms: 0,
        };
        hub.sweep(&silence, &mut |_, _| begun).overdue
    };
    begun.replace(100);
    for now in (100..60_100).step_by(500) {
        assert!(sweep(now, begun).is_empty());
    }
    assert_eq!(sweep(60_100, begun), [(conn, Overdue::Unfinished)]);
    assert!(sweep(60_100, None).is_empty(), "it is whole");
    assert!(
        sweep(60_200, Some(60_200)).is_empty(),
        "another has its own"
    );
}

// -- closing

#[test]
fn a_close_that_is_not_answered_in_time_is_cut() {
    let mut world = World::new(SLICED);
    let conn = world.subscriber("a");
    world.hub.set_now(1_000);
    world.hub.close(conn, 1001, false, closing(1001, "bye"));
    world.turn();
    assert_eq!(world.hub.next_deadline(), Some(6_000));
    let cut = |world: &mut World, now| {
        world.hub.set_now(now);
        world.hub.cut_overdue();
        world.carry_out();
    };
    cut(&mut world, 5_999);
    assert!(world.actions.is_empty());
    cut(&mut world, 6_000);
    assert_eq!(world.actions, [Action::Abort(conn)]);
    assert_eq!(world.hub.next_deadline(), None);
    assert_eq!(world.frames(conn), [Frame::Close(1001, "bye".to_owned())]);
}

#[test]
fn a_close_that_a_reader_does_not_take_is_cut_too() {
    let mut world = World::new(SLICED);
    let conn = world.subscriber("a");
    world.block(conn);
    world.hub.close(conn, 1000, true, closing(1000, ""));
    world.turn();
    assert!(world.actions.is_empty());
    world.hub.set_now(SLICED.close_grace_ms);
    world.hub.cut_overdue();
    world.carry_out();
    assert_eq!(world.actions, [Action::Abort(conn)]);
    world.remove(conn);
    assert_eq!(world.hub.stats.outbox_bytes, 0);
}

#[test]
fn each_close_has_its_own_deadline_and_those_that_ended_before_it_have_none() {
    let mut world = World::new(SLICED);
    let conns: Vec<_> = (0..4).map(|_| world.connect()).collect();
    for (conn, now) in conns.iter().zip([100, 200, 300, 400]) {
        world.hub.set_now(now);
        world.hub.close(*conn, 1001, false, closing(1001, "bye"));
    }
    world.turn();
    world.remove(conns[0]);
    world.remove(conns[2]);
    assert_eq!(world.hub.next_deadline(), Some(5_200));
    world.hub.set_now(5_399);
    world.hub.cut_overdue();
    world.carry_out();
    assert_eq!(world.actions, [Action::Abort(conns[1])]);
    assert_eq!(world.hub.next_deadline(), Some(5_400));
}

#[test]
fn of_one_that_floods_after_our_close_no_more_is_read_than_may_be_under_way() {
    let mut world = World::new(SLICED);
    let flood = world.connect();
    world.hub.close(flood, 1008, false, closing(1008, "enough"));
    world.turn();
    let mut read = 0;
    while world.hub.is_read(flood) {
        world.hub.discard_input(flood, 65_536);
        read += 65_536;
    }
    assert!(read <= 8 << 20, "{read}");
    assert!(!world.hub.is_read(ConnKey::default()));
}

// -- history

fn offsets(history: &History, offset: u64) -> Option<Vec<u64>> {
    match history.since(Position {
        epoch: history.epoch(),
        offset,
    }) {
        Recovery::Complete(kept) => Some(kept.iter().map(|kept| kept.offset).collect()),
        Recovery::Gap => None,
    }
}

fn keep(world: &mut World, topic: &str, text: &str) {
    world.publish(&message(topic, text).policy(KEEPING));
}

fn history<'w>(world: &'w World, topic: &str) -> &'w History {
    let topic = world.hub.topic_by_name(topic).expect("a topic");
    topic.history.as_ref().expect("a history")
}

#[test]
fn what_is_published_is_kept_whether_somebody_hears_it_or_not() {
    let mut world = World::new(WHOLE);
    keep(&mut world, "a", "1");
    let conn = world.connect();
    let sub = world.join_with(conn, "a", KEEPING, None);
    keep(&mut world, "a", "2");
    world.turn();
    assert_eq!(world.texts(conn), ["2"]);
    world.hub.release(sub);
    keep(&mut world, "a", "3");
    assert_eq!(offsets(history(&world, "a"), 0), Some(vec![1, 2, 3]));
    let kept = match history(&world, "a").since(Position {
        epoch: 1,
        offset: 2,
    }) {
        Recovery::Complete(kept) => kept[0].clone(),
        Recovery::Gap => panic!("it is there"),
    };
    assert_eq!((&*kept.event, &*kept.payload), ("said", &b"3"[..]));
    keep(&mut world, "a", "4");
    assert_eq!(offsets(history(&world, "a"), 0), None, "the first has gone");
    assert_eq!(offsets(history(&world, "a"), 1), Some(vec![2, 3, 4]));
}

#[test]
fn a_topic_without_that_policy_keeps_nothing() {
    let mut world = World::new(WHOLE);
    world.subscriber("a");
    keep(&mut world, "a", "the policy is that of the first who came");
    assert!(world.hub.topic_by_name("a").unwrap().history.is_none());
}

#[test]
fn a_history_past_its_age_is_forgotten_with_its_topic() {
    let mut world = World::new(WHOLE);
    for n in 0..100 {
        keep(&mut world, &format!("room:{n}"), "hello");
    }
    assert_eq!(world.hub.topics(), 100);
    world.hub.set_now(1000);
    world.sweep(Silence::default());
    assert_eq!(world.hub.topics(), 100);
    world.subscriber("room:7");
    world.hub.set_now(1001);
    world.sweep(Silence::default());
    assert_eq!(world.hub.topics(), 1, "somebody is still on one");
    assert!(history(&world, "room:7").is_empty());
}

#[test]
fn an_offset_of_a_forgotten_life_is_never_taken_for_one_of_the_next() {
    let mut world = World::new(WHOLE);
    for n in 0..5 {
        keep(&mut world, "a", &format!("old {n}"));
    }
    keep(&mut world, "b", "b");
    world.hub.set_now(5_000);
    world.sweep(Silence::default());
    assert_eq!(world.hub.topics(), 0);
    for n in 0..2 {
        keep(&mut world, "a", &format!("new {n}"));
    }
    for offset in 0..8 {
        let old = Position { epoch: 1, offset };
        assert_eq!(history(&world, "a").since(old), Recovery::Gap, "{offset}");
    }
    assert_eq!(offsets(history(&world, "a"), 0), Some(vec![1, 2]), "dense");
    assert_eq!(offsets(history(&world, "a"), 2), Some(vec![]));
    assert_eq!(offsets(history(&world, "a"), 3), None);
}
