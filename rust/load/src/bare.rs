//! The machine's limit on a fan-out: the same frames over the gateway's own sockets, from a loop
//! that does nothing but `send`.
//!
//! What a `send` costs depends on the socket: what its congestion control has seen, how the peer
//! acknowledges, where its memory lies. Fresh sockets of a process of our own differ in all three,
//! by up to a fifth on one machine, and a limit measured minutes apart differs by as much again. So
//! the sockets are borrowed from the running gateway (`pidfd_getfd`, Linux 5.6) and the two senders
//! take turns of a fraction of a second. The gateway knows nothing of it: its clients receive whole
//! frames, and it has nothing under way on a socket while the loop has it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use crate::sys::{self, Child};
use crate::wire;
use crate::Failure;

/// A process on the gateway's core that holds the gateway's sockets.
pub struct Bare {
    child: Child,
}

impl Bare {
    /// Borrows from process `pid` the sockets whose peers are `clients`, in that order.
    pub fn borrow(
        pid: i32,
        core: Option<usize>,
        clients: &[SocketAddrV4],
        bytes: usize,
    ) -> Result<Self, Failure> {
        let child = Child::spawn(|inbox, outbox| {
            if let Some(core) = core {
                sys::pin(core)?;
            }
            // The clients' own ends came along with the fork: ten thousand descriptors too many.
            sys::close_all_but(&[inbox, outbox])?;
            let sockets = sockets_of(pid, clients)?;
            sys::put(outbox, &[1])?;
            let mut order = [0; 16];
            while sys::take(inbox, &mut order)? {
                let (rounds, frames) = read_order(order);
                send_rounds(&sockets, rounds, frames, bytes)?;
            }
            Ok(())
        })?;
        if !sys::take(&child.from, &mut [0])? {
            return Err("the bare sender did not start".to_owned().into()); // it has said why
        }
        Ok(Self { child })
    }

    /// Has so many rounds over all sockets sent, so many frames in each call; returns at once.
    pub fn send(&self, rounds: u64, frames: u64) -> io::Result<()> {
        sys::put(&self.child.to, &order(rounds, frames))
    }

    pub fn pid(&self) -> i32 {
        self.child.pid
    }
}

fn sockets_of(pid: i32, clients: &[SocketAddrV4]) -> io::Result<Vec<OwnedFd>> {
    let refused = |error: io::Error| {
        io::Error::other(format!(
            "process {pid} does not lend its sockets ({error}): that takes its user's rights to \
             trace it; run as root, or allow it with `sysctl kernel.yama.ptrace_scope=0`"
        ))
    };
    let process = sys::process(pid).map_err(refused)?;
    let wanted: HashMap<_, _> = clients.iter().zip(0..).collect();
    let mut found: Vec<Option<OwnedFd>> = clients.iter().map(|_| None).collect();
    for number in sys::descriptors(pid).map_err(refused)? {
        // A descriptor may be closed between the listing and this call; it is then none of ours.
        let borrowed = match sys::borrow(&process, number) {
            Ok(borrowed) => borrowed,
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => continue,
            Err(error) => return Err(refused(error)),
        };
        // A process may hold a socket twice; one handle is enough.
        let place = sys::peer(&borrowed).ok().and_then(|peer| wanted.get(&peer));
        if let Some(slot) = place.and_then(|place: &usize| found.get_mut(*place)) {
            *slot = Some(borrowed);
        }
    }
    let found: Vec<_> = found.into_iter().flatten().collect();
    if found.len() < clients.len() {
        let (found, all) = (found.len(), clients.len());
        let wrong = format!("process {pid} holds only {found} of {all} clients");
        return Err(io::Error::other(wrong));
    }
    Ok(found)
}

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
            let tick = wire::tick(round * frames + frame, sys::now(), bytes);
            wire::put_server_frame(&mut call, &tick);
        }
        for socket in sockets {
            sys::send_all(socket, &call)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_given() {
        assert_eq!(read_order(order(7, u64::MAX)), (7, u64::MAX));
    }
}
