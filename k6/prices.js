// Watchers of `chart:prices`: every one gets whole Binance miniTicker events, soon.

import { Counter, Rate, Trend } from "k6/metrics";
import { check } from "k6";
import { Client, SHARE, clients, scenario, seconds, thresholds as common } from "./client.js";

const ticks = new Counter("price_ticks");
const wellFormed = new Rate("price_well_formed");
// From the event's own time (E, milliseconds) to its arrival.
const age = new Trend("price_age", true);

const SYMBOLS = 2;

export const options = {
  scenarios: { clients: scenario },
  thresholds: {
    ...common,
    checks: ["rate==1"],
    // Two symbols, about one tick a second each, for every watcher.
    price_ticks: [`count>${Math.floor(clients * seconds * SYMBOLS * SHARE)}`],
    price_well_formed: ["rate==1"],
    price_age: ["p(95)<250"],
  },
};

const DECIMAL = /^\d+(\.\d+)?$/;

export default function () {
  const client = new Client((topic, event, payload) => {
    if (topic !== "chart:prices" || event !== "price_tick") return;
    ticks.add(1);
    age.add(Date.now() - payload.E);
    wellFormed.add(
      payload.e === "24hrMiniTicker" &&
        /^[A-Z0-9]+$/.test(payload.s) &&
        [payload.c, payload.o, payload.h, payload.l, payload.v, payload.q].every((price) =>
          DECIMAL.test(price),
        ),
    );
  });
  client.start(() => {
    client.join("chart:prices", {}, (response) => {
      check(response, {
        "the reply says where prices come from": (r) =>
          ["live", "stale", "simulated"].includes(r.upstream),
      });
    });
  });
}
