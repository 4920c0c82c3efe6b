//! The way to the sockets: short writes, full buffers, peers that go, descriptors that come back.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use moda_core::hub::{send, Action, Sent};

use crate::frames::{text, Frame};
use crate::world::{closing, read_all, socket_pair, World, SLICED, WHOLE};

fn numbered(n: usize, len: usize) -> Vec<String> {
    (0..n).map(|n| format!("{n:0len$}")).collect()
}

// -- send(2) itself

#[test]
fn send_takes_what_the_kernel_has_room_for_and_then_nothing() {
    let (server, client) = socket_pair();
    let big = vec![7; 1 << 20];
    let Sent::Bytes(first) = send(server.as_raw_fd(), &big) else {
        panic!("the peer is there");
    };
    assert!(first > 0 && first < big.len(), "a short write of {first}");
    while send(server.as_raw_fd(), &big) != Sent::Bytes(0) {}
    let mut got = Vec::new();
    read_all(&client, &mut got);
    assert!(got.len() >= first);
    assert!(matches!(send(server.as_raw_fd(), &big), Sent::Bytes(n) if n > 0));
}

#[test]
fn send_of_nothing_to_a_full_socket_is_no_error() {
    let (server, _client) = socket_pair();
    while send(server.as_raw_fd(), &[7; 4096]) != Sent::Bytes(0) {}
    assert_eq!(send(server.as_raw_fd(), &[]), Sent::Bytes(0));
}

#[test]
fn send_to_a_peer_that_is_gone_says_so_and_raises_no_signal() {
    let (server, client) = socket_pair();
    drop(client);
    // Without MSG_NOSIGNAL the test process would be killed here.
    assert_eq!(send(server.as_raw_fd(), b"hello"), Sent::Closed);
}

#[test]
fn send_to_what_is_no_socket_is_a_closed_peer() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(send(file.as_raw_fd(), b"hello"), Sent::Closed);
    assert_eq!(send(-1, b"hello"), Sent::Closed);
}

// -- the hub on sockets

#[test]
fn what_a_socket_did_not_take_follows_through_the_transport_in_order() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    world.join(conn, "a");
    let said = numbered(200, 500);
    for text in &said {
        world.say("a", text);
        world.turn();
    }
    assert!(world.hub.conn(conn).unwrap().is_blocked());
    assert!(world.hub.stats.short_sends >= 1);
    assert_eq!(world.texts_to_the_end(conn), said);
    assert!(!world.hub.conn(conn).unwrap().is_blocked());
    assert_eq!(world.hub.stats.outbox_bytes, 0);
    assert_eq!(world.hub.stats.deliveries, 200);
}

#[test]
fn every_byte_handed_to_a_socket_or_a_transport_is_counted_once() {
    let mut world = World::new(WHOLE);
    let (conn, pure) = (world.connect_socket(), world.connect());
    world.join(conn, "a");
    world.join(pure, "a");
    let said = numbered(100, 500);
    for text in &said {
        world.say("a", text);
        world.turn();
    }
    assert_eq!(world.texts_to_the_end(conn), said);
    assert_eq!(world.texts_to_the_end(pure), said);
    assert_eq!(world.hub.stats.bytes_out, 2 * 100 * (4 + 500));
    assert_eq!(world.hub.stats.messages_out, 200);
}

#[test]
fn frames_of_every_size_and_kind_keep_their_order_over_a_small_socket() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    world.join(conn, "a");
    world.join(conn, "b");
    let mut expected = Vec::new();
    for (n, len) in [1, 70_000, 126, 300_000, 5, 65_536, 2, 9]
        .iter()
        .enumerate()
    {
        let said = format!("{n}").repeat(*len);
        match n % 3 {
            0 => world.tell(conn, &said),
            1 => world.say("a", &said),
            _ => world.say("b", &said),
        }
        expected.push(said);
    }
    assert_eq!(world.texts_to_the_end(conn), expected);
    assert_eq!(world.hub.stats.outbox_bytes, 0);
}

#[test]
fn a_socket_that_is_full_from_the_start_takes_its_first_frame_later() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    world.join(conn, "a");
    let fd = world.descriptor(conn);
    let mut fillers = 0;
    while send(fd, b"\x81\x02ok") == Sent::Bytes(4) {
        fillers += 1;
    }
    world.say("a", "first");
    world.tell(conn, "second");
    world.turn();
    assert!(world.hub.conn(conn).unwrap().is_blocked());
    let mut got = world.texts_to_the_end(conn);
    assert_eq!(got.split_off(fillers), ["first", "second"]);
}

#[test]
fn a_peer_that_never_reads_costs_the_others_nothing() {
    let mut world = World::new(WHOLE);
    let conns: Vec<_> = (0..5).map(|_| world.connect_socket()).collect();
    for conn in &conns {
        world.join(*conn, "a");
    }
    let said = numbered(100, 200);
    for text in &said {
        world.say("a", text);
        world.turn();
        for conn in &conns[1..] {
            assert_eq!(world.texts(*conn), [text.as_str()]);
        }
    }
    assert!(world.hub.conn(conns[0]).unwrap().is_blocked());
    assert!(world.hub.stats.outbox_bytes > 0);
    assert_eq!(world.texts_to_the_end(conns[0]), said);
}

#[test]
fn a_peer_that_goes_during_a_fan_out_is_cut_and_the_others_are_served() {
    let mut world = World::new(SLICED);
    let conns: Vec<_> = (0..40).map(|_| world.connect_socket()).collect();
    for conn in &conns {
        world.join(*conn, "a");
    }
    world.say("a", "1");
    world.slice();
    // One has been served, one is next, one is last, one is served through its outbox.
    let gone = [conns[3], conns[16], conns[39], conns[20]];
    for conn in gone {
        world.vanish(conn);
    }
    world.tell(conns[20], "unheard");
    world.turn();
    world.say("a", "2");
    world.turn();
    assert_eq!(world.actions.len(), gone.len(), "each is cut once");
    for conn in gone {
        assert!(world.actions.contains(&Action::Abort(conn)));
    }
    for conn in conns.iter().filter(|conn| !gone.contains(conn)) {
        assert_eq!(world.texts(*conn), ["1", "2"]);
    }
    assert_eq!(world.hub.stats.outbox_bytes, 0);
}

#[test]
fn nothing_is_queued_for_a_connection_that_was_cut() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    world.join(conn, "a");
    world.vanish(conn);
    world.say("a", "1");
    world.turn();
    assert_eq!(world.actions, [Action::Abort(conn)]);
    let counted = world.hub.stats.clone();
    world.say("a", "2");
    world.tell(conn, "3");
    world.beat(conn, "4");
    world.hub.resume(conn);
    world.turn();
    assert!(!world.hub.conn(conn).unwrap().is_open());
    assert_eq!(world.hub.stats.outbox_bytes, 0);
    assert_eq!(world.hub.stats.deliveries, counted.deliveries);
    assert_eq!(world.hub.stats.messages_out, counted.messages_out);
    assert_eq!(world.hub.stats.sends, counted.sends);
    assert_eq!(world.actions, [Action::Abort(conn)]);
}

// -- a descriptor's next owner

/// Puts a new socket under a descriptor's number, as the kernel does for whoever opens one next.
/// Returns the new owner's two ends.
fn next_owner(old: UnixStream) -> (UnixStream, UnixStream) {
    let (server, client) = socket_pair();
    // SAFETY: both are open descriptors that this test owns; dup2 closes what `old` was and makes
    // its number the new socket in one step, so no other thread can be given the number between.
    let got = unsafe { libc::dup2(server.as_raw_fd(), old.as_raw_fd()) };
    assert_eq!(got, old.as_raw_fd());
    (old, client)
}

fn nothing_arrived(client: &UnixStream) {
    let mut got = Vec::new();
    read_all(client, &mut got);
    assert!(got.is_empty(), "the next owner got {got:?}");
}

#[test]
fn a_descriptors_next_owner_gets_nothing_of_a_fan_out_that_was_half_done() {
    let mut world = World::new(SLICED);
    let conns: Vec<_> = (0..40).map(|_| world.connect_socket()).collect();
    for conn in &conns {
        world.join(*conn, "a");
    }
    world.say("a", "1");
    world.slice();
    let (server, _client) = world.remove(conns[30]).unwrap();
    let (_server, client) = next_owner(server);
    world.say("a", "2");
    world.turn();
    nothing_arrived(&client);
    for conn in conns.iter().filter(|conn| **conn != conns[30]) {
        assert_eq!(world.texts(*conn), ["1", "2"]);
    }
}

#[test]
fn a_descriptors_next_owner_gets_nothing_of_what_was_queued_for_the_last() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    let sub = world.join(conn, "a");
    world.tell(conn, "in the outbox");
    world.say("a", "in the log");
    let (server, _client) = world.remove(conn).unwrap();
    let (_server, client) = next_owner(server);
    world.beat(conn, "too late");
    world.tell(conn, "too late");
    world.hub.activate(sub);
    assert_eq!(world.hub.release(sub), None);
    world.hub.close(conn, 1001, true, closing(1001, "too late"));
    world.hub.resume(conn);
    world.say("a", "too late");
    world.turn();
    nothing_arrived(&client);
    assert!(world.actions.is_empty());
    assert_eq!(world.hub.stats.outbox_bytes, 0);
}

#[test]
fn writes_and_actions_of_a_removed_connection_are_not_handed_to_the_driver() {
    let mut world = World::new(WHOLE);
    let (spilled, gone, other) = (
        world.connect_socket(),
        world.connect_socket(),
        world.connect(),
    );
    for conn in [spilled, gone, other] {
        world.join(conn, "a");
    }
    world.vanish(gone);
    let big = "x".repeat(500_000);
    world.say("a", &big);
    // The flush alone: what it leaves for the driver is not carried out before the removals.
    world.hub.flush();
    let (server, _client) = world.remove(spilled).unwrap();
    world.remove(gone);
    let (_server, client) = next_owner(server);
    let (key, bytes) = world.hub.next_write().expect("the third's bytes");
    assert_eq!((key, bytes.len()), (other, 10 + big.len()));
    assert!(world.hub.next_write().is_none());
    assert!(world.hub.next_action().is_none());
    nothing_arrived(&client);
}

#[test]
fn the_next_owner_of_a_descriptor_is_served_as_the_connection_it_is() {
    let mut world = World::new(SLICED);
    let conns: Vec<_> = (0..20).map(|_| world.connect_socket()).collect();
    for conn in &conns {
        world.join(*conn, "a");
    }
    world.say("a", "1");
    world.slice();
    let (server, _client) = world.remove(conns[19]).unwrap();
    let new = world.adopt(next_owner(server));
    world.join(new, "a");
    world.say("a", "2");
    world.turn();
    assert_eq!(world.texts(new), ["2"]);
}

// -- the last bytes

#[test]
fn a_close_frame_follows_all_that_was_queued_and_the_transport_closes_behind_it() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    world.join(conn, "a");
    let said = numbered(100, 500);
    for text in &said {
        world.say("a", text);
    }
    world.hub.close(conn, 1000, true, closing(1000, ""));
    world.turn();
    assert!(world.actions.is_empty(), "bytes are still on their way");
    let mut got = world.frames_to_the_end(conn);
    assert_eq!(got.pop(), Some(Frame::Close(1000, String::new())));
    assert_eq!(got, said.into_iter().map(text).collect::<Vec<_>>());
    assert_eq!(world.actions, [Action::Close(conn)]);
}

#[test]
fn after_our_close_the_transport_waits_for_the_peers() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    world.hub.hang_up(conn);
    world.hub.close(conn, 1001, false, closing(1001, "going"));
    world.turn();
    assert_eq!(world.frames(conn), [Frame::Close(1001, "going".to_owned())]);
    assert!(world.actions.is_empty(), "the peer has not answered");
    world.hub.hang_up(conn);
    world.turn();
    assert_eq!(world.actions, [Action::Close(conn)]);
    world.hub.block(conn);
    world.hub.resume(conn);
    world.turn();
    assert_eq!(world.actions.len(), 1, "said once");
}
