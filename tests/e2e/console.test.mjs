// The console in Chromium, against a running gateway with simulated prices. Every page is watched for
// what must never happen: an error in its console, a break of the content policy, a request to
// another host. Those are looked at after each test, whatever the test was about.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { launch } from './browser.mjs';
import { eventually, HTTP } from './support.mjs';

const BLUE = [110, 168, 255];
const LIGHT_BLUE = [31, 95, 214];

let browser;
let context;
let page;
let mishaps;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

beforeEach(async () => {
  mishaps = [];
  context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'dark' });
  page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') mishaps.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => mishaps.push(`error: ${error.message}`));
  page.on('request', (request) => {
    if (new URL(request.url()).host !== new URL(HTTP).host) mishaps.push(`request to ${request.url()}`);
  });
  page.on('response', (response) => {
    // The gateway may be degraded, and says so with 503 and a document.
    if (response.status() >= 400 && !response.url().endsWith('/api/v1/health')) {
      mishaps.push(`${response.status()} for ${response.url()}`);
    }
  });
  await page.exposeFunction('reportViolation', (text) => mishaps.push(`content policy: ${text}`));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      globalThis.reportViolation(`${event.violatedDirective} blocked ${event.blockedURI} ${event.sample}`);
    });
  });
});

afterEach(async () => {
  await context.close();
  assert.deepEqual(mishaps, []);
});

/** The text of the first `selector`, its white space as a reader sees it. */
const text = async (selector) => (await page.locator(selector).first().textContent()).replace(/\s+/g, ' ').trim();
const badge = () => page.locator('#price-badge').getAttribute('data-state');
const open = async () => {
  await page.goto(HTTP);
  await page.locator('#link[data-phase="open"]').waitFor();
};
const priced = async () => {
  await open();
  await page.locator('#symbols [role="tab"]').first().waitFor();
};

/** How many pixels of the canvases in `selector` are close to `colour` (red, green, blue). */
function pixels(selector, colour) {
  return page.locator(`${selector} canvas`).evaluateAll((canvases, [red, green, blue]) => {
    let count = 0;
    for (const canvas of canvases) {
      if (canvas.width === 0 || canvas.height === 0) continue;
      // A copy is read: reading the chart's own canvas would move its drawing off the fast path.
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      for (let at = 0; at < data.length; at += 4) {
        const near = Math.abs(data[at] - red) + Math.abs(data[at + 1] - green) + Math.abs(data[at + 2] - blue) < 60;
        if (near && data[at + 3] > 128) count += 1;
      }
    }
    return count;
  }, colour);
}

/** Makes the page believe that its tab was hidden or shown again. */
function pretendVisibility(state) {
  return page.evaluate((value) => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => value });
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => value === 'hidden' });
    document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
  }, state);
}

/** Puts the test between the page and the gateway: it sees, keeps back and adds what the page gets. */
async function between() {
  const wire = { ticks: true, say: () => assert.fail('the page has not connected') };
  await page.routeWebSocket(/\/socket\/websocket/, (line) => {
    const gateway = line.connectToServer();
    gateway.onMessage((frame) => {
      if (wire.ticks || !String(frame).includes('price_tick')) line.send(frame);
    });
    wire.say = (topic, event, payload) => line.send(JSON.stringify([null, null, topic, event, payload]));
  });
  return wire;
}

describe('the page', () => {
  it('is served with a policy that allows its own files and nothing else', async () => {
    const response = await page.goto(HTTP);
    assert.equal(response.status(), 200);
    const policy = response.headers()['content-security-policy'] ?? '';
    assert.match(policy, /default-src 'self'/);
    assert.doesNotMatch(policy, /unsafe|\*|https?:/);
    await page.locator('#link[data-phase="open"]').waitFor();
  });

  it('says what it is connected to', async () => {
    await open();
    await eventually('the version', async () => /^\d+\.\d+\.\d+/.test(await text('#version')));
    await eventually('the uptime', async () => /\d/.test(await text('#uptime')));
    await eventually('the services', () => page.locator('#services li').count());
    assert.equal(await text('#link-text'), 'Connected');
  });

  it('leads to the documents of the gateway, which are there', async () => {
    await open();
    await page.locator('#metrics-link').waitFor();
    const links = await page.locator('nav a').evaluateAll((anchors) => anchors.map(({ href }) => href));
    assert.deepEqual(links.map((href) => new URL(href).pathname), ['/api/v1/docs', '/asyncapi', '/metrics']);
    for (const href of [...links, `${HTTP}/console/licences.txt`]) {
      assert.equal((await context.request.get(href)).status(), 200, href);
    }
  });

  it('names the makers of its price chart, and carries the licences of what it contains', async () => {
    await open();
    assert.match(await text('footer'), /TradingView Lightweight Charts™, Copyright/);
    assert.equal(await page.locator('footer a[href="https://www.tradingview.com/"]').count(), 1);
    const licences = await (await context.request.get(`${HTTP}/console/licences.txt`)).text();
    for (const name of ['phoenix', 'lightweight-charts', 'uplot', 'Apache License', 'SIL OPEN FONT LICENSE']) {
      assert.ok(licences.includes(name), name);
    }
  });

  it('gives every control a name and stays within a phone', async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await priced();
    await page.locator('#cards .metric[data-metric]').first().waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    const nameless = await page
      .locator('button, a')
      .evaluateAll((controls) => controls.filter((one) => !(one.textContent.trim() || one.ariaLabel)).length);
    assert.equal(nameless, 0);
  });

  it('does not move for people who asked for less motion', async () => {
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await priced();
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  });
});

describe('the colours', () => {
  it('are the light ones where the system asks for them, and follow when it turns', async () => {
    await page.emulateMedia({ colorScheme: 'light' });
    await priced();
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const memory = '#cards .metric[data-metric="system.memory.usage"]';
    assert.equal(await ground(), 'rgb(243, 245, 249)');
    await eventually('a line in light colours', async () => (await pixels('#price-chart', LIGHT_BLUE)) > 100);
    await page.locator(memory).waitFor();
    await page.emulateMedia({ colorScheme: 'dark' });
    await eventually('the dark ground', async () => (await ground()) === 'rgb(8, 11, 17)');
    await eventually('a line in dark colours', async () => (await pixels('#price-chart', BLUE)) > 100);
    await eventually('no line in light colours', async () => (await pixels('#price-chart', LIGHT_BLUE)) === 0);
    await eventually('a metric in dark colours', async () => (await pixels(memory, [79, 214, 194])) > 10);
  });
});

describe('the prices', () => {
  it('are called simulated, on the badge, in words and in the price source', async () => {
    await priced();
    await eventually('the badge', async () => (await badge()) === 'simulated');
    assert.equal((await text('#price-badge')).toUpperCase(), 'SIMULATED');
    assert.match(await text('#price-note'), /not market prices/);
    await eventually('the source', async () => (await text('#upstream-state')) === 'simulated');
  });

  it('are drawn: the line is there in its colour', async () => {
    await priced();
    await eventually('a drawn line', async () => (await pixels('#price-chart', BLUE)) > 100);
    assert.equal(await page.locator('#price-empty').isHidden(), true);
  });

  it('are drawn as candles on demand', async () => {
    await priced();
    await page.getByRole('radio', { name: 'Candles of 5 seconds' }).click();
    const [up, down] = [[60, 207, 145], [242, 112, 127]];
    await eventually('a drawn candle', async () => (await pixels('#price-chart', up)) + (await pixels('#price-chart', down)) > 20);
    assert.match(await page.locator('#price-chart').getAttribute('aria-label'), /Candles of 5 seconds/);
  });

  it('change as ticks arrive, in the page and in its title', async () => {
    await priced();
    const before = await text('#last-price');
    assert.match(before, /^[\d,]+\.\d{2,8}$/);
    await eventually('another price', async () => (await text('#last-price')) !== before);
    assert.match(await page.title(), /^[\d,.]+ .+ · moda$/);
    assert.match(await text('#change'), /%$/);
    assert.match(await text('#volume'), /\d/);
  });

  it('of another symbol are an arrow key away', async () => {
    await priced();
    const tabs = page.locator('#symbols [role="tab"]');
    await eventually('two symbols', async () => (await tabs.count()) >= 2);
    await tabs.first().focus();
    await page.keyboard.press('ArrowRight');
    assert.equal(await tabs.nth(1).getAttribute('aria-selected'), 'true');
    assert.equal(await tabs.nth(1).evaluate((tab) => tab === document.activeElement), true);
    const symbol = (await tabs.nth(1).getAttribute('id')).replace('tab-', '');
    const base = symbol.replace(/USDT$/, '');
    await eventually('its quote', async () => (await text('#volume')).endsWith(base));
  });
});

describe('the price source', () => {
  it('takes its prices with it when another one follows', async () => {
    const wire = await between();
    await priced();
    await eventually('a price', async () => /\d/.test(await text('#last-price')));
    wire.ticks = false;
    wire.say('chart:prices', 'upstream', { state: 'stale', source: 'binance', since: Date.now() / 1000, reason: 'no connection' });
    await eventually('the badge', async () => (await badge()) === 'stale');
    assert.equal(await text('#price-note'), 'The source is silent: no price has come yet');
    for (const place of ['#last-price', '#change', '#high', '#low', '#volume', '#turnover']) assert.equal(await text(place), '–', place);
    assert.equal(await page.title(), 'moda console');
    assert.equal(await page.locator('#symbols [role="tab"]').count(), 0);
    assert.match(await text('#price-empty'), /No price has come yet/);
    await eventually('the age', async () => /Last price ?–/.test(await text('#upstream-facts')));
    await eventually('an empty chart', async () => (await pixels('#price-chart', BLUE)) === 0);
    wire.say('chart:prices', 'price_tick', {
      e: '24hrMiniTicker', E: Date.now(), s: 'BTCUSDT', c: '60000.12000000', o: '59000.00000000',
      h: '61000.00000000', l: '58000.00000000', v: '1000.00000000', q: '60000000.00000000',
    });
    await eventually('the first price of the new source', async () => (await text('#last-price')) === '60,000.12');
  });

  it('is not called live while nothing arrives', async () => {
    await page.clock.install();
    const wire = await between();
    await priced();
    await eventually('a price', async () => /\d/.test(await text('#last-price')));
    wire.ticks = false;
    await page.clock.fastForward(12_000);
    await eventually('the badge', async () => (await badge()) === 'silent');
    assert.match(await text('#price-note'), /no price for \d+ s/);
    assert.match(await page.title(), /\(silent\)/);
    await eventually('the price source', async () => (await text('#upstream-state')) === 'silent');
    wire.ticks = true;
    await eventually('the badge to recover', async () => (await badge()) === 'simulated');
  });
});

describe('the telemetry', () => {
  it('has a drawn chart and a value for every metric', async () => {
    await open();
    const cards = page.locator('#cards .metric[data-metric]');
    await eventually('the metrics', async () => (await cards.count()) >= 5);
    const memory = '#cards .metric[data-metric="system.memory.usage"]';
    await eventually('a value', async () => /\d.*iB$/.test(await text(`${memory} .reading`)));
    await eventually('a drawn chart', async () => (await pixels(memory, [79, 214, 194])) > 10);
    assert.equal(await page.locator('#cards').getAttribute('aria-busy'), 'false');
    assert.match(await text('#telemetry-hint'), /\d+ metrics, one sample every 2 s/);
  });

  it('goes on: a value changes without anybody touching the page', async () => {
    await open();
    const reading = '#cards .metric[data-metric="system.memory.usage"] .plot canvas';
    await page.locator(reading).waitFor();
    const drawing = () => page.locator(reading).evaluate((canvas) => canvas.toDataURL());
    const before = await drawing();
    await eventually('another drawing', async () => (await drawing()) !== before);
  });

  it('counts this very page among the connections', async () => {
    await open();
    await eventually('the connections', async () => /^[1-9]/.test((await text('#traffic-connections .reading')) ?? ''));
    await eventually('the messages', () => page.locator('#traffic-messages .reading').count());
    for (const name of ['Joins', 'Drops', 'Slow readers']) {
      await eventually(name, async () => new RegExp(`${name} ?\\d`).test(await text('#tallies')));
    }
  });
});

describe('a hidden tab', () => {
  it('draws nothing, keeps what arrives, and shows it on return', async () => {
    let ticks = 0;
    page.on('websocket', (socket) => {
      socket.on('framereceived', ({ payload }) => {
        if (String(payload).includes('price_tick')) ticks += 1;
      });
    });
    await priced();
    await pretendVisibility('hidden');
    const shown = await text('#last-price');
    const before = ticks;
    await eventually('ticks for a hidden page', () => ticks >= before + 6);
    assert.equal(await text('#last-price'), shown);
    await pretendVisibility('visible');
    await eventually('the newest price', async () => (await text('#last-price')) !== shown);
  });
});

describe('a lost connection', () => {
  it('is said, kept visible until it is back, and repaired without a reload', async () => {
    const lines = [];
    let reachable = true;
    await page.routeWebSocket(/\/socket\/websocket/, (line) => {
      if (!reachable) {
        line.close({ code: 1012, reason: 'restarting' });
        return;
      }
      line.connectToServer();
      lines.push(line);
    });
    await priced();
    await eventually('the badge', async () => (await badge()) === 'simulated');
    reachable = false;
    for (const line of lines.splice(0)) await line.close({ code: 1012, reason: 'restarting' });
    await eventually('the badge to say so', async () => (await badge()) === 'offline');
    await page.locator('#banner').waitFor();
    assert.match(await text('#banner-text'), /Connection lost/);
    reachable = true;
    await page.locator('#banner-retry').click();
    await page.locator('#link[data-phase="open"]').waitFor();
    await eventually('the badge to recover', async () => (await badge()) === 'simulated');
    await page.locator('#banner').waitFor({ state: 'hidden' });
    const before = await text('#last-price');
    await eventually('another price', async () => (await text('#last-price')) !== before);
    // The socket was shut and the gateway was not, so the page asked why; a browser notes the answer as an error.
    mishaps = mishaps.filter((mishap) => !/^400 for .*\/socket\/websocket|status of 400/.test(mishap));
  });

  it('needs no hand: the page comes back by itself', async () => {
    const lines = [];
    await page.routeWebSocket(/\/socket\/websocket/, (line) => {
      line.connectToServer();
      lines.push(line);
    });
    await priced();
    await lines.splice(0)[0].close({ code: 1012, reason: 'restarting' });
    await eventually('a second connection', () => lines.length > 0);
    await page.locator('#link[data-phase="open"]').waitFor();
    await eventually('the badge', async () => (await badge()) === 'simulated');
  });
});
