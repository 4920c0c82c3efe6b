//! Leaving on time, whatever holds the interpreter.
//!
//! Python runs a signal's handler between two bytecodes of the main thread. A handler that sleeps, or
//! an extension that computes with the GIL held, postpones that for as long as it likes, and with it
//! every deadline. What the interpreter does at once, in C, is to write the signal's number to its
//! wake-up descriptor. A thread that needs no interpreter reads it here, and decides two things:
//! whether a signal repeats a wish or is haste, and when the time to leave is over.
//!
//! Python is told first, so that it can write a last line and flush its log. If the process still
//! stands after the grace, this thread ends it.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// The exit code of a process that did not end by its deadline.
const OVERDUE: u8 = 1;

/// How long the last line may take to be written; nobody may be reading it.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Reads nothing for so long when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nobody has asked to leave.
    Serving,
    /// Asked to leave by a signal; the time is over at `until`.
    Leaving {
        number: u8,
        since: Instant,
        until: Instant,
    },
    /// Python was told to end with `code`; at `until` this thread does it.
    Ending { code: u8, until: Instant },
}

/// What the signals and the clock mean, without a thread or a process.
#[derive(Debug)]
struct Wish {
    leave: Vec<u8>,
    deadline: Duration,
    echo: Duration,
    grace: Duration,
    state: State,
}

impl Wish {
    /// Hears one signal. The exit code to tell Python, if it is to end at once.
    fn heard(&mut self, number: u8, now: Instant) -> Option<u8> {
        if !self.leave.contains(&number) {
            return None;
        }
        match self.state {
            State::Serving => {
                self.state = State::Leaving {
                    number,
                    since: now,
                    until: now + self.deadline,
                };
                None
            }
            // A shell signals the whole process group, and a tool passes its own copy on to us.
            State::Leaving {
                number: first,
                since,
                ..
            } if first == number && now.duration_since(since) < self.echo => None,
            State::Leaving { .. } => Some(self.end(128 + number, now)),
            State::Ending { .. } => None,
        }
    }

    /// Looks at the clock. The exit code to tell Python when the time to leave has just run out.
    fn due(&mut self, now: Instant) -> Option<u8> {
        match self.state {
            State::Leaving { until, .. } if now >= until => Some(self.end(OVERDUE, now)),
            _ => None,
        }
    }

    fn end(&mut self, code: u8, now: Instant) -> u8 {
        self.state = State::Ending {
            code,
            until: now + self.grace,
        };
        code
    }

    /// The exit code, when Python was told and did not end.
    fn over(&self, now: Instant) -> Option<u8> {
        match self.state {
            State::Ending { code, until } if now >= until => Some(code),
            _ => None,
        }
    }

    /// How long nothing will happen by itself.
    fn pause(&self, now: Instant) -> Duration {
        match self.state {
            State::Serving => IDLE,
            State::Leaving { until, .. } | State::Ending { until, .. } => until
                .saturating_duration_since(now)
                .max(Duration::from_millis(1)),
        }
    }
}

/// Ends the process by its deadline and at a second signal. Made once, for the process's life.
#[pyclass(frozen)]
pub struct Guard {
    wakeup: UnixStream,
    told: Mutex<Receiver<u8>>,
}

#[pymethods]
impl Guard {
    #[new]
    #[pyo3(signature = (*, leave, forward, deadline_ms, echo_ms, grace_ms))]
    fn new(
        leave: Vec<u8>,
        forward: i32,
        deadline_ms: u64,
        echo_ms: u64,
        grace_ms: u64,
    ) -> PyResult<Self> {
        let forward = if forward < 0 {
            None
        } else {
            // SAFETY: the caller holds the descriptor open during this call; it is only duplicated.
            let borrowed = unsafe { BorrowedFd::borrow_raw(forward) };
            Some(UnixStream::from(borrowed.try_clone_to_owned()?))
        };
        let (wakeup, reader) = UnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        let (tell, told) = channel();
        let wish = Wish {
            leave,
            deadline: Duration::from_millis(deadline_ms),
            echo: Duration::from_millis(echo_ms),
            grace: Duration::from_millis(grace_ms),
            state: State::Serving,
        };
        std::thread::Builder::new()
            .name("moda-guard".to_owned())
            .spawn(move || watch(reader, forward, &tell, wish))
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self {
            wakeup,
            told: Mutex::new(told),
        })
    }

    /// The descriptor for `signal.set_wakeup_fd`.
    fn fileno(&self) -> i32 {
        self.wakeup.as_raw_fd()
    }

    /// Waits, without the GIL, for the exit code the process is to end with at once.
    fn wait(&self, py: Python<'_>) -> Option<u8> {
        py.detach(|| self.told.lock().ok()?.recv().ok())
    }
}

fn watch(
    mut reader: UnixStream,
    mut forward: Option<UnixStream>,
    tell: &Sender<u8>,
    mut wish: Wish,
) {
    let mut numbers = [0; 64];
    loop {
        let now = Instant::now();
        if let Some(code) = wish.due(now) {
            let _ = tell.send(code);
        }
        if let Some(code) = wish.over(now) {
            end(code);
        }
        if reader.set_read_timeout(Some(wish.pause(now))).is_err() {
            return;
        }
        match reader.read(&mut numbers) {
            Ok(0) => return,
            Ok(count) => {
                if let Some(loops) = &mut forward {
                    // Full or closed: the loop has enough to read, or is over.
                    let _ = loops.write(&numbers[..count]);
                }
                for number in &numbers[..count] {
                    if let Some(code) = wish.heard(*number, Instant::now()) {
                        let _ = tell.send(code);
                    }
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return,
        }
    }
}

/// Ends the process without running anything of Python, whose lock somebody holds.
fn end(code: u8) -> ! {
    // In a thread of its own: a full pipe would hold this one for ever.
    let _ = std::thread::Builder::new().spawn(move || {
        let line = format!(
            "{{\"event\":\"process.ended\",\"level\":\"critical\",\"logger\":\"moda.guard\",\
             \"code\":{code},\"problem\":\"something held the interpreter and it could not leave by itself\"}}\n"
        );
        let _ = std::io::stderr().write_all(line.as_bytes());
    });
    std::thread::sleep(LAST_WORDS);
    // SAFETY: takes any number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}
