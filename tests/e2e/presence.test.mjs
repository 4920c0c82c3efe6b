// The class Presence of the npm package `phoenix`, unchanged: two clients in a room see each other come,
// change and go, and hold what the server holds.

import assert from 'node:assert/strict';
import { after, afterEach, describe, it } from 'node:test';
import { Presence, Socket } from 'phoenix';
import WebSocket from 'ws';
import { eventually, SOCKET, within } from './support.mjs';

const sockets = new Set();

function connect() {
  const socket = new Socket(SOCKET, { transport: WebSocket });
  sockets.add(socket);
  socket.connect();
  return socket;
}

async function disconnectAll() {
  await Promise.all([...sockets].map((socket) => new Promise((resolve) => socket.disconnect(resolve))));
  sockets.clear();
}

/** A client in a room: its channel, its Presence, and what that has reported. */
async function enter(room, name, socket = connect()) {
  const channel = socket.channel(room, { name });
  const presence = new Presence(channel);
  const seen = { joined: [], left: [], syncs: 0 };
  presence.onJoin((key) => seen.joined.push(key));
  presence.onLeave((key) => seen.left.push(key));
  presence.onSync(() => {
    seen.syncs += 1;
  });
  const push = channel.join();
  await within(`the join of ${name}`, new Promise((resolve) => push.receive('ok', resolve)));
  const names = () => presence.list((key) => key).sort();
  return { socket, channel, presence, seen, names };
}

/** What the server says is there. */
function listed(channel) {
  return within('the list', new Promise((resolve) => channel.push('list', {}).receive('ok', resolve)));
}

/** Both hold the same set: names, fields and references. */
async function agree(client) {
  const theirs = JSON.stringify(await listed(client.channel));
  const mine = {};
  for (const key of Object.keys(JSON.parse(theirs))) mine[key] = client.presence.state[key];
  assert.equal(JSON.stringify(mine), theirs);
  assert.deepEqual(client.names(), Object.keys(JSON.parse(theirs)).sort());
}

describe('Presence', () => {
  afterEach(disconnectAll);
  after(disconnectAll);

  it('knows who is there, who comes and who goes', async () => {
    const ann = await enter('room:a', 'ann');
    await eventually('ann to see herself', () => ann.names().join() === 'ann');
    const bob = await enter('room:a', 'bob');
    await eventually('both to see both', () => ann.names().join() === 'ann,bob' && bob.names().join() === 'ann,bob');
    assert.deepEqual(ann.seen.joined, ['ann', 'bob']);
    await agree(ann);
    await agree(bob);
    bob.channel.leave();
    await eventually('bob to be gone', () => ann.names().join() === 'ann');
    assert.deepEqual(ann.seen.left, ['bob']);
    await agree(ann);
  });

  it('sees a status change as one meta for another', async () => {
    const ann = await enter('room:b', 'ann');
    const bob = await enter('room:b', 'bob');
    await eventually('both to see both', () => ann.names().length === 2 && bob.names().length === 2);
    bob.channel.push('status', { status: 'away' });
    const status = () => ann.presence.state.bob?.metas.map((meta) => meta.status).join();
    await eventually('bob to be away', () => status() === 'away');
    assert.ok(ann.presence.state.bob.metas[0].phx_ref_prev);
    await agree(ann);
    await agree(bob);
  });

  it('counts two tabs of one user as one key, until both are closed', async () => {
    const ann = await enter('room:c', 'ann');
    const tabs = [await enter('room:c', 'bob'), await enter('room:c', 'bob')];
    await eventually('two metas of bob', () => ann.presence.state.bob?.metas.length === 2);
    tabs[0].socket.disconnect();
    await eventually('one meta of bob', () => ann.presence.state.bob?.metas.length === 1);
    tabs[1].socket.disconnect();
    await eventually('no bob', () => ann.names().join() === 'ann');
    await agree(ann);
  });

  it('starts afresh with every join: after a cut connection all is as it was', async () => {
    const ann = await enter('room:d', 'ann');
    const bob = await enter('room:d', 'bob');
    await eventually('both to see both', () => ann.names().length === 2 && bob.names().length === 2);
    const before = ann.presence.state.ann.metas[0].phx_ref;
    bob.socket.conn.close(3000, 'cut by the test');
    await eventually('bob to come back', () => bob.seen.syncs >= 2 && bob.seen.left.length === 0);
    await eventually('a new bob', async () => {
      const there = await listed(ann.channel);
      return there.bob?.metas.length === 1 && there.bob.metas[0].phx_ref === ann.presence.state.bob?.metas[0].phx_ref;
    });
    assert.equal(ann.presence.state.ann.metas[0].phx_ref, before);
    await eventually('bob to hold what the server holds', async () => {
      const there = await listed(bob.channel);
      return JSON.stringify(there.bob) === JSON.stringify(bob.presence.state.bob);
    });
    await agree(ann);
  });

  it('is not confused by a key that JavaScript has a use for', async () => {
    const ann = await enter('room:e', 'ann');
    await enter('room:e', 'constructor');
    await enter('room:e', '');
    await eventually('all three', () => ann.names().join() === ',ann,constructor');
    await enter('room:e', '__proto__');
    await enter('room:e', 'bob');
    await eventually('bob, behind the odd key', () => ann.names().includes('bob'));
  });

  it('is told a number where a topic is only counted', async () => {
    const counts = [];
    for (const socket of [connect(), connect()]) {
      const channel = socket.channel('crowd', {});
      channel.on('presence_count', ({ count }) => counts.push(count));
      await within('the join', new Promise((resolve) => channel.join().receive('ok', resolve)));
    }
    await eventually('both to be told of two', () => counts.filter((count) => count === 2).length === 2);
  });
});
