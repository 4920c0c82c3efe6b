//! `moda-load`: a swarm of Phoenix clients, and the limits of the machine it runs on.
//!
//! Every command prints one JSON object on stdout, progress and errors on stderr, and exits 0 when
//! it could measure (what it measured may be bad), 1 when it could not, 2 for a wrong command line.

mod bare;
mod client;
mod crowd;
mod echo;
mod histogram;
mod limits;
mod options;
mod probes;
mod reception;
mod relay;
mod scenes;
mod stage;
mod swarm;
mod sys;
mod wire;

use std::fmt;
use std::io;
use std::process::ExitCode;

use options::{describe, flag, Flag, Options};
use serde_json::Value;

/// Why nothing could be measured.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

const DEFAULT_URL: &str = "ws://127.0.0.1:4001/socket/websocket?vsn=2.0.0";
const URL: Flag = flag("url", DEFAULT_URL, "the gateway's socket");
const CORE: Flag = flag("core", "last", "core to stay on: a number, last, or none");
const SERVER_CORE: Flag = flag(
    "server-core",
    "0",
    "core of the other end: a number, last, or none",
);
const CONNECTIONS: Flag = flag("connections", "1000", "number of clients");
const FEW: Flag = flag("connections", "100", "number of clients");
const MANY: Flag = flag("connections", "10000", "number of clients");
const DEPTH: Flag = flag("depth", "16", "requests in flight per client");
const SECONDS: Flag = flag("seconds", "3", "how long to measure");
const MINUTE: Flag = flag("seconds", "60", "how long");
const BYTES: Flag = flag(
    "bytes",
    "120",
    "size of a broadcast as text, frame header not counted",
);
const PER_TURN: Flag = flag("per-turn", "1", "broadcasts per turn of the server's loop");
const DELIVERIES: Flag = flag(
    "deliveries",
    "30000",
    "about how many deliveries in each measurement",
);
const PAIRS: Flag = flag(
    "pairs",
    "15",
    "measurements of the gateway, each between two of the bare sender",
);
const SINGLES: Flag = flag("singles", "20", "single broadcasts to time");
const MILLISECOND: Flag = flag(
    "interval-us",
    "1000",
    "pause between broadcasts in microseconds",
);
const TOPIC: Flag = flag("topic", "bench:stream", "topic to join");
const CHANNEL: Flag = flag(
    "topic",
    "bench:channel",
    "topic to join, which answers `ping`",
);
const PAIRED: Flag = flag(
    "topic",
    "bench:relay:",
    "what the topics begin with; the number of the pair follows",
);
const PROBES: Flag = flag("probes", "10", "neighbours sending heartbeats");
const PROBE_MS: Flag = flag(
    "probe-ms",
    "20",
    "milliseconds between heartbeats of a neighbour",
);
const BOUNDED: Flag = flag(
    "in-flight",
    "200",
    "clients between connect and join; 0 for all",
);
const AT_ONCE: Flag = flag(
    "in-flight",
    "0",
    "clients between connect and join; 0 for all",
);
const LIMIT: Flag = flag(
    "limit",
    "30",
    "seconds after which a client counts as timed out",
);
const PID: Flag = flag(
    "pid",
    "0",
    "the server's process, for its CPU time and its sockets; 0 for none",
);
const PATIENCE: Flag = flag(
    "patience",
    "10",
    "seconds without a delivery after which the rest is missing",
);
const READERS: Flag = flag("readers", "50", "clients that read and are measured");
const STALLED: Flag = flag("stalled", "100", "clients that stop reading");
const CALM: Flag = flag(
    "calm",
    "20",
    "seconds before and after in which as many read on",
);

type Run = fn(&Options) -> Result<Value, Failure>;

struct Command {
    name: &'static str,
    help: &'static str,
    flags: &'static [&'static Flag],
    run: Run,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "limit-echo",
        help: "machine limit: a bare epoll echo of heartbeat frames",
        flags: &[&FEW, &DEPTH, &SECONDS, &SERVER_CORE, &CORE],
        run: limits::echo,
    },
    Command {
        name: "limit-join",
        help: "machine limit: the crowd of `join` at a bare epoll loop",
        flags: &[&MANY, &TOPIC, &AT_ONCE, &LIMIT, &SERVER_CORE, &CORE],
        run: limits::join,
    },
    Command {
        name: "fanout",
        help: "broadcasts to many subscribers (needs bench:control), and with --pid a bare send loop over the same sockets",
        flags: &[
            &URL,
            &PID,
            &CONNECTIONS,
            &TOPIC,
            &BYTES,
            &PER_TURN,
            &DELIVERIES,
            &PAIRS,
            &SINGLES,
            &PROBES,
            &PROBE_MS,
            &PATIENCE,
            &BOUNDED,
            &SERVER_CORE,
            &CORE,
        ],
        run: scenes::fanout,
    },
    Command {
        name: "heartbeat",
        help: "heartbeats answered per second",
        flags: &[&URL, &PID, &FEW, &DEPTH, &SECONDS, &CORE],
        run: |options| echo::run("heartbeat", options),
    },
    Command {
        name: "ping",
        help: "`ping` events answered by a channel per second",
        flags: &[&URL, &PID, &FEW, &DEPTH, &SECONDS, &CHANNEL, &CORE],
        run: |options| echo::run("ping", options),
    },
    Command {
        name: "relay",
        help: "messages between the two clients of each topic, per second",
        flags: &[&URL, &PID, &FEW, &DEPTH, &SECONDS, &PAIRED, &CORE],
        run: relay::run,
    },
    Command {
        name: "join",
        help: "a crowd that connects and joins",
        flags: &[
            &URL, &PID, &MANY, &TOPIC, &AT_ONCE, &LIMIT, &PROBES, &PROBE_MS, &PATIENCE, &CORE,
        ],
        run: crowd::join,
    },
    Command {
        name: "hold",
        help: "idle clients with a heartbeat every 30 s; says `ready` on stderr",
        flags: &[
            &URL, &MANY, &TOPIC, &MINUTE, &BOUNDED, &NO_PROBES, &PROBE_MS, &PATIENCE, &CORE,
        ],
        run: scenes::hold,
    },
    Command {
        name: "stall",
        help: "readers that stop reading, and what the others notice (needs bench:control)",
        flags: &[
            &URL,
            &READERS,
            &STALLED,
            &TOPIC,
            &BYTES,
            &MILLISECOND,
            &MINUTE,
            &CALM,
            &PROBES,
            &PROBE_MS,
            &PATIENCE,
            &CORE,
        ],
        run: scenes::stall,
    },
];

const NO_PROBES: Flag = flag("probes", "0", "neighbours sending heartbeats");

fn usage() -> String {
    let mut text = "moda-load COMMAND [--option VALUE ...]\n".to_owned();
    for command in COMMANDS {
        let (name, help) = (command.name, command.help);
        text.push_str(&["\n", name, ": ", help, "\n", &describe(command.flags)].concat());
    }
    text
}

fn measure(command: &Command, options: &Options) -> Result<Value, Failure> {
    sys::raise_descriptor_limit()?;
    if let Some(core) = echo::core(options, "core")? {
        sys::pin(core)?;
    }
    (command.run)(options)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = words.first().map_or("", String::as_str);
    if matches!(wanted, "" | "help" | "--help" | "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == wanted) else {
        eprintln!("moda-load: no such command: {wanted:?}\n{}", usage());
        return ExitCode::from(2);
    };
    let options = match Options::parse(command.flags, &words[1..]) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("moda-load {wanted}: {error}");
            return ExitCode::from(2);
        }
    };
    match measure(command, &options) {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("moda-load {wanted}: {error}");
            ExitCode::FAILURE
        }
    }
}
