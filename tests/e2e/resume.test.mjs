// The lines of docs/wire.md that let an unmodified phoenix.js come back without a gap, as printed there.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, it } from 'node:test';
import { Socket } from 'phoenix';
import WebSocket from 'ws';
import { eventually, SOCKET, within } from './support.mjs';

const page = readFileSync(new URL('../../docs/wire.md', import.meta.url), 'utf8');
const printed = page.match(/```js\n(function resumable[\s\S]*?)```/)[1];
const resumable = new Function(`${printed}; return resumable`)();

const open = [];

function connect(params) {
  const socket = new Socket(SOCKET, { transport: WebSocket, params, reconnectAfterMs: () => 300, rejoinAfterMs: () => 20 });
  open.push(socket);
  socket.connect();
  return socket;
}

after(() => open.forEach((socket) => socket.disconnect()));

it('a channel made resumable hears all that was said while its line was cut, once and in order', async () => {
  const control = connect({}).channel('control');
  await within('the join of control', new Promise((resolve) => control.join().receive('ok', resolve)));
  const tell = (event, payload) =>
    within(`the answer to ${event}`, new Promise((resolve) => control.push(event, payload).receive('ok', resolve)));

  const replies = [];
  const heard = [];
  const log = resumable(connect({ id: 'reader' }).channel('log:resumed', { of: 'its own' }));
  log.on('said', ({ n }) => heard.push(n));
  log.join().receive('ok', (reply) => replies.push(reply));
  await eventually('the first join', () => replies.length === 1);

  for (let cut = 0; cut < 3; cut += 1) {
    const first = cut * 4 + 1;
    await tell('say', { topic: 'log:resumed', n: first });
    await eventually('the live event', () => heard.at(-1) === first);
    assert.deepEqual(await tell('cut', { id: 'reader' }), { closed: 1 });
    for (const n of [first + 1, first + 2]) await tell('say', { topic: 'log:resumed', n });
    await eventually('the next join', () => replies.length === cut + 2);
    assert.deepEqual([replies.at(-1).recovered, replies.at(-1).missed], [true, 2]);
    await tell('say', { topic: 'log:resumed', n: first + 3 });
    await eventually('the last event', () => heard.at(-1) === first + 3);
  }
  assert.deepEqual(heard, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
});
