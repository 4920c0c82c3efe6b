//! The machine's limit on answers: what the same bytes cost with no gateway between.
//!
//! The other end is a forked process pinned to the core the gateway would have; the asking side is
//! the swarm that also asks the gateway.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Group, Target};
use crate::echo::{self, Volley};
use crate::options::Options;
use crate::swarm::Swarm;
use crate::sys::{self, Child, Epoll};
use crate::Failure;

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
