//! A crowd that arrives: at the gateway, and at a loop that knows its answers beforehand.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::{json, Value};

use crate::client::{Connection, Group, Target};
use crate::echo;
use crate::options::Options;
use crate::reception::{rate, seconds, Account};
use crate::stage::Stage;
use crate::swarm::{self, Handler, Swarm};
use crate::sys::{self, Child, Epoll};
use crate::wire;
use crate::Failure;

/// Phases of the probes: before the crowd, and while it arrives.
const QUIET: usize = 0;
const JOINING: usize = 1;

/// Opens a crowd and says how its arrival went. A client counts when its join is answered.
fn arrive(
    swarm: &mut Swarm,
    group: usize,
    options: &Options,
    pid: i32,
    handler: &mut impl Handler,
) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let in_flight: usize = options.number("in-flight")?;
    let limit = options.seconds("limit")?;
    let account = Account::begin(pid)?;
    let (start, cpu) = (sys::now(), sys::cpu_time());
    let joined = swarm.open(group, count, in_flight, limit, handler)?;
    let crowd = swarm.connections.iter().filter(|one| one.group == group);
    let end = crowd.map(|one| one.ready).max().unwrap_or(start);
    let (took, cpu) = (end.saturating_sub(start), sys::cpu_time() - cpu);
    Ok(json!({
        "clients": count,
        "in_flight": in_flight,
        "joined": joined,
        "seconds": seconds(took),
        "per_s": rate(joined as u64, took),
        "cpu_ns": account.per(joined as u64)?,
        "client_cpu": seconds(cpu) / seconds(took.max(1)),
        "errors": swarm.errors,
    }))
}

/// `join`: a crowd arrives while neighbours send heartbeats.
pub fn join(options: &Options) -> Result<Value, Failure> {
    let mut stage = Stage::open(options, 2)?;
    stage.idle(Duration::from_secs(1))?;
    stage.observer.probes.phase = JOINING;
    let group = stage.subscribers;
    let (swarm, observer) = (&mut stage.swarm, &mut stage.observer);
    let mut found = arrive(swarm, group, options, options.number("pid")?, observer)?;
    stage.settle()?;
    found["command"] = json!("join");
    found["alive"] = json!(stage.swarm.alive(group));
    found["join_us"] = stage.observer.joins.summary();
    found["heartbeat_us"] = json!({
        "quiet": stage.observer.probes.summary(QUIET),
        "joining": stage.observer.probes.summary(JOINING),
    });
    found["heartbeats_unanswered"] = json!(stage.observer.probes.unanswered());
    found["errors"] = json!(stage.swarm.errors);
    Ok(found)
}

/// `limit-join`: the same crowd at a loop that accepts, counts bytes and writes two answers.
pub fn limit(options: &Options) -> Result<Value, Failure> {
    let topic = options.text("topic");
    let core = echo::core(options, "server-core")?;
    let (listener, address) = sys::listen(4096)?;
    let host = address.to_string();
    let path = "/socket/websocket?vsn=2.0.0".to_owned();
    let script = Script::new(&host, &path, topic);
    let child = Child::spawn(|_, _| {
        if let Some(core) = core {
            sys::pin(core)?;
        }
        sys::raise_descriptor_limit()?;
        welcome(&listener, &script)
    })?;
    drop(listener);
    let mut swarm = Swarm::new(Target {
        address,
        host,
        path,
    })?;
    let group = swarm.group(Group::joining(topic));
    let mut found = arrive(&mut swarm, group, options, child.pid, &mut Silent)?;
    found["command"] = json!("limit-join");
    Ok(found)
}

/// A handler for clients that are told nothing once they have joined.
struct Silent;

impl Handler for Silent {
    fn message(&mut self, _connection: &mut Connection, _text: &[u8], _now: u64) {}
}

/// What is said between a client and the loop: how long its requests are, and their answers.
struct Script {
    head: usize,
    switching: Vec<u8>,
    join: usize,
    joined: Vec<u8>,
}

impl Script {
    fn new(host: &str, path: &str, topic: &str) -> Self {
        let mut join = Vec::new();
        wire::put_frame(&mut join, wire::TEXT, swarm::join(topic).as_bytes(), [0; 4]);
        let mut joined = Vec::new();
        wire::put_server_frame(&mut joined, swarm::joined(topic).as_bytes());
        Self {
            head: wire::handshake(host, path).len(),
            switching: wire::switching(),
            join: join.len(),
            joined,
        }
    }
}

struct Guest {
    socket: OwnedFd,
    upgraded: bool,
    pending: usize,
}

/// Lets everybody in until the first one leaves.
fn welcome(listener: &OwnedFd, script: &Script) -> io::Result<()> {
    const DOOR: u64 = u64::MAX;
    let set = Epoll::new()?;
    set.add(listener, sys::READABLE, DOOR)?;
    let mut guests: Vec<Guest> = Vec::new();
    let mut events = [sys::NO_EVENT; 256];
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let ready = set.wait(&mut events, Duration::from_secs(1))?;
        for event in &events[..ready] {
            let token = event.u64;
            if token == DOOR {
                while let Some(socket) = sys::accept_now(listener)? {
                    set.add(&socket, sys::READABLE, guests.len() as u64)?;
                    guests.push(Guest {
                        socket,
                        upgraded: false,
                        pending: 0,
                    });
                }
                continue;
            }
            let found = usize::try_from(token)
                .ok()
                .and_then(|at| guests.get_mut(at));
            let Some(guest) = found else {
                continue;
            };
            let received = sys::receive(&guest.socket, &mut buffer)?;
            if received == 0 {
                return Ok(());
            }
            guest.pending += received;
            if !guest.upgraded && guest.pending >= script.head {
                guest.upgraded = true;
                guest.pending -= script.head;
                sys::send_all(&guest.socket, &script.switching)?;
            }
            if guest.upgraded && guest.pending >= script.join {
                guest.pending -= script.join;
                sys::send_all(&guest.socket, &script.joined)?;
            }
        }
    }
}
