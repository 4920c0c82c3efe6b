//! A driver for the hub, and clients at the other end of it.
//!
//! The world plays the event loop and the transports exactly as the hub's contract says: after a
//! flush it closes slow readers, hands queued bytes to the connection's transport, calls `resume`
//! when that is empty, and notes the actions. Connections are either pure (`Sink::Transport`: no
//! descriptor anywhere) or real socket pairs with small buffers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use moda_core::hub::{
    Action, Codec, Config, Conn, ConnKey, Encode, Hub, Intercepts, Policy, Publish, Silence, Sink,
    SubKey,
};
use moda_core::log::Position;
use moda_core::ws::{self, Opcode};

use crate::frames::{self, Frame};

/// Every call of `flush` serves sixteen sockets and returns: slicing without waiting for a clock.
pub const SLICED: Config = Config {
    outbox_bytes: 1 << 20,
    outbox_burst: 0,
    stall_ms: 10_000,
    outboxes_bytes: 1 << 40,
    log_bytes: 64 << 20,
    history_bytes: 256 << 20,
    slice: Duration::ZERO,
    close_grace_ms: 5_000,
};

/// A slice so long that a flush does everything at once.
pub const WHOLE: Config = Config {
    slice: Duration::from_secs(3_600),
    ..SLICED
};

/// One message to publish; its frame is its text, marked for a V1 client.
pub struct Message<'a> {
    topic: &'a str,
    text: &'a str,
    event: &'a str,
    key: Option<&'a str>,
    exclude: SubKey,
    policy: Policy,
    v2_only: bool,
    encoded: Option<&'a Cell<[u32; 2]>>,
}

pub fn message<'a>(topic: &'a str, text: &'a str) -> Message<'a> {
    Message {
        topic,
        text,
        event: "said",
        key: None,
        exclude: SubKey::default(),
        policy: Policy::default(),
        v2_only: false,
        encoded: None,
    }
}

impl<'a> Message<'a> {
    pub fn from(self, exclude: SubKey) -> Self {
        Self { exclude, ..self }
    }

    pub fn event(self, event: &'a str) -> Self {
        Self { event, ..self }
    }

    pub fn key(self, key: &'a str) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// A message that V1 cannot carry, as binary ones are.
    pub fn v2_only(self) -> Self {
        Self {
            v2_only: true,
            ..self
        }
    }

    pub fn counting(self, encoded: &'a Cell<[u32; 2]>) -> Self {
        Self {
            encoded: Some(encoded),
            ..self
        }
    }
}

/// Two codecs: what one says bare, the other marks.
pub const OLD: Codec = Codec::new(0).unwrap();
pub const NEW: Codec = Codec::new(1).unwrap();

/// A close frame as the last bytes of a connection.
pub fn closing(code: u16, reason: &'static str) -> impl FnOnce(&mut Vec<u8>) {
    move |out| {
        ws::frame_into(out, Opcode::Close, |out| {
            out.extend_from_slice(&ws::close_payload(code, reason));
        });
    }
}

struct Say<'a>(&'a Message<'a>);

impl Encode for Say<'_> {
    fn encode(&self, codec: Codec, _: Option<Position>, out: &mut Vec<u8>) -> bool {
        if let Some(cell) = self.0.encoded {
            let mut counts = cell.get();
            counts[codec.index()] += 1;
            cell.set(counts);
        }
        if codec == OLD && self.0.v2_only {
            return false;
        }
        say(out, &as_spoken(codec, self.0.text));
        true
    }
}

/// What a client of `codec` reads when `text` is published.
pub fn as_spoken(codec: Codec, text: &str) -> String {
    if codec == OLD {
        format!("v1 {text}")
    } else {
        text.to_owned()
    }
}

fn say(out: &mut Vec<u8>, text: &str) {
    ws::frame_sized(out, Opcode::Text, text.len(), |out| {
        out.extend_from_slice(text.as_bytes());
    });
}

pub fn intercepting(events: &[&str]) -> Intercepts {
    Arc::new(events.iter().map(|e| Box::from(*e)).collect())
}

enum End {
    Pure,
    Socket {
        server: Option<UnixStream>,
        client: Option<UnixStream>,
    },
}

struct Peer {
    end: End,
    /// Bytes the transport holds.
    buffer: Vec<u8>,
    /// The transport cannot write, whatever the socket says.
    stuck: bool,
    /// Bytes the client has and that make no whole frame yet.
    received: Vec<u8>,
}

pub struct World {
    pub hub: Hub<u32>,
    pub actions: Vec<Action>,
    /// Connections that the hub gave up as too slow.
    pub slow: Vec<ConnKey>,
    peers: BTreeMap<ConnKey, Peer>,
}

impl World {
    pub fn new(config: Config) -> Self {
        Self {
            hub: Hub::new(config, 1),
            actions: Vec::new(),
            slow: Vec::new(),
            peers: BTreeMap::new(),
        }
    }

    // -- clients

    pub fn connect(&mut self) -> ConnKey {
        self.connect_as(NEW)
    }

    pub fn connect_as(&mut self, codec: Codec) -> ConnKey {
        let conn = self.hub.open(codec, 0, Sink::Transport, None);
        self.add(conn, End::Pure);
        conn
    }

    /// A connection over a real socket pair whose buffers take only a few kilobytes.
    pub fn connect_socket(&mut self) -> ConnKey {
        self.adopt(socket_pair())
    }

    /// A connection over these two ends.
    pub fn adopt(&mut self, (server, client): (UnixStream, UnixStream)) -> ConnKey {
        let sink = Sink::Socket(server.as_raw_fd());
        let conn = self.hub.open(NEW, 0, sink, None);
        let end = End::Socket {
            server: Some(server),
            client: Some(client),
        };
        self.add(conn, end);
        conn
    }

    fn add(&mut self, conn: ConnKey, end: End) {
        let peer = Peer {
            end,
            buffer: Vec::new(),
            stuck: false,
            received: Vec::new(),
        };
        self.peers.insert(conn, peer);
    }

    /// The server's end of a connection's socket.
    pub fn descriptor(&self, conn: ConnKey) -> RawFd {
        match &self.peers[&conn].end {
            End::Socket {
                server: Some(server),
                ..
            } => server.as_raw_fd(),
            _ => panic!("{conn:?} has no descriptor"),
        }
    }

    /// The client closes its socket without a word.
    pub fn vanish(&mut self, conn: ConnKey) {
        if let End::Socket { client, .. } = &mut self.peer(conn).end {
            *client = None;
        }
    }

    /// Takes a connection out of the hub and gives its sockets to the caller.
    pub fn remove(&mut self, conn: ConnKey) -> Option<(UnixStream, UnixStream)> {
        self.hub.remove(conn);
        match self.peers.remove(&conn)?.end {
            End::Socket { server, client } => Some((server?, client?)),
            End::Pure => None,
        }
    }

    fn peer(&mut self, conn: ConnKey) -> &mut Peer {
        self.peers.get_mut(&conn).expect("a connection of ours")
    }

    /// The client stops reading: its transport keeps what it is given.
    pub fn stall(&mut self, conn: ConnKey) {
        self.peer(conn).stuck = true;
    }

    /// Stops a pure client so that the hub knows: what comes from now on meets a blocked reader.
    pub fn block(&mut self, conn: ConnKey) {
        self.stall(conn);
        self.hub
            .direct(conn, |out| say(out, "last before the block"));
        self.turn();
        assert!(self.hub.conn(conn).is_some_and(Conn::is_blocked));
    }

    /// The client reads again.
    pub fn read_again(&mut self, conn: ConnKey) {
        self.peer(conn).stuck = false;
        self.write_out(conn);
        self.carry_out();
    }

    // -- topics

    pub fn join(&mut self, conn: ConnKey, topic: &str) -> SubKey {
        self.join_with(conn, topic, Policy::default(), None)
    }

    pub fn join_with(
        &mut self,
        conn: ConnKey,
        topic: &str,
        policy: Policy,
        intercepts: Option<Intercepts>,
    ) -> SubKey {
        let sub = self.hub.reserve(conn, topic, policy, intercepts, 0);
        self.hub.activate(sub);
        sub
    }

    /// Connects and joins in one breath.
    pub fn subscriber(&mut self, topic: &str) -> ConnKey {
        let conn = self.connect();
        self.join(conn, topic);
        conn
    }

    pub fn say(&mut self, topic: &str, text: &str) {
        self.publish(&message(topic, text));
    }

    pub fn publish(&mut self, message: &Message<'_>) -> Vec<SubKey> {
        let published = self.hub.publish(&Publish {
            topic: message.topic,
            event: message.event,
            payload: message.text.as_bytes(),
            binary: false,
            key: message.key,
            exclude: message.exclude,
            encode: Say(message),
            policy: message.policy.clone(),
            at: None,
        });
        published.interceptors
    }

    /// A look at all connections that finds nobody; every mount makes this of silence.
    pub fn sweep(&mut self, silence: Silence) {
        let swept = self.hub.sweep(&|_| silence, &mut |_, _| None);
        assert!(swept.overdue.is_empty() && swept.to_ping.is_empty());
    }

    /// A frame for one connection, behind all broadcasts.
    pub fn tell(&mut self, conn: ConnKey, text: &str) {
        self.hub.ordered(conn, |out| say(out, text));
    }

    /// A frame for one connection that need not wait.
    pub fn beat(&mut self, conn: ConnKey, text: &str) {
        self.hub.direct(conn, |out| say(out, text));
    }

    // -- the driver

    /// Turns of the loop until nothing is left that could be sent.
    pub fn turn(&mut self) {
        while self.slice() {}
    }

    /// One turn of the loop: one slice of fan-out. True when more is left.
    pub fn slice(&mut self) -> bool {
        self.hub.flush();
        self.carry_out();
        self.hub.needs_flush()
    }

    /// What the hub's contract asks of the driver.
    pub fn carry_out(&mut self) {
        loop {
            let slow = self.hub.take_slow();
            for conn in &slow {
                self.hub
                    .close(*conn, 1013, false, closing(1013, "slow reader"));
            }
            let mut idle = slow.is_empty();
            self.slow.extend(slow);
            while let Some((conn, bytes)) = self.hub.next_write() {
                idle = false;
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.buffer.extend_from_slice(&bytes);
                    self.write_out(conn);
                }
            }
            while let Some(action) = self.hub.next_action() {
                idle = false;
                self.actions.push(action);
            }
            if idle {
                return;
            }
        }
    }

    /// The transport tries to get rid of what it holds, and says so when it has.
    fn write_out(&mut self, conn: ConnKey) {
        let peer = self.peer(conn);
        if peer.stuck {
            return;
        }
        match &mut peer.end {
            End::Pure => peer.received.append(&mut peer.buffer),
            End::Socket { server, .. } => {
                let mut server = server.as_ref().expect("an open socket");
                while !peer.buffer.is_empty() {
                    match server.write(&peer.buffer) {
                        Ok(written) => drop(peer.buffer.drain(..written)),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                        // The hub learns of it by its own send, or from the loop.
                        Err(_) => return peer.buffer.clear(),
                    }
                }
            }
        }
        self.hub.resume(conn);
    }

    // -- what clients got

    /// Whole frames that arrived since the last question. What a stalled transport holds has not.
    pub fn frames(&mut self, conn: ConnKey) -> Vec<Frame> {
        let peer = self.peer(conn);
        if let End::Socket {
            client: Some(client),
            ..
        } = &mut peer.end
        {
            read_all(client, &mut peer.received);
        }
        frames::take(&mut peer.received)
    }

    /// As [`World::frames`], of a client that is sent text alone.
    pub fn texts(&mut self, conn: ConnKey) -> Vec<String> {
        only_texts(self.frames(conn))
    }

    /// The client reads, the transport writes, the loop turns, until all has arrived.
    pub fn frames_to_the_end(&mut self, conn: ConnKey) -> Vec<Frame> {
        let mut all = Vec::new();
        loop {
            self.turn();
            let some = self.frames(conn);
            let quiet = some.is_empty() && self.peer(conn).buffer.is_empty();
            all.extend(some);
            if quiet {
                break;
            }
            self.read_again(conn);
        }
        assert!(
            self.peer(conn).received.is_empty(),
            "half a frame at the end"
        );
        all
    }

    /// As [`World::frames_to_the_end`], of a client that is sent text alone.
    pub fn texts_to_the_end(&mut self, conn: ConnKey) -> Vec<String> {
        only_texts(self.frames_to_the_end(conn))
    }
}

fn only_texts(frames: Vec<Frame>) -> Vec<String> {
    frames
        .into_iter()
        .map(|frame| match frame {
            Frame::Text(text) => text,
            other => panic!("{other:?} among texts"),
        })
        .collect()
}

/// Reads what a socket holds; an end or an error is nothing more to read.
pub fn read_all(mut client: &UnixStream, into: &mut Vec<u8>) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(n @ 1..) = client.read(&mut chunk) {
        into.extend_from_slice(&chunk[..n]);
    }
}

/// Server's end and client's end, neither of which blocks; the server's kernel buffer is as small
/// as the kernel allows.
pub fn socket_pair() -> (UnixStream, UnixStream) {
    let (server, client) = UnixStream::pair().expect("a socket pair");
    server.set_nonblocking(true).expect("nonblocking");
    client.set_nonblocking(true).expect("nonblocking");
    let size: libc::c_int = 1;
    // SAFETY: the option's value is a live c_int and its size is given.
    let done = unsafe {
        libc::setsockopt(
            server.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            std::ptr::from_ref(&size).cast(),
            libc::socklen_t::try_from(std::mem::size_of_val(&size)).expect("four"),
        )
    };
    assert_eq!(done, 0, "SO_SNDBUF");
    (server, client)
}
