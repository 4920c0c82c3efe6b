// Telemetry and a chat: every client watches `telemetry:metrics`, and talks in a room of ten.
//
// The room is the one of benches/server.py: what one client says is broadcast to all, so each
// client waits both for the reply and for its own words to come round.

import { Counter, Rate, Trend } from "k6/metrics";
import { check } from "k6";
import { Client, SHARE, clients, scenario, seconds, thresholds as common } from "./client.js";

const sayTime = new Trend("chat_reply", true);
const roundTime = new Trend("chat_round", true);
const heard = new Counter("chat_heard");
const metrics = new Counter("telemetry_metrics");
const wellFormed = new Rate("telemetry_well_formed");

const PER_ROOM = 10;
const SAY_EVERY = 500;

// What a client says in its time, and how many hear it: its own room, the last of which may be small.
const said = (seconds * 1000) / SAY_EVERY;
const rest = clients % PER_ROOM;
const hearings = said * ((clients - rest) * PER_ROOM + rest * rest);
// The metrics that have something to say at every tick, and a tick every two seconds.
const METRICS = 17;
const points = (clients * seconds * METRICS) / 2;

export const options = {
  scenarios: { clients: scenario },
  thresholds: {
    ...common,
    chat_reply: ["p(95)<100"],
    chat_round: ["p(95)<100"],
    // Checks that never ran miss no rate; then the join failed, and phoenix_failures says so.
    checks: ["rate==1"],
    chat_heard: [`count>${Math.floor(hearings * SHARE)}`],
    telemetry_metrics: [`count>${Math.floor(points * SHARE)}`],
    telemetry_well_formed: ["rate==1"],
  },
};

export default function () {
  const me = __VU;
  const room = `bench:room:${Math.floor((me - 1) / PER_ROOM)}`;
  const client = new Client((topic, event, payload) => {
    if (topic === room && event === "said") {
      heard.add(1);
      if (payload.from === me) roundTime.add(Date.now() - payload.at);
    } else if (event === "metric") {
      metrics.add(1);
      wellFormed.add(
        typeof payload.name === "string" &&
          typeof payload.unit === "string" &&
          typeof payload.tsUnixSec === "number" &&
          Array.isArray(payload.series),
      );
    }
  });
  client.start(() => {
    client.join("telemetry:metrics", {}, (response) => {
      check(response, { "telemetry says its interval": (r) => r.interval_ms >= 250 });
    });
    client.join(room, {}, () => {
      const talk = setInterval(() => {
        if (client.leaving) {
          clearInterval(talk);
          return;
        }
        client.push(room, room, "say", { from: me, at: Date.now(), text: "hello" }, sayTime);
      }, SAY_EVERY);
    });
  });
}
