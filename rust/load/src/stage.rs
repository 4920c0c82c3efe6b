//! The stage of every broadcast bench: subscribers, probes, and the control channel that makes the
//! server publish. The publisher is the gateway itself, so the figure holds what an application
//! pays: one call of `gateway.broadcast` in Python, one encoding, the hub.

use std::io;
use std::net::SocketAddrV4;
use std::ops::Range;
use std::time::Duration;

use serde_json::{json, Value};

use crate::bare::Bare;
use crate::client::{Connection, Group, State, Target};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::probes::Probes;
use crate::reception::Reception;
use crate::swarm::{nanoseconds, Handler, Swarm, KEEP_ALIVE_REF};
use crate::sys;
use crate::wire;
use crate::Failure;

/// Half of the 60 s after which a gateway may close a silent client.
pub const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(30);
const JOINING: Duration = Duration::from_secs(120);
/// `SO_RCVBUF` of bystanders: small, so that what they leave unread is soon the gateway's affair.
const SMALL_BUFFER: i32 = 4096;

/// Everything the connections of a stage tell.
pub struct Observer {
    pub reception: Reception,
    pub probes: Probes,
    /// Latency of the keep-alive heartbeats of all connections.
    pub beats: Histogram,
    /// From connect to the answer of the join, of subscribers.
    pub joins: Histogram,
    subscribers: usize,
    control: usize,
    answer: Option<String>,
    keep_alive: bool,
    /// Nobody sends: neither the keep-alive nor the probes.
    silent: bool,
}

impl Handler for Observer {
    fn tick(&mut self, swarm: &mut Swarm) -> Duration {
        if self.silent {
            return Duration::MAX;
        }
        if self.keep_alive {
            swarm.keep_alive(KEEP_ALIVE_PERIOD, sys::now());
        }
        self.probes.tick(swarm)
    }

    fn ready(&mut self, connection: &mut Connection, now: u64) {
        if connection.group == self.subscribers {
            self.joins.record(now.saturating_sub(connection.started));
        }
    }

    fn message(&mut self, connection: &mut Connection, text: &[u8], now: u64) {
        if connection.beat > 0 && is_keep_alive(text) {
            self.beats.record(now.saturating_sub(connection.beat));
            connection.beat = 0;
        } else if connection.group == self.subscribers {
            self.reception.message(connection, text, now);
        } else if connection.group == self.probes.group() {
            self.probes.message(text, now);
        } else if connection.group == self.control {
            let reply = wire::message(text).filter(|reply| reply.reference == b"publish");
            if let Some(reply) = reply {
                self.answer = Some(String::from_utf8_lossy(reply.payload).into_owned());
            }
        }
    }
}

fn is_keep_alive(text: &[u8]) -> bool {
    wire::message(text).is_some_and(|reply| reply.reference == KEEP_ALIVE_REF)
}

/// What the server is asked to publish.
#[derive(Clone, Copy)]
pub struct Order {
    pub count: u64,
    /// Broadcasts per turn of the server's loop.
    pub per_turn: u64,
    pub bytes: u64,
    /// Pause between turns; 0 goes on as soon as everything is written.
    pub interval_us: u64,
}

pub struct Stage {
    pub swarm: Swarm,
    pub observer: Observer,
    pub subscribers: usize,
    topic: String,
    control: Option<usize>,
    control_group: usize,
    /// How long nothing may come before the rest counts as missing.
    patience: Duration,
}

impl Stage {
    /// Connects the probes. Subscribers come with `subscribe`, the control channel with the first
    /// `publish`: a bench that publishes nothing runs against any gateway.
    pub fn open(options: &Options, phases: usize) -> Result<Self, Failure> {
        let mut swarm = Swarm::new(Target::parse(options.text("url"))?)?;
        let subscribers = swarm.group(Group::joining(options.text("topic")));
        let control = swarm.group(Group::joining("bench:control"));
        let probing = swarm.group(Group::default().urgent());
        let count: usize = options.number("probes")?;
        let period = Duration::from_millis(options.positive::<u64>("probe-ms")?);
        let patience = options.seconds("patience")?;
        let mut observer = Observer {
            reception: Reception::default(),
            probes: Probes::new(probing, 0, 0, period, phases),
            beats: Histogram::default(),
            joins: Histogram::default(),
            subscribers,
            control,
            answer: None,
            keep_alive: false,
            silent: false,
        };
        if swarm.open(probing, count, 0, JOINING, &mut observer)? < count {
            return Err(format!("probes refused: {:?}", swarm.errors).into());
        }
        observer.probes = Probes::new(probing, 0, count, period, phases);
        let topic = options.text("topic").to_owned();
        Ok(Self {
            swarm,
            observer,
            subscribers,
            topic,
            control: None,
            control_group: control,
            patience,
        })
    }

    /// Connects and joins `count` subscribers, a bounded number at a time; all or an error.
    pub fn subscribe(&mut self, count: usize, in_flight: usize) -> Result<(), Failure> {
        let (swarm, observer) = (&mut self.swarm, &mut self.observer);
        let joined = swarm.open(self.subscribers, count, in_flight, JOINING, observer)?;
        self.observer.keep_alive = true;
        if joined < count {
            let errors = &self.swarm.errors;
            return Err(format!("only {joined} of {count} subscribers: {errors:?}").into());
        }
        Ok(())
    }

    /// Connects and joins clients of the same topic that are not counted as subscribers; all or an
    /// error. Returns their group.
    pub fn bystanders(&mut self, count: usize) -> Result<usize, Failure> {
        let group = Group {
            receive_buffer: Some(SMALL_BUFFER),
            ..Group::joining(&self.topic)
        };
        let group = self.swarm.group(group);
        if self
            .swarm
            .open(group, count, 0, JOINING, &mut self.observer)?
            < count
        {
            return Err(format!("bystanders refused: {:?}", self.swarm.errors).into());
        }
        Ok(group)
    }

    /// Reads what has come for muted connections, to learn which of them the gateway has closed.
    pub fn drain(&mut self, muted: Range<usize>) {
        for id in muted {
            self.swarm.drain(id, &mut self.observer);
        }
    }

    /// Lets the stage run without a broadcast.
    pub fn idle(&mut self, span: Duration) -> io::Result<()> {
        self.swarm.run(span, &mut self.observer, |_, _| false)?;
        Ok(())
    }

    /// Ends the heartbeats and gives the last of them a second to be answered.
    pub fn settle(&mut self) -> io::Result<()> {
        self.observer.probes.stopped = true;
        self.swarm
            .run(Duration::from_secs(1), &mut self.observer, |_, observer| {
                observer.probes.unanswered() == 0
            })?;
        Ok(())
    }

    fn control(&mut self) -> Result<usize, Failure> {
        if let Some(id) = self.control {
            return Ok(id);
        }
        let id = self.swarm.connections.len();
        if self
            .swarm
            .open(self.control_group, 1, 0, JOINING, &mut self.observer)?
            < 1
        {
            return Err(format!("bench:control refused: {:?}", self.swarm.errors).into());
        }
        self.control = Some(id);
        Ok(id)
    }

    /// Has `order` published and waits until every subscriber that reads has all of it, or until
    /// nothing has come for as long as the patience lasts. Heartbeats sent meanwhile count in
    /// `phase`. Returns the server's own account of it.
    pub fn publish(&mut self, order: Order, phase: usize) -> Result<Value, Failure> {
        let control = self.control()?;
        self.begin();
        self.observer.answer = None;
        let Order {
            count,
            per_turn,
            bytes,
            interval_us,
        } = order;
        let request = json!([
            "1", "publish", "bench:control", "publish",
            {"topic": self.topic, "count": count, "per_turn": per_turn, "bytes": bytes,
             "interval_us": interval_us}
        ]);
        let before = std::mem::replace(&mut self.observer.probes.phase, phase);
        self.swarm.send(control, request.to_string().as_bytes());
        self.receive(self.expected(count), |swarm, observer| {
            observer.answer.is_some() || swarm.connections[control].state == State::Closed
        })?;
        self.observer.probes.phase = before;
        let answer = self.observer.answer.take();
        let answer = answer.ok_or_else(|| {
            let errors = &self.swarm.errors;
            Failure::from(format!(
                "bench:control did not answer publish; errors: {errors:?}"
            ))
        })?;
        if !wire::is_ok(answer.as_bytes()) {
            return Err(format!("bench:control refused publish: {answer}").into());
        }
        let answer: Value = serde_json::from_str(&answer)
            .map_err(|error| Failure::from(format!("publish reply {answer:?}: {error}")))?;
        Ok(answer["response"].clone())
    }

    /// The same from the bare sender, one order of so many rounds of so many frames per call.
    pub fn bare(&mut self, bare: &Bare, rounds: u64, frames: u64) -> io::Result<()> {
        self.begin();
        bare.send(rounds, frames)?;
        self.receive(self.expected(rounds * frames), |_, _| true)
    }

    /// Silences everybody but the publisher for a while: what two senders are compared by must
    /// not hold a neighbour's heartbeats for one of them only.
    pub fn silence(&mut self, silent: bool) {
        self.observer.silent = silent;
    }

    /// Where the subscribers' sockets begin.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddrV4>> {
        let all = self.swarm.connections.iter();
        all.filter(|one| one.group == self.subscribers)
            .filter_map(|one| one.socket.as_ref())
            .map(sys::local)
            .collect()
    }

    fn begin(&mut self) {
        for connection in &mut self.swarm.connections {
            connection.sequence = 0;
        }
        self.observer.reception.begin();
    }

    /// Returns when so many deliveries have come and the publisher is `done`, or when nothing has
    /// come for as long as the patience lasts.
    fn receive(
        &mut self,
        expected: u64,
        done: impl Fn(&Swarm, &Observer) -> bool,
    ) -> io::Result<()> {
        let patience = nanoseconds(self.patience);
        let mut seen = (0, sys::now());
        let limit = Duration::from_secs(3600);
        self.swarm
            .run(limit, &mut self.observer, |swarm, observer| {
                let received = observer.reception.received;
                if received >= expected && done(swarm, observer) {
                    return true;
                }
                let now = sys::now();
                if received != seen.0 {
                    seen = (received, now);
                }
                now - seen.1 > patience
            })?;
        Ok(())
    }

    /// Deliveries that `count` broadcasts make to the subscribers that read.
    pub fn expected(&self, count: u64) -> u64 {
        let reads = |one: &&Connection| one.group == self.subscribers && one.state == State::Ready;
        self.swarm.connections.iter().filter(reads).count() as u64 * count
    }
}
