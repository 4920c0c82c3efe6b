//! The benches that need a gateway with many clients: fan-out, holding, stalled readers.

use std::time::Duration;

use serde_json::{json, Value};

use crate::bare::Bare;
use crate::echo;
use crate::histogram::microseconds;
use crate::options::Options;
use crate::reception::{seconds, Account};
use crate::stage::{Order, Stage};
use crate::sys;
use crate::Failure;

/// Phases of the probes: nothing in particular, and what a scene is about.
const QUIET: usize = 0;
const SINGLE: usize = 1;
const STALLED: usize = 1;

/// `fanout`: single broadcasts, then as many as the gateway manages. With the gateway's process
/// known, a bare sender does the same over the same sockets before, between and after.
pub fn fanout(options: &Options) -> Result<Value, Failure> {
    let count: usize = options.positive("connections")?;
    let deliveries: u64 = options.positive("deliveries")?;
    let (pairs, singles): (usize, usize) = (options.number("pairs")?, options.number("singles")?);
    let (pid, frames): (i32, u64) = (options.number("pid")?, options.positive("per-turn")?);
    let bytes: usize = options.positive("bytes")?;
    let mut stage = Stage::open(options, 2)?;
    stage.swarm.stay_awake();
    stage.subscribe(count, options.number("in-flight")?)?;
    let bare = if pid == 0 {
        None
    } else {
        let core = echo::core(options, "server-core")?;
        Some(Bare::borrow(pid, core, &stage.addresses()?, bytes)?)
    };
    stage.idle(Duration::from_millis(500))?;

    // Warms what both phases use: the sockets' first frames, the encoder, the branch predictor.
    let one = Order {
        count: 1,
        per_turn: 1,
        bytes: bytes as u64,
        interval_us: 0,
    };
    stage.publish(Order { count: 3, ..one }, QUIET)?;
    if let Some(bare) = &bare {
        stage.bare(bare, 3, 1)?;
    }
    let mut single = Sides::default();
    let mut incomplete = 0;
    for turn in 0..=singles {
        if let Some(bare) = &bare {
            stage.idle(Duration::from_millis(50))?;
            stage.silence(true);
            stage.bare(bare, 1, 1)?;
            stage.silence(false);
            incomplete += single.note_span(Side::Bare, &stage);
        }
        if turn < singles {
            stage.idle(Duration::from_millis(50))?;
            stage.publish(one, SINGLE)?;
            incomplete += single.note_span(Side::Gateway, &stage);
        }
    }

    let rounds = (deliveries / (count as u64 * frames)).max(1);
    let order = Order {
        count: rounds * frames,
        per_turn: frames,
        ..one
    };
    let (start, cpu) = (sys::now(), sys::cpu_time());
    let mut burst = Sides::default();
    for turn in 0..=pairs {
        // Long enough for the heartbeats that keep everybody alive.
        stage.idle(Duration::from_millis(20))?;
        stage.silence(true);
        if let Some(bare) = &bare {
            let account = Account::begin(bare.pid())?;
            stage.bare(bare, rounds, frames)?;
            burst.note_rate(Side::Bare, &stage, order.count, &account)?;
        }
        if turn < pairs {
            let account = Account::begin(pid)?;
            stage.publish(order, QUIET)?;
            burst.note_rate(Side::Gateway, &stage, order.count, &account)?;
        }
        stage.silence(false);
    }
    let (took, cpu) = (sys::now() - start, sys::cpu_time() - cpu);
    stage.settle()?;
    Ok(json!({
        "command": "fanout",
        "connections": count,
        "bytes": bytes,
        "per_turn": frames,
        "burst": burst.values(),
        "single_last_us": single.values(),
        "single_incomplete": incomplete,
        "heartbeat_us": {
            "quiet": stage.observer.probes.summary(QUIET),
            "single": stage.observer.probes.summary(SINGLE),
        },
        "heartbeats_unanswered": stage.observer.probes.unanswered(),
        "client_cpu": seconds(cpu) / seconds(took.max(1)),
        "errors": stage.swarm.errors,
    }))
}

/// Who sent what was measured.
#[derive(Clone, Copy)]
enum Side {
    Gateway,
    Bare,
}

/// What was measured of each sender, in the order of time.
#[derive(Default)]
struct Sides([Vec<Value>; 2]);

impl Sides {
    /// Notes how long the last subscriber waited; 1 when somebody waits still.
    fn note_span(&mut self, side: Side, stage: &Stage) -> u64 {
        let reception = &stage.observer.reception;
        self.0[side as usize].push(json!(microseconds(reception.span())));
        u64::from(reception.received < stage.expected(1))
    }

    /// Notes the rate of so many broadcasts, and the sender's CPU time per delivery.
    fn note_rate(
        &mut self,
        side: Side,
        stage: &Stage,
        count: u64,
        account: &Account,
    ) -> Result<(), Failure> {
        let reception = &stage.observer.reception;
        let mut found = reception.summary(stage.expected(count));
        found["cpu_ns"] = account.per(reception.received)?;
        self.0[side as usize].push(found);
        Ok(())
    }

    fn values(self) -> Value {
        let [gateway, bare] = self.0;
        json!({ "gateway": gateway, "bare": bare })
    }
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

/// `stall`: readers that stop reading, between two spells in which as many read on, and what the
/// others notice. Their kernel buffers are made small, so what they leave unread reaches the gateway
/// soon. Says `stalled` on stderr when they have stopped and `published` when it is over.
pub fn stall(options: &Options) -> Result<Value, Failure> {
    let readers: usize = options.positive("readers")?;
    let stalled: usize = options.positive("stalled")?;
    let (span, calm_span) = (options.positive("seconds")?, options.positive("calm")?);
    let every: u64 = options.positive("interval-us")?;
    let bytes = options.positive("bytes")?;
    let order = |seconds: u64| Order {
        count: (seconds * 1_000_000 / every).max(1),
        per_turn: 1,
        bytes,
        interval_us: every,
    };
    let mut stage = Stage::open(options, 2)?;
    stage.swarm.stay_awake();
    stage.subscribe(readers, 0)?;

    let mut calm = Vec::new();
    let first = stage.swarm.connections.len();
    let group = stage.bystanders(stalled)?;
    calm.push(spell(&mut stage, order(calm_span), QUIET)?);

    (first..first + stalled).for_each(|id| stage.swarm.mute(id));
    eprintln!("stalled {stalled}");
    let disturbed = spell(&mut stage, order(span), STALLED)?;
    eprintln!("published");
    stage.drain(first..first + stalled);
    let survivors = stage.swarm.alive(group);
    (first..first + stalled).for_each(|id| stage.swarm.hang_up(id));

    stage.bystanders(stalled)?;
    calm.push(spell(&mut stage, order(calm_span), QUIET)?);
    let alive = stage.swarm.alive(stage.subscribers);
    stage.settle()?;
    Ok(json!({
        "command": "stall",
        "readers": readers,
        "readers_alive": alive,
        "stalled": stalled,
        "stalled_alive": survivors,
        "calm": calm,
        "disturbed": disturbed,
        "heartbeat_us": {
            "calm": stage.observer.probes.summary(QUIET),
            "disturbed": stage.observer.probes.summary(STALLED),
        },
        "heartbeats_unanswered": stage.observer.probes.unanswered(),
        "errors": stage.swarm.errors,
    }))
}

/// Publishes as ordered and says what the readers received and how late.
fn spell(stage: &mut Stage, order: Order, phase: usize) -> Result<Value, Failure> {
    stage.idle(Duration::from_millis(500))?;
    stage.publish(order, phase)?;
    let reception = &stage.observer.reception;
    let mut found = reception.summary(stage.expected(order.count));
    found["latency_us"] = reception.latency.summary();
    Ok(found)
}
