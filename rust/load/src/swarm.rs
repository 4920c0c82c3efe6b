//! Many Phoenix clients in one thread.
//!
//! A connection costs a descriptor and a few hundred bytes; one buffer serves every read, since a
//! message is looked at where it was received and only the head of an unfinished one is kept.
//! Probes, whose latency is the figure, live in an epoll set of their own that is looked at every
//! few dozen events: behind 10,000 readable subscribers they would measure our queue instead of the
//! server's.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::client::{Connection, Group, State, Target};
use crate::sys::{self, Epoll};
use crate::wire::{self, Upgrade};

/// What a bench does with what its clients receive.
pub trait Handler {
    /// Called before every wait: the place for what is sent by the clock. Returns how long the wait
    /// may last at most.
    fn tick(&mut self, _swarm: &mut Swarm) -> Duration {
        Duration::MAX
    }
    /// The connection has joined (or is open, when its group joins nothing).
    fn ready(&mut self, _connection: &mut Connection, _now: u64) {}
    /// A text frame came after that. `now` is when the read that brought it returned.
    fn message(&mut self, connection: &mut Connection, text: &[u8], now: u64);
}

/// The `ref` of joins and of keep-alive heartbeats. Benches number theirs with eight digits.
const JOIN_REF: &str = "1";
pub const KEEP_ALIVE_REF: &[u8] = b"k";
const KEEP_ALIVE: &[u8] = br#"[null,"k","phoenix","heartbeat",{}]"#;

/// What a client of a group that joins sends.
pub fn join(topic: &str) -> String {
    format!(r#"["{JOIN_REF}","{JOIN_REF}","{topic}","phx_join",{{}}]"#)
}

/// What it waits for.
pub fn joined(topic: &str) -> String {
    let payload = r#"{"status":"ok","response":{}}"#;
    format!(r#"["{JOIN_REF}","{JOIN_REF}","{topic}","phx_reply",{payload}]"#)
}

const URGENT: u64 = u64::MAX;
const BATCH: usize = 256;
const BETWEEN_URGENT: usize = 32;
const LONGEST_WAIT: Duration = Duration::from_millis(50);
const BUFFER: usize = 128 * 1024;

pub struct Swarm {
    pub connections: Vec<Connection>,
    /// What went wrong, in words, and how often.
    pub errors: BTreeMap<String, u64>,
    target: Target,
    source: Option<Ipv4Addr>,
    groups: Vec<Group>,
    main: Epoll,
    urgent: Epoll,
    has_urgent: bool,
    awake: bool,
    buffer: Vec<u8>,
    unsettled: usize,
    beats: u64,
    beats_since: u64,
}

impl Swarm {
    pub fn new(target: Target) -> io::Result<Self> {
        let (main, urgent) = (Epoll::new()?, Epoll::new()?);
        main.add(&urgent, sys::READABLE, URGENT)?;
        let [_, b, c, d] = (std::process::id().wrapping_mul(0x9e37_79b9)).to_be_bytes();
        let loopback = target.address.ip().is_loopback();
        Ok(Self {
            connections: Vec::new(),
            errors: BTreeMap::new(),
            target,
            source: loopback.then(|| Ipv4Addr::new(127, b | 1, c, d | 1)),
            groups: Vec::new(),
            main,
            urgent,
            has_urgent: false,
            awake: false,
            buffer: vec![0; BUFFER],
            unsettled: 0,
            beats: 0,
            beats_since: 0,
        })
    }

    /// Looks for events without ever sleeping.
    ///
    /// A reader that sleeps between two frames is woken for each, and in a virtual machine waking
    /// an idle core is an interrupt that its *sender* pays for: as much as the send itself, or
    /// nothing, depending on how busy the reader happens to be. Whoever compares two senders keeps
    /// the reader awake for both.
    pub fn stay_awake(&mut self) {
        self.awake = true;
    }

    /// Declares a group and returns its number.
    pub fn group(&mut self, group: Group) -> usize {
        self.has_urgent |= group.urgent;
        self.groups.push(group);
        self.groups.len() - 1
    }

    /// Opens `count` connections of a group and returns when each has joined or failed, or when the
    /// limit is over (the rest then count as timed out). At most `in_flight` are between connect
    /// and join at a time; 0 lets all of them arrive at once. Returns how many joined.
    pub fn open(
        &mut self,
        group: usize,
        count: usize,
        in_flight: usize,
        limit: Duration,
        handler: &mut impl Handler,
    ) -> io::Result<usize> {
        let first = self.connections.len();
        let end = sys::now() + nanoseconds(limit);
        let in_flight = if in_flight == 0 { count } else { in_flight };
        let mut opened = 0;
        while opened < count || self.unsettled > 0 {
            // A few at a time, then a look at the answers: a real crowd does not wait either.
            let burst = (count - opened)
                .min(in_flight.saturating_sub(self.unsettled))
                .min(64);
            for _ in 0..burst {
                self.connect(group);
            }
            opened += burst;
            let more = opened < count && self.unsettled < in_flight;
            self.poll(if more { Duration::ZERO } else { LONGEST_WAIT }, handler)?;
            if sys::now() > end {
                for id in first..self.connections.len() {
                    let state = self.connections[id].state;
                    if !matches!(state, State::Ready | State::Closed | State::Muted) {
                        self.fail(id, format!("timed out while {state:?}"));
                    }
                }
                break;
            }
        }
        Ok(self.connections[first..]
            .iter()
            .filter(|one| one.state == State::Ready)
            .count())
    }

    fn connect(&mut self, group: usize) {
        let id = self.connections.len();
        let started = sys::now();
        let settings = &self.groups[group];
        let opened = sys::connect(self.target.address, self.source, settings.receive_buffer);
        let set = if settings.urgent {
            &self.urgent
        } else {
            &self.main
        };
        let opened = opened.and_then(|socket| {
            set.add(&socket, sys::EDGES, id as u64)?;
            Ok(socket)
        });
        let (socket, error) = match opened {
            Ok(socket) => (Some(socket), None),
            Err(error) => (None, Some(error)),
        };
        self.connections
            .push(Connection::new(id, group, socket, started));
        self.unsettled += 1;
        if let Some(error) = error {
            self.fail(id, format!("connect: {error}"));
        }
    }

    fn fail(&mut self, id: usize, reason: String) {
        let connection = &mut self.connections[id];
        if connection.state == State::Closed {
            return;
        }
        if !matches!(connection.state, State::Ready | State::Muted) {
            self.unsettled -= 1;
        }
        connection.state = State::Closed;
        connection.socket = None;
        *self.errors.entry(reason).or_default() += 1;
    }

    /// Number of connections of a group that are open and joined.
    pub fn alive(&self, group: usize) -> usize {
        let joined = |state| matches!(state, State::Ready | State::Muted);
        self.connections
            .iter()
            .filter(|one| one.group == group && joined(one.state))
            .count()
    }

    /// Sends one text frame.
    pub fn send(&mut self, id: usize, text: &[u8]) {
        let connection = &mut self.connections[id];
        if matches!(connection.state, State::Ready | State::Muted) {
            connection.queue(text);
            if let Err(error) = connection.flush() {
                self.fail(id, format!("send: {error}"));
            }
        }
    }

    /// Sends what a connection has queued.
    pub fn flush(&mut self, id: usize) {
        if let Err(error) = self.connections[id].flush() {
            self.fail(id, format!("send: {error}"));
        }
    }

    /// Sends the heartbeats that are due when every connection sends one per `period`, evenly
    /// spread over it. Call it every few milliseconds.
    pub fn keep_alive(&mut self, period: Duration, now: u64) {
        if self.beats_since == 0 {
            self.beats_since = now;
        }
        let all = self.connections.len() as u64;
        let due = (now - self.beats_since) * all / nanoseconds(period).max(1);
        for _ in self.beats..due {
            let id = usize::try_from(self.beats % all).unwrap_or_default();
            self.beats += 1;
            if !self.groups[self.connections[id].group].raw {
                self.connections[id].beat = now;
                self.send(id, KEEP_ALIVE);
            }
        }
    }

    /// The connection reads nothing from now on.
    pub fn mute(&mut self, id: usize) {
        let connection = &mut self.connections[id];
        if let (State::Ready, Some(socket)) = (connection.state, &connection.socket) {
            // Nothing can be told apart if this fails: the socket is then read no more anyway.
            let _ = self.main.remove(socket);
            connection.state = State::Muted;
        }
    }

    /// Leaves without a word, as a client whose process ends.
    pub fn hang_up(&mut self, id: usize) {
        let connection = &mut self.connections[id];
        connection.state = State::Closed;
        connection.socket = None;
    }

    /// Reads what waits on a muted connection, to its end if the server has closed it.
    pub fn drain(&mut self, id: usize, handler: &mut impl Handler) {
        if self.connections[id].state == State::Muted {
            self.connections[id].state = State::Ready;
            self.read(id, true, handler);
        }
    }

    /// Polls until `done` says so or the limit is over; returns whether it was done.
    pub fn run<H: Handler>(
        &mut self,
        limit: Duration,
        handler: &mut H,
        mut done: impl FnMut(&Self, &H) -> bool,
    ) -> io::Result<bool> {
        let end = sys::now() + nanoseconds(limit);
        loop {
            if done(self, handler) {
                return Ok(true);
            }
            let left = end.saturating_sub(sys::now());
            if left == 0 {
                return Ok(false);
            }
            self.poll(Duration::from_nanos(left).min(LONGEST_WAIT), handler)?;
        }
    }

    /// Waits at most `limit` for one batch of events and serves it.
    pub fn poll(&mut self, limit: Duration, handler: &mut impl Handler) -> io::Result<()> {
        let tick = handler.tick(self);
        let limit = if self.awake {
            Duration::ZERO
        } else {
            limit.min(tick)
        };
        let mut events = [sys::NO_EVENT; BATCH];
        let ready = self.main.wait(&mut events, limit)?;
        for (index, event) in events[..ready].iter().enumerate() {
            let (bits, token) = (event.events, event.u64);
            if token == URGENT || (self.has_urgent && index % BETWEEN_URGENT == 0) {
                self.poll_urgent(handler)?;
            }
            if token != URGENT {
                self.serve(token, bits, handler);
            }
        }
        Ok(())
    }

    fn poll_urgent(&mut self, handler: &mut impl Handler) -> io::Result<()> {
        let mut events = [sys::NO_EVENT; BATCH];
        let ready = self.urgent.wait(&mut events, Duration::ZERO)?;
        for event in &events[..ready] {
            let (bits, token) = (event.events, event.u64);
            self.serve(token, bits, handler);
        }
        Ok(())
    }

    fn serve(&mut self, token: u64, bits: u32, handler: &mut impl Handler) {
        let Some(id) = usize::try_from(token)
            .ok()
            .filter(|id| *id < self.connections.len())
        else {
            return;
        };
        let connection = &mut self.connections[id];
        if matches!(connection.state, State::Closed | State::Muted) {
            return;
        }
        if connection.state == State::Connecting {
            let Some(socket) = &connection.socket else {
                return;
            };
            if let Err(error) = sys::connect_error(socket) {
                self.fail(id, format!("connect: {error}"));
                return;
            }
            if bits & (sys::WRITABLE | sys::ENDED) == 0 {
                return;
            }
            if self.groups[connection.group].raw {
                self.settle(id, sys::now(), handler);
            } else {
                connection.state = State::Upgrading;
                let request = wire::handshake(&self.target.host, &self.target.path);
                connection.queue_raw(&request);
            }
        }
        let connection = &mut self.connections[id];
        if !connection.out.is_empty() {
            if let Err(error) = connection.flush() {
                self.fail(id, format!("send: {error}"));
                return;
            }
        }
        if bits & (sys::READABLE | sys::ENDED) != 0 {
            self.read(id, false, handler);
        }
    }

    fn settle(&mut self, id: usize, now: u64, handler: &mut impl Handler) {
        self.unsettled -= 1;
        let connection = &mut self.connections[id];
        connection.state = State::Ready;
        connection.ready = now;
        handler.ready(connection, now);
    }

    /// Reads until the socket is empty. A short read says so by itself and saves the call that
    /// would only return `WouldBlock`; `to_the_end` makes that call, to see a close behind it.
    fn read(&mut self, id: usize, to_the_end: bool, handler: &mut impl Handler) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let connection = &mut self.connections[id];
            let Some(socket) = &connection.socket else {
                break;
            };
            let kept = connection.kept.len();
            if kept >= buffer.len() {
                self.fail(id, format!("a frame of more than {BUFFER} bytes"));
                break;
            }
            buffer[..kept].copy_from_slice(&connection.kept);
            let filled = match sys::receive(socket, &mut buffer[kept..]) {
                Ok(0) => {
                    self.fail(id, "closed without a close frame".to_owned());
                    break;
                }
                Ok(count) => kept + count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.fail(id, format!("receive: {error}"));
                    break;
                }
            };
            let used = match self.digest(id, &buffer[..filled], handler) {
                Ok(used) => used,
                Err(reason) => {
                    self.fail(id, reason);
                    break;
                }
            };
            let connection = &mut self.connections[id];
            connection.kept.clear();
            connection.kept.extend_from_slice(&buffer[used..filled]);
            if let Err(error) = connection.flush() {
                self.fail(id, format!("send: {error}"));
                break;
            }
            if filled < buffer.len() && !to_the_end {
                break;
            }
        }
        self.buffer = buffer;
    }

    /// Takes whole messages off the head of `bytes` and returns how many bytes they were.
    fn digest(
        &mut self,
        id: usize,
        bytes: &[u8],
        handler: &mut impl Handler,
    ) -> Result<usize, String> {
        let now = sys::now();
        let mut used = 0;
        if self.connections[id].state == State::Upgrading {
            match wire::upgrade(bytes) {
                Upgrade::Partial => return Ok(0),
                Upgrade::Refused(status) => return Err(format!("handshake answered {status}")),
                Upgrade::Accepted(head) => used = head,
            }
            match &self.groups[self.connections[id].group].topic {
                None => self.settle(id, now, handler),
                Some(topic) => {
                    let join = join(topic);
                    self.connections[id].queue(join.as_bytes());
                    self.connections[id].state = State::Joining;
                }
            }
        }
        while let Some(frame) = wire::frame(&bytes[used..]) {
            used += frame.size;
            match frame.opcode {
                wire::TEXT if self.connections[id].state == State::Ready => {
                    handler.message(&mut self.connections[id], frame.payload, now);
                }
                wire::TEXT => match wire::message(frame.payload) {
                    Some(reply) if reply.reference == JOIN_REF.as_bytes() => {
                        if !wire::is_ok(reply.payload) {
                            let why = String::from_utf8_lossy(reply.payload);
                            return Err(format!("join answered {why}"));
                        }
                        self.settle(id, now, handler);
                    }
                    _ => {}
                },
                wire::PING => {
                    let connection = &mut self.connections[id];
                    let mask = connection.mask;
                    wire::put_frame(&mut connection.out, wire::PONG, frame.payload, mask);
                }
                wire::CLOSE => {
                    let code = frame
                        .payload
                        .first_chunk::<2>()
                        .map(|code| u16::from_be_bytes(*code));
                    return Err(format!(
                        "closed by the server with {}",
                        code.unwrap_or(1005)
                    ));
                }
                _ => {}
            }
        }
        Ok(used)
    }
}

/// A duration as the clock counts.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
