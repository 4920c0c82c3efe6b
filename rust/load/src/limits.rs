//! The machine's limits: what the same bytes cost with no gateway between.
//!
//! The reader is the swarm that also reads the gateway, with the same checks on every message, so a
//! ratio compares two senders and nothing else. The other end is a forked process pinned to the
//! core the gateway would have.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::{json, Value};

use crate::client::{Connection, Group, Target};
use crate::echo::{self, Volley};
use crate::histogram::{median, microseconds};
use crate::options::Options;
use crate::reception::{seconds, Account, Reception};
use crate::swarm::{Handler, Swarm};
use crate::sys::{self, Child, Epoll};
use crate::wire;
use crate::Failure;

impl Handler for Reception {
    fn message(&mut self, connection: &mut Connection, text: &[u8], now: u64) {
        Reception::message(self, connection, text, now);
    }
}

/// One order to the sending child: so many rounds over all sockets, so many frames in each call.
fn order(rounds: u64, frames: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rounds.to_le_bytes());
    bytes[8..].copy_from_slice(&frames.to_le_bytes());
    bytes
}

fn read_order(bytes: [u8; 16]) -> (u64, u64) {
    let half = |from: usize| {
        bytes[from..from + 8]
            .iter()
            .rev()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
    };
    (half(0), half(8))
}

fn send_rounds(sockets: &[OwnedFd], rounds: u64, frames: u64, bytes: usize) -> io::Result<()> {
    let mut call = Vec::new();
    for round in 0..rounds {
        call.clear();
        for frame in 1..=frames {
            wire::put_server_frame(
                &mut call,
                &wire::tick(round * frames + frame, sys::now(), bytes),
            );
        }
        for socket in sockets {
            sys::send_all(socket, &call)?;
        }
    }
    Ok(())
}

/// `limit-fanout`: deliveries per second of a bare `send` loop, with one and with several frames
/// per call, and the time until the last subscriber has a single broadcast.
pub fn fanout(options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let bytes: usize = options.positive("bytes")?;
    let frames: u64 = options.positive("per-turn")?;
    let deliveries: u64 = options.positive("deliveries")?;
    let singles: usize = options.number("singles")?;
    let sender_core = echo::core(options, "server-core")?;

    let (listener, address) = sys::listen(4096)?;
    let child = Child::spawn(|inbox, outbox| {
        if let Some(core) = sender_core {
            sys::pin(core)?;
        }
        let sockets = (0..count)
            .map(|_| sys::accept(&listener))
            .collect::<io::Result<Vec<_>>>()?;
        sys::put(outbox, &[1])?;
        let mut bytes_of_order = [0; 16];
        while sys::take(inbox, &mut bytes_of_order)? {
            let (rounds, frames) = read_order(bytes_of_order);
            send_rounds(&sockets, rounds, frames, bytes)?;
        }
        Ok(())
    })?;
    drop(listener);

    let mut swarm = Swarm::new(Target {
        address,
        host: String::new(),
        path: String::new(),
    })?;
    swarm.stay_awake();
    let group = swarm.group(Group {
        raw: true,
        ..Group::default()
    });
    let mut reception = Reception::default();
    let limit = Duration::from_secs(60);
    let open = swarm.open(group, count, 1000, limit, &mut reception)?;
    if open < count || !sys::take(&child.from, &mut [0])? {
        return Err(Failure::from(format!(
            "only {open} of {count}: {:?}",
            swarm.errors
        )));
    }

    let mut measure = |rounds: u64, frames: u64| -> Result<(Reception, Value), Failure> {
        for connection in &mut swarm.connections {
            connection.sequence = 0;
        }
        let mut reception = Reception::default();
        let expected = rounds * frames * count as u64;
        let (sender, reader) = (Account::begin(child.pid)?, sys::cpu_time());
        sys::put(&child.to, &order(rounds, frames))?;
        let all = swarm.run(limit, &mut reception, |_, so_far| {
            so_far.received >= expected
        })?;
        if !all || reception.skipped + reception.disordered > 0 {
            return Err(Failure::from(format!(
                "not all arrived: {}",
                reception.summary(expected)
            )));
        }
        let mut account = reception.summary(expected);
        let span = seconds(reception.span());
        account["cpu_ns"] = sender.per(expected)?;
        account["client_cpu"] = json!(seconds(sys::cpu_time() - reader) / span);
        Ok((reception, account))
    };
    measure(3, 1)?;
    let rounds = (deliveries / count as u64).max(1);
    let (_, one) = measure(rounds, 1)?;
    let (_, several) = measure((rounds * 4 / frames).max(1), frames)?;
    let mut last = Vec::new();
    for _ in 0..singles {
        // As rarely as the bench of the gateway does it: the reader has gone to sleep between.
        std::thread::sleep(Duration::from_millis(100));
        last.push(measure(1, 1)?.0.span());
    }
    Ok(json!({
        "command": "limit-fanout",
        "connections": count,
        "bytes": bytes,
        "one": one,
        "per_turn": frames,
        "several": several,
        "single_last_us": spread(&mut last),
    }))
}

fn echo_server(listener: &OwnedFd, count: usize, depth: usize) -> io::Result<()> {
    let (request, reply) = (echo::request_size(), echo::reply());
    let replies = reply.repeat(depth);
    let set = Epoll::new()?;
    let mut sockets = Vec::new();
    for token in 0..count {
        let socket = sys::accept(listener)?;
        set.add(&socket, sys::READABLE, token as u64)?;
        sockets.push((socket, 0));
    }
    let mut events = [sys::NO_EVENT; 256];
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let ready = set.wait(&mut events, Duration::from_secs(1))?;
        for event in &events[..ready] {
            let token = event.u64;
            let Some((socket, pending)) = usize::try_from(token)
                .ok()
                .and_then(|token| sockets.get_mut(token))
            else {
                continue;
            };
            let received = sys::receive(socket, &mut buffer)?;
            if received == 0 {
                return Ok(());
            }
            *pending += received;
            let whole = *pending / request;
            *pending %= request;
            sys::send_all(socket, &replies[..whole * reply.len()])?;
        }
    }
}

/// `limit-echo`: heartbeats answered per second by a loop that reads, counts and writes.
pub fn echo(options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let depth: usize = options.positive("depth")?;
    let server_core = echo::core(options, "server-core")?;
    let (listener, address) = sys::listen(4096)?;
    let child = Child::spawn(|_, _| {
        if let Some(core) = server_core {
            sys::pin(core)?;
        }
        echo_server(&listener, count, depth)
    })?;
    drop(listener);
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

/// Median, smallest and largest of some nanoseconds, in microseconds.
pub fn spread(values: &mut [u64]) -> Value {
    let middle = median(values);
    json!({
        "count": values.len(),
        "median": microseconds(middle),
        "min": microseconds(values.first().copied().unwrap_or(0)),
        "max": microseconds(values.last().copied().unwrap_or(0)),
    })
}
