// The console in Chromium, against a gateway that asks for a token (TOKEN), holds few connections and
// serves no metrics: everything that keeps a page out has to be told, with what to do about it.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Socket } from 'phoenix';
import WebSocket from 'ws';
import { launch } from './browser.mjs';
import { eventually, HTTP, SOCKET } from './support.mjs';

const { TOKEN, CONNECTIONS } = process.env;

let browser;
let page;
let addresses;
let mishaps;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

beforeEach(async () => {
  addresses = [];
  mishaps = [];
  page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.setDefaultTimeout(30_000);
  page.on('request', (request) => addresses.push(request.url()));
  page.on('websocket', (socket) => addresses.push(socket.url()));
  page.on('pageerror', (error) => mishaps.push(error.message));
  await page.exposeFunction('reportViolation', (text) => mishaps.push(`content policy: ${text}`));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      globalThis.reportViolation(`${event.violatedDirective} blocked ${event.blockedURI}`);
    });
  });
});

afterEach(async () => {
  await page.close();
  assert.deepEqual(mishaps, []);
});

const text = async (selector) => (await page.locator(selector).textContent()).replace(/\s+/g, ' ').trim();
const said = (words) => eventually(`"${words}"`, async () => (await text('#banner-text')) === words);

async function show(token) {
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Connect' }).click();
}

describe('a gateway that asks for a token', () => {
  it('is told apart from one that does not answer, and offers a place for the token', async () => {
    await page.goto(HTTP);
    await said('The gateway asks for a token.');
    await eventually('the health', async () => (await text('#health')) === 'ok');
    assert.equal(await page.locator('#banner-retry').isHidden(), true);
    await show('a wrong one');
    await said('The gateway does not accept this token.');
    await show(TOKEN);
    await page.locator('#link[data-phase="open"]').waitFor();
    await page.locator('#banner').waitFor({ state: 'hidden' });
    await page.locator('#symbols [role="tab"]').first().waitFor();
    await page.locator('#cards .metric[data-metric]').first().waitFor();
  });

  it('gets the token again after a reload, and never in an address', async () => {
    await page.goto(HTTP);
    await said('The gateway asks for a token.');
    await show(TOKEN);
    await page.locator('#link[data-phase="open"]').waitFor();
    await page.reload();
    await page.locator('#link[data-phase="open"]').waitFor();
    assert.ok(addresses.some((address) => address.startsWith('ws:')));
    assert.deepEqual(addresses.filter((address) => address.includes(TOKEN) || address.includes('token=')), []);
  });
});

describe('a gateway without metrics', () => {
  it('has no link to them', async () => {
    await page.goto(HTTP);
    await said('The gateway asks for a token.');
    const asked = page.waitForResponse((response) => response.url().endsWith('/openapi.json'));
    await show(TOKEN);
    await (await asked).finished();
    await page.locator('#link[data-phase="open"]').waitFor();
    assert.equal(await page.locator('#metrics-link').isHidden(), true);
  });
});

describe('a full gateway', () => {
  it('says that it is full', async () => {
    const others = await Promise.all(
      Array.from({ length: Number(CONNECTIONS) }, async () => {
        const socket = new Socket(SOCKET, { transport: WebSocket, authToken: TOKEN });
        await new Promise((resolve) => {
          socket.onOpen(resolve);
          socket.connect();
        });
        return socket;
      }),
    );
    try {
      await page.goto(HTTP);
      await said('The gateway takes no more connections: it is full, or about to stop.');
      assert.equal(await page.locator('#token-form').isHidden(), true);
    } finally {
      await Promise.all(others.map((socket) => new Promise((resolve) => socket.disconnect(resolve))));
    }
  });
});
