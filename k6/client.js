// A Phoenix V2 client of the size a load script needs: one socket, text frames, replies by ref.
//
// k6 runs many of these in one process with a JavaScript interpreter each, so it cannot find the
// limits of the gateway (rust/load does that). It finds what a load test is for: whether every
// client gets what it was promised while a few hundred others are there too.

import { WebSocket } from "k6/websockets";
import { Counter, Rate, Trend } from "k6/metrics";

export const joinTime = new Trend("phoenix_join", true);
export const heartbeatTime = new Trend("phoenix_heartbeat", true);
// A request counts as failed when it is refused, or not answered before the client leaves.
export const failures = new Rate("phoenix_failures");
export const closes = new Counter("phoenix_unexpected_closes");

export const url = `${__ENV.URL || "ws://127.0.0.1:4001"}/socket/websocket?vsn=2.0.0`;
export const seconds = Number(__ENV.SECONDS || 20);
export const clients = Number(__ENV.CLIENTS || 100);

// The part of what was promised that has to arrive. The rest is the edges: clients come over two
// seconds and leave over two, so that the last words of a room find some of it gone.
export const SHARE = 0.9;

// Every client connects within the first two seconds, stays, and leaves in order.
export const scenario = {
  executor: "per-vu-iterations",
  vus: clients,
  iterations: 1,
  maxDuration: `${seconds + 30}s`,
};

export class Client {
  // `onEvent(topic, event, payload)` hears everything that is no reply.
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.next = 1;
    this.waiting = new Map();
    this.leaving = false;
  }

  // Opens the socket after a random pause of up to two seconds and calls `onOpen(this)`.
  start(onOpen) {
    setTimeout(() => {
      this.socket = new WebSocket(url);
      this.socket.onopen = () => {
        this.beat = setInterval(() => this.heartbeat(), 1000);
        setTimeout(() => this.leave(), seconds * 1000);
        onOpen(this);
      };
      this.socket.onmessage = (message) => this.receive(JSON.parse(message.data));
      this.socket.onerror = () => failures.add(true);
      this.socket.onclose = () => {
        clearInterval(this.beat);
        if (!this.leaving) closes.add(1);
        for (const _ of this.waiting.values()) failures.add(true);
        this.waiting.clear();
      };
    }, Math.random() * 2000);
  }

  receive([, ref, topic, event, payload]) {
    if (event !== "phx_reply") {
      this.onEvent(topic, event, payload);
      return;
    }
    const request = this.waiting.get(ref);
    if (request === undefined) return;
    this.waiting.delete(ref);
    const ok = payload.status === "ok";
    failures.add(!ok);
    request.trend.add(Date.now() - request.sent);
    if (ok && request.then) request.then(payload.response);
  }

  // Sends a request; `trend` takes the time to its reply, `then` its response.
  push(joinRef, topic, event, payload, trend, then) {
    const ref = String(this.next++);
    this.waiting.set(ref, { sent: Date.now(), trend, then });
    this.socket.send(JSON.stringify([joinRef, ref, topic, event, payload]));
  }

  join(topic, payload, then) {
    this.push(topic, topic, "phx_join", payload, joinTime, then);
  }

  heartbeat() {
    this.push(null, "phoenix", "heartbeat", {}, heartbeatTime);
  }

  // Stops asking, gives what is under way a second, then closes.
  leave() {
    clearInterval(this.beat);
    this.leaving = true;
    setTimeout(() => this.socket.close(), 1000);
  }
}

// Thresholds every script shares. Milliseconds of a client that shares two cores with the server
// and with every other client: they catch a gateway that stalls, not one that got 5% slower.
export const thresholds = {
  phoenix_failures: ["rate==0"],
  phoenix_unexpected_closes: ["count==0"],
  phoenix_join: ["p(95)<500"],
  phoenix_heartbeat: ["p(95)<100", "p(99)<250"],
};
