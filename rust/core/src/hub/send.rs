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

/// Milliseconds since the kernel last received data on a TCP socket; None when it is not TCP.
///
/// Asked only of connections that look idle: a peer that is half-way through a long frame has
/// sent bytes that no frame has told of yet.
#[allow(clippy::cast_possible_truncation)] // the size of tcp_info fits a socklen_t
pub fn ms_since_data(fd: RawFd) -> Option<u64> {
    // SAFETY: tcp_info is plain integers, for which all zeroes is a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = std::mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the buffer is a live tcp_info and len is its size; the kernel writes at most len bytes.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            std::ptr::from_mut(&mut info).cast(),
            std::ptr::from_mut(&mut len),
        )
    };
    (done == 0).then_some(u64::from(info.tcpi_last_data_recv))
}
