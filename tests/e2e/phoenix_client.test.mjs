// The npm package `phoenix`, unchanged, against a running gateway. It is the client that every promise
// of the wire was written for; here it says itself whether they are kept.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { Socket } from 'phoenix';
import WebSocket from 'ws';
import { eventually, SOCKET, within } from './support.mjs';

let socket;

/** Sockets of single tests; one left open by a failed test would keep the process alive for ever. */
const passing = new Set();

function connect(options = {}) {
  const made = new Socket(SOCKET, { transport: WebSocket, ...options });
  passing.add(made);
  return within(
    'the socket to open',
    new Promise((resolve) => {
      made.onOpen(() => resolve(made));
      made.connect();
    }),
  );
}

function disconnect(made) {
  passing.delete(made);
  return new Promise((resolve) => made.disconnect(resolve));
}

/** Joins and resolves with [status, response], whatever the status. */
function join(channel) {
  return within(
    `the reply to the join of ${channel.topic}`,
    new Promise((resolve) => {
      const push = channel.join();
      for (const status of ['ok', 'error', 'timeout']) push.receive(status, (response) => resolve([status, response]));
    }),
  );
}

/** The next payload of `event`. */
function next(channel, event) {
  return within(
    `${event} on ${channel.topic}`,
    new Promise((resolve) => {
      const ref = channel.on(event, (payload) => {
        channel.off(event, ref);
        resolve(payload);
      });
    }),
  );
}

before(async () => {
  socket = await connect();
  passing.delete(socket);
});

afterEach(() => Promise.all([...passing].map(disconnect)));

after(() => disconnect(socket));

describe('telemetry:metrics', () => {
  it('is joined with an empty payload and sends metrics of the contract', async () => {
    const channel = socket.channel('telemetry:metrics', {});
    const names = new Set();
    const points = [];
    channel.on('metric', (point) => {
      points.push(point);
      names.add(point.name);
    });
    const [status, response] = await join(channel);
    assert.equal(status, 'ok');
    assert.equal(response.interval_ms, 2000);
    await eventually('several metrics', () => names.has('system.memory.usage') && names.size >= 5);
    for (const point of points) {
      assert.deepEqual(Object.keys(point).sort(), ['name', 'series', 'tsUnixSec', 'unit']);
      assert.equal(typeof point.unit, 'string');
      assert.ok(Number.isFinite(point.tsUnixSec) && point.tsUnixSec > 1.6e9, `tsUnixSec ${point.tsUnixSec}`);
      assert.ok(point.series.length >= 1);
      for (const { key, value } of point.series) {
        assert.equal(typeof key, 'string');
        assert.ok(Number.isFinite(value), `${point.name}.${key} is ${value}`);
      }
    }
    channel.leave();
  });

  it('says the interval that is in effect when another one was asked for', async () => {
    const other = await connect();
    const channel = other.channel('telemetry:metrics', { interval_ms: 250 });
    assert.deepEqual((await join(channel))[1].interval_ms, 250);
    const first = await next(channel, 'metric');
    const second = await within(
      'a later sample',
      new Promise((resolve) => {
        channel.on('metric', (point) => point.tsUnixSec > first.tsUnixSec && resolve(point));
      }),
    );
    assert.ok(second.tsUnixSec > first.tsUnixSec);
    await disconnect(other);
  });
});

describe('chart:prices', () => {
  it('says at once what kind of prices these are, and sends tickers as decimal text', async () => {
    const channel = socket.channel('chart:prices', {});
    const [status, response] = await join(channel);
    assert.equal(status, 'ok');
    assert.equal(response.upstream, 'simulated');
    const tick = await next(channel, 'price_tick');
    assert.equal(tick.e, '24hrMiniTicker');
    assert.ok(Number.isInteger(tick.E));
    assert.match(tick.s, /^[A-Z0-9]+$/);
    for (const key of ['c', 'o', 'h', 'l', 'v', 'q']) assert.match(tick[key], /^\d+(\.\d+)?$/, key);
    channel.leave();
  });

  it('sends every configured symbol', async () => {
    const channel = socket.channel('chart:prices', {});
    const symbols = new Set();
    channel.on('price_tick', ({ s }) => symbols.add(s));
    await join(channel);
    await eventually('BTCUSDT and ETHUSDT', () => symbols.has('BTCUSDT') && symbols.has('ETHUSDT'));
    channel.leave();
  });
});

describe('the socket', () => {
  it('answers heartbeats while it is joined to something and while it is not', async () => {
    const other = await connect({ heartbeatIntervalMs: 100 });
    const ping = () => within('a heartbeat reply', new Promise((resolve) => other.ping(resolve)));
    for (let turn = 0; turn < 5; turn += 1) assert.ok((await ping()) >= 0);
    await join(other.channel('chart:prices'));
    for (let turn = 0; turn < 5; turn += 1) assert.ok((await ping()) >= 0);
    assert.equal(other.isConnected(), true);
    await disconnect(other);
  });

  it('refuses a topic nobody serves, by name, and lives on', async () => {
    const channel = socket.channel('nobody:serves:this');
    assert.deepEqual(await join(channel), ['error', { reason: 'unmatched topic' }]);
    channel.leave();
    assert.equal(socket.isConnected(), true);
    const neighbour = socket.channel('chart:prices');
    assert.equal((await join(neighbour))[0], 'ok');
    neighbour.leave();
  });

  it('carries two topics side by side', async () => {
    const prices = socket.channel('chart:prices');
    const metrics = socket.channel('telemetry:metrics');
    const seen = Promise.all([next(prices, 'price_tick'), next(metrics, 'metric')]);
    await Promise.all([join(prices), join(metrics)]);
    const [tick, metric] = await seen;
    assert.ok(tick.s && metric.name);
    prices.leave();
    metrics.leave();
  });

  it('joins again after leaving, and hears nothing in between', async () => {
    const channel = socket.channel('chart:prices');
    await join(channel);
    await next(channel, 'price_tick');
    const closed = new Promise((resolve) => channel.onClose(resolve));
    let heard = 0;
    channel.leave();
    channel.on('price_tick', () => (heard += 1));
    await within('the close of the left channel', closed);
    const again = socket.channel('chart:prices');
    assert.equal((await join(again))[0], 'ok');
    await next(again, 'price_tick');
    assert.equal(heard, 0);
    again.leave();
  });

  it('comes back by itself after the line was cut, and so do its channels', async () => {
    const other = await connect({ reconnectAfterMs: () => 20, rejoinAfterMs: () => 20 });
    const channel = other.channel('chart:prices');
    await join(channel);
    await next(channel, 'price_tick');
    const dropped = new Promise((resolve) => other.onClose(resolve));
    other.conn.terminate();
    await within('the loss', dropped);
    const tick = await next(channel, 'price_tick');
    assert.ok(tick.s);
    assert.equal(channel.state, 'joined');
    await disconnect(other);
  });

  it('ends the older join of a topic when the same socket joins it again', async () => {
    const other = await connect();
    const first = other.channel('chart:prices');
    assert.equal((await join(first))[0], 'ok');
    const second = other.channel('chart:prices');
    assert.equal((await join(second))[0], 'ok');
    assert.ok((await next(second, 'price_tick')).s);
    assert.equal(second.state, 'joined');
    await disconnect(other);
  });
});
