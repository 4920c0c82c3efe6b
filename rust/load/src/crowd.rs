//! A crowd that arrives, at the gateway or at the machine's limit of it (`limits`).

use std::time::Duration;

use serde_json::{json, Value};

use crate::options::Options;
use crate::reception::{rate, seconds, Account};
use crate::stage::Stage;
use crate::swarm::{Handler, Swarm};
use crate::sys;
use crate::Failure;

/// Phases of the probes: before the crowd, and while it arrives.
const QUIET: usize = 0;
const JOINING: usize = 1;

/// Opens a crowd and says how its arrival went. A client counts when its join is answered.
pub fn arrive(
    swarm: &mut Swarm,
    group: usize,
    options: &Options,
    pid: i32,
    handler: &mut impl Handler,
) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let in_flight: usize = options.number("in-flight")?;
    let limit = options.seconds("limit")?;
    let account = Account::begin(pid)?;
    let (start, cpu) = (sys::now(), sys::cpu_time());
    let joined = swarm.open(group, count, in_flight, limit, handler)?;
    let crowd = swarm.connections.iter().filter(|one| one.group == group);
    let end = crowd.map(|one| one.ready).max().unwrap_or(start);
    let (took, cpu) = (end.saturating_sub(start), sys::cpu_time() - cpu);
    Ok(json!({
        "clients": count,
        "in_flight": in_flight,
        "joined": joined,
        "seconds": seconds(took),
        "per_s": rate(joined as u64, took),
        "cpu_ns": account.per(joined as u64)?,
        "client_cpu": seconds(cpu) / seconds(took.max(1)),
        "errors": swarm.errors,
    }))
}

/// `join`: a crowd arrives while neighbours send heartbeats.
pub fn join(options: &Options) -> Result<Value, Failure> {
    let mut stage = Stage::open(options, 2)?;
    stage.idle(Duration::from_secs(1))?;
    stage.observer.probes.phase = JOINING;
    let group = stage.subscribers;
    let (swarm, observer) = (&mut stage.swarm, &mut stage.observer);
    let mut found = arrive(swarm, group, options, options.number("pid")?, observer)?;
    stage.settle()?;
    found["command"] = json!("join");
    found["alive"] = json!(stage.swarm.alive(group));
    found["join_us"] = stage.observer.joins.summary();
    found["heartbeat_us"] = json!({
        "quiet": stage.observer.probes.summary(QUIET),
        "joining": stage.observer.probes.summary(JOINING),
    });
    found["heartbeats_unanswered"] = json!(stage.observer.probes.unanswered());
    found["errors"] = json!(stage.swarm.errors);
    Ok(found)
}
