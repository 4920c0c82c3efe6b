//! The engine's counters as the dictionary a scrape reads; the stub documents the keys.

use moda_core::gateway::{Full, Gateway};
use moda_core::hub::FANOUT_BOUNDS;
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub fn counters<'py>(
    py: Python<'py>,
    gateway: &Gateway<Py<PyAny>>,
    paths: &[String],
) -> PyResult<Bound<'py, PyDict>> {
    let engine = &gateway.hub;
    let (stats, counts) = (&engine.stats, &gateway.counts);
    let all = PyDict::new(py);
    let numbers: [(&str, u64); 37] = [
        ("connections", engine.connections() as u64),
        ("channels", counts.channels),
        ("topics", engine.topics() as u64),
        ("opened", stats.opened),
        ("closed", stats.closed),
        ("messages_in", stats.messages_in),
        ("bytes_in", stats.bytes_in),
        ("messages_out", stats.messages_out),
        ("bytes_out", stats.bytes_out),
        ("published", stats.published),
        ("deliveries", stats.deliveries),
        ("sends", stats.sends),
        ("short_sends", stats.short_sends),
        ("inbox_bytes", gateway.inward.bytes() as u64),
        ("outbox_bytes", stats.outbox_bytes as u64),
        ("history_bytes", stats.history_bytes as u64),
        ("history_shed", stats.history_shed),
        ("latest_bytes", stats.latest_bytes as u64),
        ("outboxes_bytes", engine.outboxes_bytes() as u64),
        ("slow_closed", stats.slow_closed),
        ("budget_closed", stats.budget_closed),
        ("pings", stats.pings),
        ("conflated", stats.conflated),
        ("dropped", stats.dropped),
        ("unencodable", stats.unencodable),
        ("joins", counts.joins),
        ("joins_refused", counts.joins_refused),
        ("leaves", counts.leaves),
        ("heartbeats", counts.heartbeats),
        ("stale", counts.stale),
        ("unmatched", counts.unmatched),
        ("to_stream", counts.to_stream),
        ("oversized", counts.oversized),
        ("too_deep", counts.too_deep),
        ("rate_limited", counts.rate_limited),
        ("handler_crashes", counts.handler_crashes),
        ("fanout_count", stats.fanout.count),
    ];
    for (name, value) in numbers {
        all.set_item(name, value)?;
    }
    let mounts = PyDict::new(py);
    for (number, path) in paths.iter().enumerate() {
        mounts.set_item(path, stats.mounts.get(number).copied().unwrap_or(0))?;
    }
    all.set_item("mounts", mounts)?;
    all.set_item("fanout_sum", stats.fanout.sum)?;
    all.set_item("fanout_bounds", FANOUT_BOUNDS.to_vec())?;
    all.set_item("fanout_buckets", stats.fanout.buckets.to_vec())?;
    let labelled = |name: &str, pairs: Vec<(&'static str, u64)>| -> PyResult<()> {
        let inner = PyDict::new(py);
        for (label, value) in pairs {
            inner.set_item(label, value)?;
        }
        all.set_item(name, inner)
    };
    labelled(
        "undecodable",
        counts.undecodable.iter().map(|(k, v)| (*k, *v)).collect(),
    )?;
    let refused = Full::ALL.map(|why| (why.as_str(), gateway.inward.refused(why)));
    labelled("inbox_refused", refused.to_vec())?;
    labelled(
        "violations",
        counts.violations.iter().map(|(k, v)| (*k, *v)).collect(),
    )?;
    let closes = PyDict::new(py);
    for (code, count) in stats.closes() {
        closes.set_item(code, count)?;
    }
    all.set_item("closes", closes)?;
    Ok(all)
}
