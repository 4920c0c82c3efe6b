// The npm package `eventsource` and Chromium's own EventSource against a running gateway: neither is
// told anything of moda, and both must miss nothing when their line is cut.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { EventSource } from 'eventsource';
import { Socket } from 'phoenix';
import WebSocket from 'ws';
import { launch } from './browser.mjs';
import { eventually, HTTP, SOCKET, within } from './support.mjs';

let socket;
let control;
let browser;

/** Tells the gateway to do something; resolves with its answer. */
function tell(event, payload) {
  return within(
    `the answer to ${event}`,
    new Promise((resolve, reject) => {
      control.push(event, payload).receive('ok', resolve).receive('error', reject);
    }),
  );
}

const says = async (topic, from, to) => {
  for (let n = from; n <= to; n += 1) await tell('say', { topic, n });
};

before(async () => {
  socket = new Socket(SOCKET, { transport: WebSocket });
  socket.connect();
  control = socket.channel('control');
  await within('the join of control', new Promise((resolve) => control.join().receive('ok', resolve)));
});

after(async () => {
  await browser?.close();
  socket?.disconnect();
});

/** A reader in Node, in the shape of the one in the page. */
async function inNode(url) {
  const source = new EventSource(HTTP + url);
  const heard = { numbers: [], told: [], states: [] };
  source.onmessage = ({ data }) => heard.numbers.push(JSON.parse(data).payload.n);
  for (const kind of ['subscribed', 'unsubscribed', 'close']) {
    source.addEventListener(kind, ({ data }) => heard.told.push(JSON.parse(data)));
  }
  source.onerror = () => heard.states.push(source.readyState);
  return { read: async () => heard, close: () => source.close() };
}

async function inChromium(url) {
  browser ??= await launch();
  const page = await browser.newPage();
  await page.goto(`${HTTP}/api/v1/health`);
  await page.evaluate((url) => {
    const source = new EventSource(url);
    const heard = { numbers: [], told: [], states: [] };
    source.onmessage = ({ data }) => heard.numbers.push(JSON.parse(data).payload.n);
    for (const kind of ['subscribed', 'unsubscribed', 'close']) {
      source.addEventListener(kind, ({ data }) => heard.told.push(JSON.parse(data)));
    }
    source.onerror = () => heard.states.push(source.readyState);
    globalThis.heard = heard;
  }, url);
  return { read: () => page.evaluate(() => globalThis.heard), close: () => page.close() };
}

for (const [name, open] of [
  ['eventsource of npm', inNode],
  ['EventSource of Chromium', inChromium],
]) {
  describe(name, () => {
    const own = (word) => `${word}-${open.name}`;

    it('comes back after a cut, to several topics, and hears everything once and in order', async () => {
      const topics = [`log:${own('a')}`, `log:${own('b')}`];
      const id = own('cut');
      const query = topics.map((topic) => `topic=${encodeURIComponent(topic)}`).join('&');
      const reader = await open(`/sse?${query}&id=${id}`);
      const told = async (count) => (await reader.read()).told.filter(({ type }) => type === 'subscribed').length === count;
      await eventually('both subscriptions', () => told(2));
      await says(topics[0], 1, 3);
      await says(topics[1], 101, 103);
      await eventually('six messages', async () => (await reader.read()).numbers.length === 6);
      assert.deepEqual(await tell('cut', { id }), { closed: 1 });
      await says(topics[0], 4, 6);
      await says(topics[1], 104, 106);
      await eventually('the subscriptions after the cut', () => told(4));
      await says(topics[0], 7, 7);
      await says(topics[1], 107, 107);
      await eventually('fourteen messages', async () => (await reader.read()).numbers.length >= 14);
      const { numbers, told: all } = await reader.read();
      assert.deepEqual(numbers.filter((n) => n < 100), [1, 2, 3, 4, 5, 6, 7]);
      assert.deepEqual(numbers.filter((n) => n > 100), [101, 102, 103, 104, 105, 106, 107]);
      const back = all.filter(({ type }) => type === 'subscribed').slice(2);
      assert.deepEqual(back.map(({ recovered, missed }) => [recovered, missed]), [[true, 3], [true, 3]]);
      await reader.close();
    });

    it('does not come back to a topic that closed in good order', async () => {
      const topic = `log:${own('closing')}`;
      const reader = await open(`/sse/${encodeURIComponent(topic)}`);
      await eventually('the subscription', async () => (await reader.read()).told.length === 1);
      await tell('close', { topic });
      // Once it has asked again and been answered 204, it is closed (2) for good.
      await eventually('the end', async () => (await reader.read()).states.includes(2));
      assert.equal((await reader.read()).told.at(-1).reason, 'closed');
      assert.deepEqual(await tell('readers', { topic }), { readers: 0 });
      await reader.close();
    });

    it('learns that it is refused and does not try again', async () => {
      const reader = await open('/sse?topic=nowhere');
      await eventually('the refusal', async () => (await reader.read()).states.includes(2));
      assert.deepEqual((await reader.read()).states, [2]);
      await reader.close();
    });
  });
}
