//! Request and answer: heartbeats (answered in Rust) and `ping` events (answered by a Python
//! channel), each connection keeping a fixed number of requests outstanding.

use std::time::Duration;

use serde_json::{json, Value};

use crate::client::{Connection, Group, Target};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::reception::{rate, seconds, Account};
use crate::swarm::{Handler, Swarm};
use crate::sys;
use crate::wire;
use crate::Failure;

/// A heartbeat with its eight-digit number.
fn heartbeat(number: u64) -> String {
    format!(r#"[null,"{number:08}","phoenix","heartbeat",{{}}]"#)
}

/// Bytes of one masked heartbeat frame.
pub fn request_size() -> usize {
    let mut frame = Vec::new();
    wire::put_frame(&mut frame, wire::TEXT, heartbeat(0).as_bytes(), [0; 4]);
    frame.len()
}

/// The frame a Phoenix server answers a heartbeat with.
pub fn reply() -> Vec<u8> {
    let mut frame = Vec::new();
    let text = br#"[null,"00000000","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    wire::put_server_frame(&mut frame, text);
    frame
}

/// Which core an option names: a number, or `none`.
pub fn core(options: &Options, name: &str) -> Result<Option<usize>, Failure> {
    Ok(match options.text(name) {
        "none" => None,
        "last" => Some(sys::cores().saturating_sub(1)),
        _ => Some(options.number(name)?),
    })
}

/// Requests in flight on every connection.
pub struct Volley {
    /// The request before and after its number.
    head: String,
    tail: String,
    depth: usize,
    /// Whether answers carry the request's number: a bare echo answers with fixed bytes.
    numbered: bool,
    times: Vec<Vec<u64>>,
    asked: Vec<u64>,
    answered: Vec<u64>,
    text: Vec<u8>,
    pub answers: u64,
    misordered: u64,
    /// Answers whose status is not ok.
    refused: u64,
    latency: Histogram,
    stopping: bool,
}

impl Volley {
    pub fn heartbeats(connections: usize, depth: usize, numbered: bool) -> Self {
        let head = r#"[null,""#.to_owned();
        let tail = r#"","phoenix","heartbeat",{}]"#.to_owned();
        Self::new(head, tail, connections, depth, numbered)
    }

    fn new(head: String, tail: String, connections: usize, depth: usize, numbered: bool) -> Self {
        Self {
            head,
            tail,
            depth,
            numbered,
            times: vec![vec![0; depth]; connections],
            asked: vec![0; connections],
            answered: vec![0; connections],
            text: Vec::new(),
            answers: 0,
            misordered: 0,
            refused: 0,
            latency: Histogram::default(),
            stopping: false,
        }
    }

    fn ask(&mut self, connection: &mut Connection, now: u64) {
        let number = self.asked[connection.id];
        self.asked[connection.id] += 1;
        let slot = usize::try_from(number).unwrap_or_default() % self.depth;
        self.times[connection.id][slot] = now;
        self.text.clear();
        self.text.extend_from_slice(self.head.as_bytes());
        let mut digits = [b'0'; 8];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10).to_le_bytes()[0];
            rest /= 10;
        }
        self.text.extend_from_slice(&digits);
        self.text.extend_from_slice(self.tail.as_bytes());
        connection.queue(&self.text);
    }

    /// Fills every connection to its depth, lets it run half a second, then counts.
    pub fn measure(
        mut self,
        command: &str,
        swarm: &mut Swarm,
        server: i32,
        options: &Options,
    ) -> Result<Value, Failure> {
        let span = options.seconds("seconds")?;
        for id in 0..swarm.connections.len() {
            for _ in 0..self.depth {
                self.ask(&mut swarm.connections[id], sys::now());
            }
            swarm.flush(id);
        }
        swarm.run(Duration::from_millis(500), &mut self, |_, _| false)?;
        self.answers = 0;
        self.latency = Histogram::default();
        let account = Account::begin(server)?;
        let (start, cpu) = (sys::now(), sys::cpu_time());
        swarm.run(span, &mut self, |_, _| false)?;
        let (took, cpu) = (sys::now() - start, sys::cpu_time() - cpu);
        let (answers, latency) = (self.answers, self.latency.summary());
        let cpu_ns = account.per(answers)?;
        self.stopping = true;
        let outstanding =
            |volley: &Self| volley.asked.iter().sum::<u64>() - volley.answered.iter().sum::<u64>();
        let limit = Duration::from_secs(5);
        swarm.run(limit, &mut self, |_, volley| outstanding(volley) == 0)?;
        Ok(json!({
            "command": command,
            "connections": swarm.connections.len(),
            "depth": self.depth,
            "seconds": seconds(took),
            "answers": answers,
            "per_s": rate(answers, took),
            "cpu_ns": cpu_ns,
            "latency_us": latency,
            "unanswered": outstanding(&self),
            "misordered": self.misordered,
            "refused": self.refused,
            "client_cpu": seconds(cpu) / seconds(took),
            "errors": swarm.errors,
        }))
    }
}

impl Handler for Volley {
    fn message(&mut self, connection: &mut Connection, text: &[u8], now: u64) {
        let Some(reply) = wire::message(text).filter(|reply| reply.event == b"phx_reply") else {
            return;
        };
        let number = self.answered[connection.id];
        if self.numbered && wire::number(reply.reference) != Some(number) {
            self.misordered += 1;
        }
        if !wire::is_ok(reply.payload) {
            self.refused += 1;
        }
        self.answered[connection.id] += 1;
        let slot = usize::try_from(number).unwrap_or_default() % self.depth;
        self.latency
            .record(now.saturating_sub(self.times[connection.id][slot]));
        self.answers += 1;
        if !self.stopping {
            self.ask(connection, now);
        }
    }
}

/// `heartbeat` and `ping`: answers per second and their latency.
pub fn run(command: &str, options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let depth: usize = options.positive("depth")?;
    let mut swarm = Swarm::new(Target::parse(options.text("url"))?)?;
    let (group, mut volley) = if command == "ping" {
        let topic = options.text("topic");
        let head = r#"["1",""#.to_owned();
        let tail = format!(r#"","{topic}","ping",{{}}]"#);
        let volley = Volley::new(head, tail, count, depth, true);
        (swarm.group(Group::joining(topic)), volley)
    } else {
        (
            swarm.group(Group::default()),
            Volley::heartbeats(count, depth, true),
        )
    };
    let open = swarm.open(group, count, 0, Duration::from_secs(30), &mut volley)?;
    if open < count {
        return Err(Failure::from(format!(
            "only {open} of {count}: {:?}",
            swarm.errors
        )));
    }
    volley.measure(command, &mut swarm, options.number("pid")?, options)
}
