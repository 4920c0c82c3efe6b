//! The machine's limits on answers and arrivals: what the same bytes cost with no gateway between.
//!
//! The other end is a forked process pinned to the core the gateway would have; the asking side is
//! the swarm that also asks the gateway.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::{json, Value};

use crate::client::{Connection, Group, Target};
use crate::crowd::arrive;
use crate::echo::{self, Volley};
use crate::options::Options;
use crate::swarm::{self, Handler, Swarm};
use crate::sys::{self, Child, Epoll};
use crate::wire;
use crate::Failure;

const PATH: &str = "/socket/websocket?vsn=2.0.0";

/// One connection at the other end, and the bytes of it that are not answered yet.
struct Guest {
    socket: OwnedFd,
    pending: usize,
    upgraded: bool,
}

/// Lets everybody in, counts what comes and has it answered, until the first one leaves.
fn serve(
    listener: &OwnedFd,
    mut answer: impl FnMut(&mut Guest) -> io::Result<()>,
) -> io::Result<()> {
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
                while let Some(socket) = sys::accept(listener)? {
                    set.add(&socket, sys::READABLE, guests.len() as u64)?;
                    guests.push(Guest {
                        socket,
                        pending: 0,
                        upgraded: false,
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
            answer(guest)?;
        }
    }
}

/// Starts the other end on its core; what it is asked for comes to the address.
fn spawn<A: FnMut(&mut Guest) -> io::Result<()>>(
    options: &Options,
    answering: impl FnOnce(SocketAddrV4) -> A,
) -> Result<(Child, SocketAddrV4), Failure> {
    let core = echo::core(options, "server-core")?;
    let (listener, address) = sys::listen(4096)?;
    let answer = answering(address);
    let child = Child::spawn(|_, _| {
        if let Some(core) = core {
            sys::pin(core)?;
        }
        serve(&listener, answer)
    })?;
    Ok((child, address))
}

/// `limit-echo`: heartbeats answered per second by a loop that reads, counts and writes.
pub fn echo(options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let depth: usize = options.positive("depth")?;
    let (request, reply) = (echo::request_size(), echo::reply());
    let (size, replies) = (reply.len(), reply.repeat(depth));
    let (child, address) = spawn(options, |_| {
        move |guest: &mut Guest| {
            let whole = guest.pending / request;
            guest.pending %= request;
            sys::send_all(&guest.socket, &replies[..whole * size])
        }
    })?;
    let mut swarm = Swarm::new(Target {
        address,
        host: String::new(),
        path: String::new(),
    })?;
    let group = swarm.group(Group {
        raw: true,
        ..Group::default()
    });
    let mut volley = Volley::heartbeats(count, depth, false);
    let open = swarm.open(group, count, 0, Duration::from_secs(10), &mut volley)?;
    if open < count {
        return Err(Failure::from(format!(
            "only {open} of {count}: {:?}",
            swarm.errors
        )));
    }
    volley.measure("limit-echo", &mut swarm, child.pid, options)
}

/// `limit-join`: the crowd of `join` at a loop that counts bytes and writes two answers it knows.
pub fn join(options: &Options) -> Result<Value, Failure> {
    let topic = options.text("topic");
    let (child, address) = spawn(options, |address| {
        let script = Script::new(&address.to_string(), PATH, topic);
        move |guest: &mut Guest| script.answer(guest)
    })?;
    let mut swarm = Swarm::new(Target {
        address,
        host: address.to_string(),
        path: PATH.to_owned(),
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

    fn answer(&self, guest: &mut Guest) -> io::Result<()> {
        if !guest.upgraded && guest.pending >= self.head {
            guest.upgraded = true;
            guest.pending -= self.head;
            sys::send_all(&guest.socket, &self.switching)?;
        }
        if guest.upgraded && guest.pending >= self.join {
            guest.pending -= self.join;
            sys::send_all(&guest.socket, &self.joined)?;
        }
        Ok(())
    }
}
