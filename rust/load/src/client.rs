//! One client of the swarm: where it goes, what it does once there, and its two ends of a socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use crate::sys;
use crate::wire;

/// Where the clients go.
pub struct Target {
    pub address: SocketAddrV4,
    pub host: String,
    pub path: String,
}

impl Target {
    /// Reads `ws://HOST:PORT/PATH`; HOST is an IPv4 address or `localhost`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "--url: {what}; got {url:?}, takes ws://127.0.0.1:4001/socket/websocket?vsn=2.0.0"
            )
        };
        let rest = url
            .strip_prefix("ws://")
            .ok_or_else(|| wrong("must start with ws://"))?;
        let (host, path) = rest.split_once('/').ok_or_else(|| wrong("has no path"))?;
        let (name, port) = host.split_once(':').ok_or_else(|| wrong("has no port"))?;
        let name = if name == "localhost" {
            "127.0.0.1"
        } else {
            name
        };
        let ip: Ipv4Addr = name.parse().map_err(|_| wrong("host is no IPv4 address"))?;
        let port = port
            .parse()
            .map_err(|_| wrong("port is no number of 1 to 65535"))?;
        Ok(Self {
            address: SocketAddrV4::new(ip, port),
            host: host.to_owned(),
            path: format!("/{path}"),
        })
    }
}

/// What a set of alike connections does once connected.
#[derive(Default)]
pub struct Group {
    /// Joined after the handshake; `None` stops at the open socket.
    pub topic: Option<String>,
    /// No handshake at all: the other end is a machine limit, not a gateway.
    pub raw: bool,
    /// Served ahead of all others.
    pub urgent: bool,
    /// `SO_RCVBUF`, for readers that will stop reading.
    pub receive_buffer: Option<i32>,
}

impl Group {
    pub fn joining(topic: &str) -> Self {
        Self {
            topic: Some(topic.to_owned()),
            ..Self::default()
        }
    }

    pub fn urgent(self) -> Self {
        Self {
            urgent: true,
            ..self
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Connecting,
    Upgrading,
    Joining,
    Ready,
    /// Reads nothing any more; may still write.
    Muted,
    Closed,
}

/// One client.
pub struct Connection {
    pub id: usize,
    pub group: usize,
    pub state: State,
    /// When connecting began, when the join was answered (nanoseconds).
    pub started: u64,
    pub ready: u64,
    /// Number of the last broadcast received.
    pub sequence: u64,
    /// When the last keep-alive left; 0 once it is answered.
    pub beat: u64,
    /// None once closed.
    pub socket: Option<OwnedFd>,
    pub mask: [u8; 4],
    /// The head of a message whose rest has not come yet.
    pub kept: Vec<u8>,
    /// What waits to be sent.
    pub out: Vec<u8>,
}

impl Connection {
    pub fn new(id: usize, group: usize, socket: Option<OwnedFd>, started: u64) -> Self {
        let [a, b, c, d, ..] = started.to_le_bytes();
        Self {
            id,
            group,
            state: State::Connecting,
            started,
            ready: 0,
            sequence: 0,
            beat: 0,
            socket,
            mask: [a, b, c, d],
            kept: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Queues one text frame; it leaves when the swarm has finished with what was received.
    pub fn queue(&mut self, text: &[u8]) {
        wire::put_frame(&mut self.out, wire::TEXT, text, self.mask);
    }

    /// Queues bytes as they are.
    pub fn queue_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Sends as much of the queue as the kernel takes.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let mut sent = 0;
        while sent < self.out.len() {
            match sys::send(socket, &self.out[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if sent == self.out.len() {
            self.out.clear();
        } else {
            self.out.drain(..sent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_into_address_host_and_path() {
        let target = Target::parse("ws://localhost:4001/socket/websocket?vsn=2.0.0").unwrap();
        assert_eq!(target.address, "127.0.0.1:4001".parse().unwrap());
        assert_eq!(target.host, "localhost:4001");
        assert_eq!(target.path, "/socket/websocket?vsn=2.0.0");
    }

    #[test]
    fn a_wrong_url_is_refused_with_an_example_of_a_right_one() {
        for url in [
            "http://a:1/",
            "ws://127.0.0.1:1",
            "ws://127.0.0.1/",
            "ws://x:1/",
            "ws://127.0.0.1:x/",
        ] {
            let error = Target::parse(url).err().unwrap();
            assert!(
                error.contains(url) && error.contains("takes ws://"),
                "{error}"
            );
        }
    }
}
