//! Messages that clients publish to each other: pairs on a topic of their own, a fixed number under
//! way in each direction. Every message that arrives is followed by one back.
//!
//! Nothing is acknowledged: a message counts when the other has received it, in its order.

use std::time::Duration;

use serde_json::{json, Value};

use crate::client::{Connection, Group, Target};
use crate::options::Options;
use crate::reception::{rate, seconds, Account};
use crate::swarm::{Handler, Swarm};
use crate::sys;
use crate::wire;
use crate::Failure;

/// The last digits of a message's payload, `{"n":"00000000"}`, and what is around them.
const HEAD: &str = r#"","said",{"n":""#;
const TAIL: &str = r#""}]"#;

struct Pairs {
    topic: String,
    sent: Vec<u64>,
    heard: Vec<u64>,
    misordered: u64,
    stopping: bool,
}

impl Pairs {
    /// Two connections that follow one another share a topic.
    fn topic(&self, pair: usize) -> String {
        format!("{}{pair}", self.topic)
    }

    fn say(&mut self, connection: &mut Connection) {
        let number = self.sent[connection.id];
        self.sent[connection.id] += 1;
        let topic = self.topic(connection.id / 2);
        let text = format!(r#"["1",null,"{topic}{HEAD}{number:08}{TAIL}"#);
        connection.queue(text.as_bytes());
    }

    fn received(&self) -> u64 {
        self.heard.iter().sum()
    }

    fn outstanding(&self) -> u64 {
        self.sent.iter().sum::<u64>() - self.received()
    }
}

impl Handler for Pairs {
    fn message(&mut self, connection: &mut Connection, text: &[u8], _now: u64) {
        let Some(message) = wire::message(text).filter(|message| message.event == b"said") else {
            return;
        };
        let digits = message.payload.strip_suffix(b"\"}");
        let digits = digits.and_then(|rest| rest.get(rest.len().saturating_sub(8)..));
        if digits.and_then(wire::number) != Some(self.heard[connection.id]) {
            self.misordered += 1;
        }
        self.heard[connection.id] += 1;
        if !self.stopping {
            self.say(connection);
        }
    }
}

/// `relay`: messages per second from clients to clients.
pub fn run(options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let depth: usize = options.positive("depth")?;
    let span = options.seconds("seconds")?;
    if count % 2 == 1 {
        return Err(Failure::from(format!(
            "--connections: takes an even number, they go in pairs; got {count}"
        )));
    }
    let mut swarm = Swarm::new(Target::parse(options.text("url"))?)?;
    let mut pairs = Pairs {
        topic: options.text("topic").to_owned(),
        sent: vec![0; count],
        heard: vec![0; count],
        misordered: 0,
        stopping: false,
    };
    let limit = Duration::from_secs(30);
    for pair in 0..count / 2 {
        let group = swarm.group(Group::joining(&pairs.topic(pair)));
        let open = swarm.open(group, 2, 0, limit, &mut pairs)?;
        if open < 2 {
            let errors = &swarm.errors;
            return Err(Failure::from(format!(
                "pair {pair} did not join: {errors:?}"
            )));
        }
    }
    for id in 0..count {
        for _ in 0..depth {
            pairs.say(&mut swarm.connections[id]);
        }
        swarm.flush(id);
    }
    swarm.run(Duration::from_millis(500), &mut pairs, |_, _| false)?;
    let before = pairs.received();
    let account = Account::begin(options.number("pid")?)?;
    let (start, cpu) = (sys::now(), sys::cpu_time());
    swarm.run(span, &mut pairs, |_, _| false)?;
    let (took, cpu) = (sys::now() - start, sys::cpu_time() - cpu);
    let received = pairs.received() - before;
    let cpu_ns = account.per(received)?;
    pairs.stopping = true;
    let limit = Duration::from_secs(5);
    swarm.run(limit, &mut pairs, |_, pairs| pairs.outstanding() == 0)?;
    Ok(json!({
        "command": "relay",
        "connections": count,
        "depth": depth,
        "seconds": seconds(took),
        "received": received,
        "per_s": rate(received, took),
        "cpu_ns": cpu_ns,
        "lost": pairs.outstanding(),
        "misordered": pairs.misordered,
        "client_cpu": seconds(cpu) / seconds(took),
        "errors": swarm.errors,
    }))
}
