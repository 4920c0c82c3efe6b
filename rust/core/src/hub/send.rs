//! The one place that puts bytes on a descriptor.

use std::os::fd::RawFd;

/// What the kernel took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes; fewer than asked means the socket's buffer is full.
    Bytes(usize),
    /// The peer is gone.
    Closed,
}

/// Sends as much of `bytes` as the kernel takes at once. Never blocks, never raises SIGPIPE.
pub fn send(fd: RawFd, bytes: &[u8]) -> Sent {
    loop {
        // SAFETY: the pointer and length describe a live slice for the whole call, and send(2)
        // only reads from it. A descriptor that is not a socket fails with ENOTSOCK.
        let sent = unsafe {
            libc::send(
                fd,
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if let Ok(sent) = usize::try_from(sent) {
            return Sent::Bytes(sent);
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN | libc::ENOBUFS) => return Sent::Bytes(0),
            _ => return Sent::Closed,
        }
    }
}
