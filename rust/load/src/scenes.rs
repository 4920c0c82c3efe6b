//! The benches that need a gateway with many clients: fan-out, arrival, holding, stalled readers.

use std::time::Duration;

use serde_json::{json, Value};

use crate::limits::spread;
use crate::options::Options;
use crate::reception::{rate, seconds, Account};
use crate::stage::{Order, Stage};
use crate::sys;
use crate::Failure;

/// Phases of the probes: before anything happens, and during what is measured.
const QUIET: usize = 0;
const SINGLE: usize = 1;
const BURST: usize = 2;

fn order(options: &Options, count: u64) -> Result<Order, Failure> {
    Ok(Order {
        count,
        per_turn: options.positive("per-turn")?,
        bytes: options.positive("bytes")?,
        interval_us: options.number("interval-us")?,
    })
}

/// `fanout`: single broadcasts, then as many as the gateway manages.
pub fn fanout(options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let deliveries: u64 = options.positive("deliveries")?;
    let singles: usize = options.number("singles")?;
    let mut stage = Stage::open(options, 3)?;
    stage.swarm.stay_awake();
    stage.subscribe(count, options.number("in-flight")?)?;
    stage.idle(Duration::from_millis(500))?;

    // Warms what both phases use: the sockets' first frames, the encoder, the branch predictor.
    let warm = Order {
        per_turn: 1,
        interval_us: 0,
        ..order(options, 3)?
    };
    stage.publish(warm, QUIET)?;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut incomplete = 0;
    for _ in 0..singles {
        stage.idle(Duration::from_millis(100))?;
        stage.publish(Order { count: 1, ..warm }, SINGLE)?;
        let reception = &stage.observer.reception;
        if reception.received < stage.expected(1) {
            incomplete += 1;
            continue;
        }
        first.push(reception.latency.percentile(0));
        last.push(reception.span());
    }

    let order = order(options, (deliveries / count as u64).max(1))?;
    let account = Account::begin(options.number("pid")?)?;
    let (start, cpu) = (sys::now(), sys::cpu_time());
    let server = stage.publish(order, BURST)?;
    let (took, cpu) = (sys::now() - start, sys::cpu_time() - cpu);
    let reception = &stage.observer.reception;
    let mut burst = reception.summary(stage.expected(order.count));
    burst["cpu_ns"] = account.per(reception.received)?;
    let latency = reception.latency.summary();
    stage.settle()?;
    Ok(json!({
        "command": "fanout",
        "connections": count,
        "bytes": order.bytes,
        "per_turn": order.per_turn,
        "burst": burst,
        "latency_us": latency,
        "server": server,
        "single_first_us": spread(&mut first),
        "single_last_us": spread(&mut last),
        "single_incomplete": incomplete,
        "heartbeat_us": {
            "quiet": stage.observer.probes.summary(QUIET),
            "single": stage.observer.probes.summary(SINGLE),
            "burst": stage.observer.probes.summary(BURST),
        },
        "heartbeats_unanswered": stage.observer.probes.unanswered(),
        "client_cpu": seconds(cpu) / seconds(took),
        "errors": stage.swarm.errors,
    }))
}

/// `join`: a crowd arrives. A client counts when its join is answered.
pub fn join(options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let in_flight: usize = options.number("in-flight")?;
    let limit = options.seconds("limit")?;
    let mut stage = Stage::open(options, 2)?;
    stage.idle(Duration::from_secs(1))?;
    stage.observer.probes.phase = 1;
    let account = Account::begin(options.number("pid")?)?;
    let (start, cpu) = (sys::now(), sys::cpu_time());
    let (swarm, observer) = (&mut stage.swarm, &mut stage.observer);
    let joined = swarm.open(stage.subscribers, count, in_flight, limit, observer)?;
    let end = stage
        .swarm
        .connections
        .iter()
        .map(|one| one.ready)
        .max()
        .unwrap_or(start);
    let (took, cpu) = (end.saturating_sub(start), sys::cpu_time() - cpu);
    let cpu_ns = account.per(joined as u64)?;
    stage.settle()?;
    Ok(json!({
        "command": "join",
        "clients": count,
        "in_flight": in_flight,
        "joined": joined,
        "alive": stage.swarm.alive(stage.subscribers),
        "seconds": seconds(took),
        "per_s": rate(joined as u64, took),
        "cpu_ns": cpu_ns,
        "join_us": stage.observer.joins.summary(),
        "heartbeat_us": {
            "quiet": stage.observer.probes.summary(QUIET),
            "joining": stage.observer.probes.summary(1),
        },
        "heartbeats_unanswered": stage.observer.probes.unanswered(),
        "client_cpu": seconds(cpu) / seconds(took.max(1)),
        "errors": stage.swarm.errors,
    }))
}

/// `hold`: idle clients, for whoever measures the server from outside. Says `ready` on stderr.
pub fn hold(options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let span = options.seconds("seconds")?;
    let mut stage = Stage::open(options, 1)?;
    stage.subscribe(count, options.number("in-flight")?)?;
    eprintln!("ready {count}");
    let cpu = sys::cpu_time();
    stage.idle(span)?;
    let cpu = sys::cpu_time() - cpu;
    Ok(json!({
        "command": "hold",
        "connections": count,
        "alive": stage.swarm.alive(stage.subscribers),
        "seconds": span.as_secs_f64(),
        "beats_us": stage.observer.beats.summary(),
        "client_cpu": seconds(cpu) / span.as_secs_f64(),
        "errors": stage.swarm.errors,
    }))
}

/// `stall`: readers that joined and, as told, read on, stop reading, or are not there at all, and
/// what the others notice. Their kernel buffers are made small, so what they leave unread reaches
/// the gateway soon.
pub fn stall(options: &Options) -> Result<Value, Failure> {
    let readers: usize = options.positive("readers")?;
    let stalled: usize = options.positive("stalled")?;
    let span: u64 = options.positive("seconds")?;
    let every: u64 = options.positive("interval-us")?;
    let behaviour = options.text("behaviour");
    let mut stage = Stage::open(options, 2)?;
    stage.subscribe(readers, 0)?;
    let mut group = stage.subscribers;
    let first = stage.swarm.connections.len();
    if behaviour != "absent" {
        group = stage.bystanders(stalled)?;
    }
    match behaviour {
        "absent" | "reading" => {}
        "stalled" => (first..first + stalled).for_each(|id| stage.swarm.mute(id)),
        other => {
            let takes = "absent, reading or stalled";
            return Err(format!("--behaviour: got {other:?}, takes {takes}").into());
        }
    }
    stage.idle(Duration::from_millis(500))?;
    eprintln!("ready {behaviour}");
    let order = Order {
        per_turn: 1,
        ..order(options, span * 1_000_000 / every)?
    };
    let server = stage.publish(order, 1)?;
    eprintln!("published");
    let reception = &stage.observer.reception;
    let (burst, latency) = (
        reception.summary(stage.expected(order.count)),
        reception.latency.summary(),
    );
    let alive = stage.swarm.alive(stage.subscribers);
    stage.settle()?;
    stage.drain(first);
    Ok(json!({
        "command": "stall",
        "behaviour": behaviour,
        "readers": readers,
        "readers_alive": alive,
        "stalled": if behaviour == "absent" { 0 } else { stalled },
        "stalled_alive": if behaviour == "absent" { 0 } else { stage.swarm.alive(group) },
        "broadcasts": order.count,
        "received": burst,
        "latency_us": latency,
        "heartbeat_us": stage.observer.probes.summary(1),
        "heartbeats_unanswered": stage.observer.probes.unanswered(),
        "server": server,
        "errors": stage.swarm.errors,
    }))
}
