//! How connections, topics and histories come into being and end, and that nothing is left of them.

use moda_core::hub::{
    Action, Codec, ConnKey, Delivery, History, HistoryLimits, Hub, Overdue, Policy, Recovery,
    Silence, Sink, SubKey,
};
use moda_core::ws::Opcode;

use crate::frames::Frame;
use crate::world::{message, World, SLICED, WHOLE};

const KEEPING: Policy = Policy {
    delivery: Delivery::Every,
    history: Some(HistoryLimits {
        size: 3,
        ttl_ms: 1000,
        bytes: 1000,
    }),
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
    let open = |hub: &mut Hub<u32>, id| hub.open(Codec::PhoenixV2, 0, Sink::Transport, id);
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
    hub.sweep(&|mount| Silence {
        idle_ms: [60_000, 1_000, 0][usize::from(mount)],
        ping_ms: 0,
    })
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
        .map(|mount| hub.open(Codec::PhoenixV2, mount, Sink::Transport, None))
        .collect();
    assert!(idle_after(&mut hub, 999).is_empty());
    assert_eq!(idle_after(&mut hub, 1_000), [conns[1]]);
    hub.touch(conns[1]);
    assert!(idle_after(&mut hub, 1_999).is_empty());
    assert_eq!(idle_after(&mut hub, 60_000), [conns[0], conns[1]]);
    hub.close(conns[0], 1002, "idle", false);
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

/// Bytes of a client, as a driver hands them over.
fn bytes_come(hub: &mut Hub<u32>, conn: ConnKey, bytes: &[u8]) {
    hub.touch(conn);
    let mut bytes = bytes.to_vec();
    let reader = &mut hub.conn_mut(conn).unwrap().reader;
    reader.next(&mut &mut bytes[..], 1000).unwrap();
}

#[test]
fn half_a_frame_is_a_sign_of_life_until_it_takes_too_long() {
    let mut hub: Hub<u32> = Hub::new(WHOLE, 1);
    let conn = hub.open(Codec::PhoenixV2, 1, Sink::Transport, None);
    bytes_come(&mut hub, conn, &[0x81]);
    assert!(idle_after(&mut hub, 900).is_empty());
    bytes_come(&mut hub, conn, &[0xff]);
    assert!(idle_after(&mut hub, 1_800).is_empty(), "a byte is life");
    assert_eq!(
        idle_after(&mut hub, 1_900),
        [conn],
        "and its end is silence"
    );
    for now in (1_900..60_900).step_by(500) {
        hub.set_now(now);
        bytes_come(&mut hub, conn, &[]);
        assert!(idle_after(&mut hub, now).is_empty());
    }
    assert_eq!(
        overdue_after(&mut hub, 60_900),
        [(conn, Overdue::Unfinished)]
    );
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
        let overdue = world.hub.sweep(&silence(idle_ms));
        world.turn();
        (world.frames(conn), overdue)
    };
    let ping = || vec![Frame::Ping(Vec::new())];
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
    assert_eq!(world.hub.stats.pings, 3);
}

#[test]
fn a_message_in_pieces_has_a_minute_whatever_comes_in_between() {
    let mut hub: Hub<u32> = Hub::new(WHOLE, 1);
    let conn = hub.open(Codec::PhoenixV2, 1, Sink::Transport, None);
    let feed = |hub: &mut Hub<u32>, op, fin| {
        hub.touch(conn);
        let assembler = &mut hub.conn_mut(conn).unwrap().assembler;
        assembler.push(op, fin, false, b"x", 10).unwrap();
    };
    feed(&mut hub, Opcode::Text, false);
    assert!(idle_after(&mut hub, 100).is_empty());
    for now in (500..60_100).step_by(500) {
        hub.set_now(now);
        feed(&mut hub, Opcode::Ping, true);
        assert!(idle_after(&mut hub, now).is_empty());
    }
    assert_eq!(
        overdue_after(&mut hub, 60_100),
        [(conn, Overdue::Unfinished)]
    );
    feed(&mut hub, Opcode::Continuation, true);
    assert!(idle_after(&mut hub, 60_100).is_empty(), "it is whole");
    feed(&mut hub, Opcode::Text, false);
    assert!(
        idle_after(&mut hub, 60_200).is_empty(),
        "another has its own"
    );
}

// -- closing

#[test]
fn a_close_that_is_not_answered_in_time_is_cut() {
    let mut world = World::new(SLICED);
    let conn = world.subscriber("a");
    world.hub.set_now(1_000);
    world.hub.close(conn, 1001, "bye", false);
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
    world.hub.close(conn, 1000, "", true);
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
        world.hub.close(*conn, 1001, "bye", false);
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
fn of_one_that_was_told_goodbye_its_answer_is_found_and_no_flood_is_read_to_its_end() {
    let mut world = World::new(SLICED);
    let (polite, flood) = (world.connect(), world.connect());
    for conn in [polite, flood] {
        world.hub.close(conn, 1008, "enough", false);
    }
    world.turn();
    let mut bytes = vec![0x82, 0xfe, 0x10, 0x00, 1, 2, 3, 4];
    bytes.resize(8 + 4096, 7);
    world.hub.discard_input(polite, &bytes);
    bytes.truncate(100);
    world.hub.discard_input(polite, &bytes);
    assert_eq!(world.hub.wants(polite), Some(4096 - 92));
    world.hub.discard_input(polite, &vec![9; 4096 - 92]);
    world.hub.discard_input(polite, &[0x88, 0x82, 1, 2, 3]);
    assert!(world.actions.is_empty());
    world.hub.discard_input(polite, &[4, 5, 6]);
    world.turn();
    assert_eq!(world.actions, [Action::Close(polite)]);
    let mut read = 0;
    while world.hub.wants(flood).is_some() {
        world.hub.discard_input(flood, &vec![0x82; 65_536]);
        read += 65_536;
    }
    assert!(read <= 8 << 20, "{read}");
    assert_eq!(world.hub.wants(ConnKey::default()), None);
}

// -- history

fn offsets(history: &History, offset: u64) -> Option<Vec<u64>> {
    match history.since(history.epoch(), offset) {
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
    let kept = match history(&world, "a").since(1, 2) {
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
    world.hub.sweep(&|_| Silence::default());
    assert_eq!(world.hub.topics(), 100);
    world.subscriber("room:7");
    world.hub.set_now(1001);
    world.hub.sweep(&|_| Silence::default());
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
    world.hub.sweep(&|_| Silence::default());
    assert_eq!(world.hub.topics(), 0);
    for n in 0..2 {
        keep(&mut world, "a", &format!("new {n}"));
    }
    // Whoever saw all five of the old life misses the two of the new one; whoever saw fewer has a gap.
    assert_eq!(offsets(history(&world, "a"), 5), Some(vec![6, 7]));
    for lost in 0..5 {
        assert_eq!(offsets(history(&world, "a"), lost), None, "offset {lost}");
    }
    assert_eq!(offsets(history(&world, "a"), 7), Some(vec![]));
    assert_eq!(offsets(history(&world, "a"), 8), None);
}
