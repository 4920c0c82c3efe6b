// How the npm package `phoenix`, unchanged, gets through the ends of channels, joins and connections,
// and whether bytes and tokens arrive. The rooms are those of `obedient.py`.

import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { Socket } from 'phoenix';
import WebSocket from 'ws';
import { SOCKET, within } from './support.mjs';

const open = new Set();
const QUICK = { reconnectAfterMs: () => 20, rejoinAfterMs: () => 20 };

function connect(options = {}) {
  const socket = new Socket(SOCKET, { transport: WebSocket, ...QUICK, ...options });
  open.add(socket);
  return within(
    'the socket to open',
    new Promise((resolve) => {
      socket.onOpen(() => resolve(socket));
      socket.connect();
    }),
  );
}

afterEach(() =>
  Promise.all(
    [...open].map((socket) => {
      open.delete(socket);
      return new Promise((resolve) => socket.disconnect(resolve));
    }),
  ),
);

/** What comes of a push, as [status, response]. */
function outcome(what, push) {
  return within(
    what,
    new Promise((resolve) => {
      for (const status of ['ok', 'error', 'timeout']) push.receive(status, (response) => resolve([status, response]));
    }),
  );
}

const join = (channel, timeout) => outcome(`the join of ${channel.topic}`, channel.join(timeout));
const ask = (channel, event, payload) => outcome(`the answer to ${event}`, channel.push(event, payload));

/** Resolves when the channel's `how` (onClose, onError) was called. */
const told = (channel, how) => within(`${how} of ${channel.topic}`, new Promise((resolve) => channel[how](resolve)));

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

/** The response of the channel's second join, which it makes by itself. */
function rejoined(channel) {
  return within(
    `the second join of ${channel.topic}`,
    new Promise((resolve) => channel.joinPush.receive('ok', (response) => response.join > 1 && resolve(response))),
  );
}

describe('a channel', () => {
  it('that crashes is told so and joins again by itself', async () => {
    const socket = await connect();
    const room = socket.channel('room:crash', {});
    assert.equal((await join(room))[1].join, 1);
    const failed = told(room, 'onError');
    const again = rejoined(room);
    room.push('crash', {});
    await failed;
    assert.equal((await again).join, 2);
    assert.equal(room.state, 'joined');
    assert.deepEqual(await ask(room, 'echo', { n: 1 }), ['ok', { n: 1 }]);
  });

  for (const reason of ['normal', 'shutdown', 'shutdown:kicked']) {
    it(`that the server stops with "${reason}" gets the reply, closes and stays away`, async () => {
      const socket = await connect();
      const room = socket.channel(`room:stop ${reason}`, {});
      await join(room);
      const closed = told(room, 'onClose');
      let failed = false;
      room.onError(() => (failed = true));
      assert.deepEqual(await ask(room, 'stop', { reason }), ['ok', { bye: true }]);
      await closed;
      assert.equal(room.state, 'closed');
      assert.equal(failed, false);
      const other = socket.channel(`room:stop ${reason}`, {});
      assert.equal((await join(other))[1].join, 2, 'it had not joined again');
    });
  }

  it('that the server stops with any other reason joins again', async () => {
    const socket = await connect();
    const room = socket.channel('room:moved', {});
    await join(room);
    const again = rejoined(room);
    assert.deepEqual(await ask(room, 'stop', { reason: 'kicked' }), ['ok', { bye: true }]);
    assert.equal((await again).join, 2);
  });

  it('sends what was pushed while it joined, in order', async () => {
    const socket = await connect();
    const control = socket.channel('room:control', {});
    await join(control);
    const room = socket.channel('room:early', { gated: true });
    const joined = join(room);
    const answers = [1, 2, 3].map((n) => ask(room, 'echo', { n }));
    await ask(control, 'open', { topic: 'room:early' });
    assert.equal((await joined)[0], 'ok');
    assert.deepEqual(
      await Promise.all(answers),
      [1, 2, 3].map((n) => ['ok', { n }]),
    );
  });

  it('that is left while it joins is gone, and its topic can be joined', async () => {
    const socket = await connect();
    const control = socket.channel('room:control', {});
    await join(control);
    const room = socket.channel('room:left', { gated: true });
    room.join();
    await ask(control, 'begun', { topic: 'room:left' });
    assert.equal((await outcome('the leave', room.leave()))[0], 'ok');
    assert.equal(room.state, 'closed');
    const other = socket.channel('room:left', {});
    const joined = join(other);
    // As in Phoenix, the first join is answered before what follows it.
    await ask(control, 'open', { topic: 'room:left' });
    assert.equal((await joined)[1].join, 2);
    assert.deepEqual(await ask(other, 'echo', { n: 1 }), ['ok', { n: 1 }]);
    assert.equal(other.state, 'joined');
  });

  it('whose join takes too long for the client joins again and is served', async () => {
    const socket = await connect();
    const control = socket.channel('room:control', {});
    await join(control);
    let asked = 0;
    const room = socket.channel('room:late', () => ({ gated: asked++ === 0 }));
    const again = rejoined(room);
    assert.equal((await join(room, 200))[0], 'timeout');
    await ask(control, 'open', { topic: 'room:late' });
    assert.equal((await again).join, 2);
    assert.equal(room.state, 'joined');
    assert.deepEqual(await ask(room, 'echo', { n: 1 }), ['ok', { n: 1 }]);
  });

  it('carries bytes both ways', async () => {
    const socket = await connect();
    const room = socket.channel('room:bytes', {});
    await join(room);
    const bytes = [0, 1, 127, 128, 255];
    const [status, echoed] = await ask(room, 'echo', new Uint8Array(bytes).buffer);
    assert.equal(status, 'ok');
    assert.ok(echoed instanceof ArrayBuffer);
    assert.deepEqual([...new Uint8Array(echoed)], bytes);
    for (const event of ['push bytes', 'broadcast bytes']) {
      const heard = next(room, 'bytes');
      room.push(event, { bytes });
      assert.deepEqual([...new Uint8Array(await heard)], bytes, event);
    }
  });
});

describe('a socket', () => {
  it('shows its authToken, whatever is in it', async () => {
    const socket = await connect({ authToken: 'a token?>~ with + and /' });
    const [, { token }] = await join(socket.channel('room:token', {}));
    assert.equal(token, 'a token?>~ with + and /');
  });

  it('that the application disconnects gets 1001, comes back and joins its channels', async () => {
    const control = (await connect()).channel('room:control', {});
    await join(control);
    const socket = await connect({ params: { id: 'me' } });
    const room = socket.channel('room:kicked', {});
    await join(room);
    const closed = within('the close', new Promise((resolve) => socket.onClose(resolve)));
    const again = rejoined(room);
    assert.deepEqual(await ask(control, 'kick', { id: 'me' }), ['ok', { closed: 1 }]);
    assert.equal((await closed).code, 1001);
    assert.equal((await again).join, 2);
    assert.deepEqual(await ask(room, 'echo', { n: 1 }), ['ok', { n: 1 }]);
  });
});
