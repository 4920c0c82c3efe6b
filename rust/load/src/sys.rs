//! The operating system, and every `unsafe` of this crate.
//!
//! The generator shares a machine of two cores with the server it measures, so whatever it spends
//! is taken from the figure. Plain system calls on plain descriptors keep that spending visible:
//! one `recv` per readable socket, one `send` per reply batch, no runtime between.

use std::fs;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`: the clock of Python's `time.monotonic_ns()`, so a stamp taken
/// by a server on the same machine can be subtracted from one taken here.
pub fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    // Neither part of a monotonic time is negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// CPU time this process has used, in nanoseconds.
pub fn cpu_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: as in `now`.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn check(status: libc::c_int) -> io::Result<libc::c_int> {
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status)
    }
}

fn length(size: isize) -> io::Result<usize> {
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}

const fn socket_length<T>() -> libc::socklen_t {
    // Socket structures are tens of bytes.
    #[allow(clippy::cast_possible_truncation)]
    {
        mem::size_of::<T>() as libc::socklen_t
    }
}

/// Lifts the soft limit on descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit to write to.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit to read from.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Number of cores this process may run on.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Keeps the calling process on one core.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= 1024 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: an all-zero cpu_set_t is the empty set; `core` was checked to lie inside it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: `set` is valid and its true size is given.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) })?;
    Ok(())
}

/// The other end of a machine limit: a child process and the two pipes that reach it.
pub struct Child {
    pub pid: i32,
    pub to: OwnedFd,
    pub from: OwnedFd,
}

impl Child {
    /// Forks. `body` runs in the child with (its inbox, its outbox) and never returns to the caller.
    /// The child dies with its parent, so an interrupted measurement leaves nothing behind.
    pub fn spawn(body: impl FnOnce(&OwnedFd, &OwnedFd) -> io::Result<()>) -> io::Result<Self> {
        let (child_in, to) = pipe()?;
        let (from, child_out) = pipe()?;
        // SAFETY: the process has one thread, so the child's copy of it is whole.
        let pid = check(unsafe { libc::fork() })?;
        if pid > 0 {
            return Ok(Self { pid, to, from });
        }
        drop((to, from));
        // SAFETY: asks for a signal when the parent dies; no memory involved.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let status = match body(&child_in, &child_out) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("moda-load: the child process failed: {error}");
                1
            }
        };
        // SAFETY: leaves at once, running none of the parent's exit handlers.
        unsafe { libc::_exit(status) }
    }
}

/// CPU time all threads of a process have used, in nanoseconds.
pub fn process_cpu_time(pid: i32) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both are live and written to; a pid that is nobody's is an error, not a danger.
    unsafe {
        let status = libc::clock_getcpuclockid(pid, &raw mut clock);
        if status != 0 {
            return Err(io::Error::from_raw_os_error(status));
        }
        check(libc::clock_gettime(clock, &raw mut time))?;
    }
    Ok(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// A descriptor that stands for a process.
pub fn process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: creates a descriptor; no memory involved.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    made(raw)
}

/// A second handle on another process's descriptor `number`.
pub fn borrow(process: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: creates a descriptor of this process; no memory involved.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    made(raw)
}

/// The numbers of a process's open descriptors.
pub fn descriptors(pid: i32) -> io::Result<Vec<RawFd>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let numbers = entries.map(|entry| Ok(entry?.file_name().to_str().and_then(|n| n.parse().ok())));
    numbers.filter_map(Result::transpose).collect()
}

/// For a forked child that never returns to the caller: closes what it has inherited, but for the
/// standard streams and `kept`.
pub fn close_all_but(kept: &[&OwnedFd]) -> io::Result<()> {
    let me = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    for number in descriptors(me)? {
        if number > 2 && kept.iter().all(|one| one.as_raw_fd() != number) {
            // SAFETY: owners of these numbers are the parent's values, which this copy of the
            // process never uses or drops: it ends with `_exit`.
            unsafe { libc::close(number) };
        }
    }
    Ok(())
}

fn made(raw: libc::c_long) -> io::Result<OwnedFd> {
    let raw = RawFd::try_from(raw).ok().filter(|raw| *raw >= 0);
    let raw = raw.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call that gave it has just made it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

type Asks = unsafe extern "C" fn(RawFd, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn address_by(ask: Asks, socket: &OwnedFd) -> io::Result<SocketAddrV4> {
    // SAFETY: sockaddr_in is plain integers, for which all zeroes is a valid value.
    let mut found: libc::sockaddr_in = unsafe { mem::zeroed() };
    let mut size = socket_length::<libc::sockaddr_in>();
    // SAFETY: `found` is live and `size` its size; the kernel writes no more than that.
    check(unsafe { ask(socket.as_raw_fd(), (&raw mut found).cast(), &raw mut size) })?;
    if i32::from(found.sin_family) != libc::AF_INET {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    let ip = Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr));
    Ok(SocketAddrV4::new(ip, u16::from_be(found.sin_port)))
}

/// The address at the other end of a connected socket; an error for anything that is none.
pub fn peer(socket: &OwnedFd) -> io::Result<SocketAddrV4> {
    address_by(libc::getpeername, socket)
}

/// The address at this end of a socket.
pub fn local(socket: &OwnedFd) -> io::Result<SocketAddrV4> {
    address_by(libc::getsockname, socket)
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the pid is our own unreaped child's, so no other process can have it.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both were just made and nothing else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

fn socket_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

fn set_option(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: `value` is a live int and its size is given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            socket_length::<i32>(),
        )
    })?;
    Ok(())
}

fn stream_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: creates a descriptor; no memory involved.
    let raw = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: just made, owned by nothing else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(socket)
}

/// Starts connecting. `source` spreads the swarm over many loopback addresses, so that ports of an
/// earlier run still in `TIME_WAIT` are no limit; `receive_buffer` shrinks the kernel's share of a
/// reader that will stop reading.
pub fn connect(
    address: SocketAddrV4,
    source: Option<Ipv4Addr>,
    receive_buffer: Option<i32>,
) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    if let Some(bytes) = receive_buffer {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)?;
    }
    if let Some(source) = source {
        set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        let local = socket_address(SocketAddrV4::new(source, 0));
        // SAFETY: `local` is a valid sockaddr_in and its size is given.
        check(unsafe {
            let size = socket_length::<libc::sockaddr_in>();
            libc::bind(socket.as_raw_fd(), (&raw const local).cast(), size)
        })?;
    }
    let remote = socket_address(address);
    // SAFETY: `remote` is a valid sockaddr_in and its size is given.
    let status = unsafe {
        let size = socket_length::<libc::sockaddr_in>();
        libc::connect(socket.as_raw_fd(), (&raw const remote).cast(), size)
    };
    match check(status) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// The outcome of a connect that has become writable.
pub fn connect_error(socket: &OwnedFd) -> io::Result<()> {
    let mut code: libc::c_int = 0;
    let mut size = socket_length::<libc::c_int>();
    // SAFETY: `code` and `size` are live and agree.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut code).cast(),
            &raw mut size,
        )
    })?;
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

/// A listener on a free loopback port, and that port.
pub fn listen(backlog: i32) -> io::Result<(OwnedFd, SocketAddrV4)> {
    let socket = stream_socket()?;
    let mut local = socket_address(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    let mut size = socket_length::<libc::sockaddr_in>();
    // SAFETY: `local` is a valid sockaddr_in to read, then to write; `size` is its size.
    unsafe {
        check(libc::bind(
            socket.as_raw_fd(),
            (&raw const local).cast(),
            size,
        ))?;
        check(libc::listen(socket.as_raw_fd(), backlog))?;
        let raw = socket.as_raw_fd();
        check(libc::getsockname(
            raw,
            (&raw mut local).cast(),
            &raw mut size,
        ))?;
    }
    let port = u16::from_be(local.sin_port);
    Ok((socket, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
}

/// Accepts one connection, if one waits.
pub fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the peer's address is not asked for.
    let accepted = check(unsafe {
        let none = std::ptr::null_mut();
        libc::accept4(listener.as_raw_fd(), none, std::ptr::null_mut(), flags)
    });
    let raw = match accepted {
        Ok(raw) => raw,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    // SAFETY: just made, owned by nothing else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(Some(socket))
}

fn wait(descriptor: &OwnedFd, events: libc::c_short, limit: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events,
        revents: 0,
    };
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one valid pollfd.
    Ok(check(unsafe { libc::poll(&raw mut poll, 1, limit) })? > 0)
}

/// One `send` call. `WouldBlock` when the kernel's buffer is full.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: reads `bytes` only, within its length.
    length(unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
        )
    })
}

/// One `recv` call into `buffer`; 0 is the peer's end of stream.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: writes into `buffer` only, within its length.
    length(unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
        )
    })
}

/// Sends everything, waiting for room up to ten seconds at a time.
pub fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(socket, bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait(socket, libc::POLLOUT, Duration::from_secs(10))? {
                    return Err(io::Error::from(io::ErrorKind::TimedOut));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes `bytes` to a pipe.
pub fn put(pipe: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: reads `bytes` only, within its length.
    let sent =
        length(unsafe { libc::write(pipe.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })?;
    // A write of less than PIPE_BUF is whole or fails; ours are tens of bytes.
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::WriteZero))
    }
}

/// Reads exactly one record from a pipe; `false` when the other side is gone.
pub fn take(pipe: &OwnedFd, record: &mut [u8]) -> io::Result<bool> {
    // SAFETY: writes into `record` only, within its length.
    let got =
        length(unsafe { libc::read(pipe.as_raw_fd(), record.as_mut_ptr().cast(), record.len()) })?;
    Ok(got == record.len())
}

pub use libc::epoll_event as Event;

/// Reading, writing, edges only: a socket drained by a short `recv` is silent until new bytes come,
/// where level triggering would look at each of 10,000 sockets once more per wait.
pub const EDGES: u32 = bits(libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET);
/// Reading, level triggered.
pub const READABLE: u32 = bits(libc::EPOLLIN);
/// Writable: a connect has ended, or a full buffer has room again.
pub const WRITABLE: u32 = bits(libc::EPOLLOUT);
/// The peer has closed or the socket failed.
pub const ENDED: u32 = bits(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);

/// The kernel's flags are the same bits read without a sign.
const fn bits(flags: libc::c_int) -> u32 {
    u32::from_ne_bytes(flags.to_ne_bytes())
}

pub const NO_EVENT: Event = Event { events: 0, u64: 0 };

/// An epoll set.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: creates a descriptor; no memory involved.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, owned by nothing else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    pub fn add(&self, descriptor: &impl AsRawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = Event { events, u64: token };
        let (set, raw) = (self.0.as_raw_fd(), descriptor.as_raw_fd());
        // SAFETY: `event` is live; the kernel copies it.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, raw, &raw mut event) })?;
        Ok(())
    }

    pub fn remove(&self, descriptor: &impl AsRawFd) -> io::Result<()> {
        let (set, raw) = (self.0.as_raw_fd(), descriptor.as_raw_fd());
        // SAFETY: no event is read for a removal.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, raw, std::ptr::null_mut()) })?;
        Ok(())
    }

    /// Waits at most `limit`, rounded up to a millisecond; `ZERO` only looks.
    pub fn wait(&self, events: &mut [Event], limit: Duration) -> io::Result<usize> {
        let millis = limit.as_nanos().div_ceil(1_000_000);
        let millis = i32::try_from(millis).unwrap_or(i32::MAX);
        let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: `events` has `room` entries to write.
        let ready =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, millis) };
        match check(ready) {
            Ok(ready) => Ok(usize::try_from(ready).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
