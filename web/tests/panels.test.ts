// The words and small decisions of the panels; what they look like is the browser test's business.

import { describe, expect, it } from 'vitest';
import { compareMetrics, isAlias, present, titleOf } from '../src/catalogue';
import { arrowTarget } from '../src/dom';
import { refusalOf } from '../src/door';
import { PriceFeed } from '../src/feed';
import { NOTHING } from '../src/format';
import { reconnectDelay, tokenBytes, type LinkState } from '../src/link';
import { bannerText, healthWord, countdown, linkText } from '../src/panels/header';
import { timeWindow } from '../src/panels/metric';
import { detailLine, servicesHint } from '../src/panels/services';
import { emptyText, headline } from '../src/panels/prices';
import { describe as describeTelemetry, readInterval } from '../src/panels/telemetry';
import { ago, priceService } from '../src/panels/upstream';
import { isolated, verticalRange } from '../src/scale';
import { explain, TickRate, UpstreamLog, watermark, word, type Standing } from '../src/upstream';

/** A 24 h ticker as `chart:prices` sends it. */
const TICK = {
  s: 'BTCUSDT',
  E: 1_700_000_000_000,
  c: '93842.91000000',
  o: '92913.77000000',
  h: '94000.00000000',
  l: '92000.00000000',
  v: '10.00000000',
  q: '900000.00000000',
};

describe('reconnecting', () => {
  it('waits longer from try to try, up to a limit, and never the same for everybody', () => {
    const middle = [1, 2, 3, 4, 5, 6, 7, 100].map((tries) => reconnectDelay(tries, () => 0.5));
    expect(middle).toEqual([250, 500, 1000, 2000, 3000, 5000, 5000, 5000]);
    expect([reconnectDelay(6, () => 0), reconnectDelay(6, () => 1)]).toEqual([3750, 6250]);
  });

  const state = (change: Partial<LinkState>): LinkState => ({
    phase: 'waiting',
    since: 0,
    retryAt: null,
    attempt: 1,
    everOpen: true,
    ...change,
  });

  it('is told apart from connecting for the first time', () => {
    expect(linkText(state({ phase: 'connecting' }), false)).toBe('Reconnecting');
    expect(linkText(state({ phase: 'connecting', everOpen: false }), false)).toBe('Connecting');
    expect(linkText(state({ phase: 'open' }), false)).toBe('Connected');
    expect(linkText(state({}), false)).toBe('Disconnected');
  });

  it('is not called connected while the open connection is dumb', () => {
    expect(linkText(state({ phase: 'open' }), true)).toBe('No answer');
  });

  it('counts down in whole seconds and never to zero', () => {
    expect(countdown(state({ retryAt: 4200 }), 1000)).toBe('Next attempt in 4 s');
    expect(countdown(state({ retryAt: 1000 }), 4000)).toBe('Next attempt in 1 s');
    expect(countdown(state({ phase: 'connecting' }), 0)).toBe('Trying now');
  });
});

describe('a closed door', () => {
  const state = (everOpen: boolean): LinkState => ({ phase: 'waiting', since: 0, retryAt: null, attempt: 1, everOpen });

  it('is explained by what the gateway answers on the path of the socket', () => {
    expect([401, 403].map((status) => refusalOf(status, false))).toEqual(['token', 'token']);
    expect([503, 500, 502, 404].map((status) => refusalOf(status, false))).toEqual(['full', 'failed', 'failed', 'missing']);
    expect(refusalOf(null, true)).toBeNull();
  });

  it('that opens to the question but not to the socket was shut for its token, or for where it comes from', () => {
    expect(refusalOf(400, true)).toBe('token');
    expect(refusalOf(400, false)).toBe('upgrade');
  });

  it('is told with what to do about it', () => {
    expect(bannerText(state(false), 'token', false, true)).toBe('The gateway asks for a token.');
    expect(bannerText(state(false), 'token', true, true)).toBe('The gateway does not accept this token.');
    expect(bannerText({ ...state(false), attempt: 0 }, 'token', true, true)).toBe('Trying the token.');
    expect(bannerText(state(true), 'full', false, true)).toContain('no more connections');
    expect(bannerText(state(false), 'upgrade', false, true)).toContain('MODA_ORIGINS');
    expect(bannerText(state(true), 'upgrade', false, true)).toContain('Connection lost');
  });

  it('is not confused with a gateway that is not there', () => {
    expect(bannerText(state(false), null, false, false)).toBe('The gateway does not answer.');
    expect(bannerText(state(false), null, false, true)).toContain('The gateway answers');
    expect(bannerText(state(true), null, false, true)).toContain('Connection lost');
  });

  it('takes a token of any letters: the bytes of its UTF-8', () => {
    expect(tokenBytes('secret')).toBe('secret');
    expect(btoa(tokenBytes('schlüssel'))).toBe('c2NobMO8c3NlbA==');
  });
});

describe('a metric', () => {
  it('has a title, made from its name when nobody gave it one', () => {
    expect(titleOf('http.server.duration')).toBe('HTTP latency');
    expect(titleOf('vendor.cpu_widget.depth')).toBe('Vendor CPU widget depth');
    expect(titleOf('...')).toBe('...');
  });

  it('that is a utilisation is a ratio, and memory does not start at zero', () => {
    expect(present('system.cpu.utilization')).toMatchObject({ ratio: true, fromZero: true, group: 'host' });
    expect(present('process.memory.usage')).toMatchObject({ ratio: false, fromZero: false, group: 'process' });
    expect([present('moda.connections').whole, present('system.cpu.load_average.1m').whole]).toEqual([true, false]);
  });

  it('that only repeats another one under the name of a BEAM server is shown once', () => {
    const names = ['process.memory.usage', 'process.runtime.beam.memory.total', 'moda.tasks'];
    expect(names.filter((name) => !isAlias(name))).toEqual(['process.memory.usage', 'moda.tasks']);
  });

  it('stands in a fixed order: the gateway, the host, the process, then what nobody knows', () => {
    const names = ['zeta.unknown', 'process.memory.usage', 'system.memory.usage', 'moda.unheard', 'http.server.duration', 'alpha.unknown'];
    expect(names.sort(compareMetrics)).toEqual([
      'http.server.duration',
      'moda.unheard',
      'system.memory.usage',
      'process.memory.usage',
      'alpha.unknown',
      'zeta.unknown',
    ]);
  });

  it('is drawn over at least a minute and at most the chosen range', () => {
    expect(timeWindow(100, 110, 600)).toEqual([50, 110]);
    expect(timeWindow(100, 400, 600)).toEqual([100, 400]);
    expect(timeWindow(100, 4000, 600)).toEqual([3400, 4000]);
  });

  it('shows a sample without neighbours as a dot', () => {
    expect(isolated([1])).toEqual([0]);
    expect(isolated([null, 1, null, 2, 3, null, 4])).toEqual([1, 6]);
    expect(isolated([])).toEqual([]);
  });

  it('is given an axis with room above it, and one that is never empty', () => {
    expect(verticalRange(0, 100, true)).toEqual([0, 118]);
    expect(verticalRange(0, 0, true)).toEqual([0, 1]);
    const [low, high] = verticalRange(1000, 1000, false);
    expect(low).toBeLessThan(1000);
    expect(high).toBeGreaterThan(1000);
    expect(verticalRange(Infinity, -Infinity, true)).toEqual([0, 1]);
    expect(verticalRange(-5, 5, true)[0]).toBeLessThan(-5);
  });
});

describe('the line under "Telemetry"', () => {
  it('says what is shown or why nothing is', () => {
    expect(describeTelemetry({ phase: 'joined' }, 12, 2000, true, false)).toBe('12 metrics, one sample every 2 s');
    expect(describeTelemetry({ phase: 'joined' }, 1, 250, true, false)).toBe('1 metric, one sample every 250 ms');
    expect(describeTelemetry({ phase: 'joined' }, 0, 2000, true, false)).toContain('first sample');
    expect(describeTelemetry({ phase: 'joined' }, 12, 2000, true, true)).toContain('no metric arrives');
    expect(describeTelemetry({ phase: 'refused', reason: 'unauthorized' }, 0, 2000, true, false)).toContain('unauthorized');
    expect(describeTelemetry({ phase: 'joined' }, 12, 2000, false, false)).toContain('no connection');
  });

  it('takes the interval from the reply, within what a gateway accepts', () => {
    expect(readInterval({ interval_ms: 500 })).toBe(500);
    expect([{}, null, { interval_ms: 1 }, { interval_ms: '500' }].map(readInterval)).toEqual([2000, 2000, 2000, 2000]);
  });
});

describe('the price source', () => {
  const report = (state: string, source = '', since: number | null = null): { state: string; source: string; since: number | null; reason: string } => ({
    state,
    source,
    since,
    reason: '',
  });

  it('keeps its last changes, newest first, with the time the gateway gave', () => {
    const log = new UpstreamLog();
    expect(log.enter(report('live', 'binance', 7), 99_000)).toBe('state');
    expect(log.enter(report('live', 'binance', 8), 99_000)).toBe('none');
    for (let turn = 0; turn < 20; turn += 1) log.enter(report(turn % 2 === 0 ? 'stale' : 'live', 'binance'), turn);
    expect(log.eras.length).toBe(6);
    expect(log.current).toMatchObject({ state: 'live', since: 19 });
  });

  it('is another market when its source changes, and the same one when it only falls silent', () => {
    const log = new UpstreamLog();
    log.enter(report('simulated', 'simulated'), 0);
    expect(log.enter(report('stale', 'simulated'), 1)).toBe('state');
    expect(log.enter(report('live', 'binance'), 2)).toBe('market');
  });

  it('is told by its state where the gateway does not name it', () => {
    const log = new UpstreamLog();
    log.enter(report('live'), 0);
    expect(log.enter(report('stale'), 1)).toBe('state');
    expect(log.enter(report('simulated'), 2)).toBe('market');
  });

  const stand = (change: Partial<Standing>): Standing => ({
    state: 'live',
    source: 'binance',
    online: true,
    priced: true,
    quietMs: 0,
    ...change,
  });
  const simulated = { state: 'simulated', source: 'simulated' };

  it('never lets simulated prices pass for market prices, whatever else is wrong', () => {
    expect(explain(stand(simulated))).toContain('not market prices');
    expect(explain(stand({ ...simulated, quietMs: 12_000 }))).toContain('Made up by the gateway');
    expect(explain(stand({ state: 'simulated', source: 'replay' }))).toContain('file');
    for (const change of [{}, { quietMs: 12_000 }, { online: false }, { priced: false }]) {
      expect(watermark(stand({ ...simulated, ...change }))).toBe('SIMULATED');
    }
  });

  it('is called live or simulated only while prices arrive', () => {
    expect([0, 9_000, 12_000].map((quietMs) => word(stand({ quietMs })))).toEqual(['live', 'live', 'silent']);
    expect(word(stand({ ...simulated, quietMs: 12_000 }))).toBe('silent');
    expect(explain(stand({ quietMs: 12_000 }))).toBe('No price for 12\u00a0s');
    expect(word(stand({ online: false, quietMs: 12_000 }))).toBe('offline');
    expect(explain(stand({ online: false }))).toContain('No connection');
    expect(word(stand({ state: 'stale', quietMs: 60_000 }))).toBe('stale');
    expect(explain(stand({ state: 'odd' }))).toContain('odd');
  });

  it('is not said to have old prices when it never had one', () => {
    expect(explain(stand({ state: 'stale' }))).toContain('these prices are old');
    expect(explain(stand({ state: 'stale', priced: false }))).toBe('The source is silent: no price has come yet');
    expect(explain(stand({ quietMs: 12_000, priced: false }))).toBe('No price has come yet');
    expect(explain(stand({ online: false, priced: false }))).toBe('');
    expect(watermark(stand({ state: 'stale' }))).toBe('STALE');
    expect(watermark(stand({ state: 'stale', priced: false }))).toBe('');
    expect(emptyText({ phase: 'joined' }, stand({ state: 'stale' }))).toContain('No price has come yet');
    expect(emptyText({ phase: 'joined' }, stand({}))).toBe('Waiting for the first price');
  });

  it('takes everything it said with it when another one follows', () => {
    const feed = new PriceFeed();
    feed.report({ upstream: 'simulated', source: 'simulated' }, 0);
    feed.tick(TICK, 1000);
    expect(headline(feed.market.quote('BTCUSDT') ?? null, 'simulated')).toMatchObject({ last: '93,842.91', change: '+1.00%' });
    expect(feed.report({ upstream: 'stale', source: 'binance' }, 2000)).toBe('market');
    expect(feed.market.symbols).toEqual([]);
    expect(feed.lastTickAt).toBeNull();
    expect(feed.rate.perSecond(2000)).toBe(0);
    expect(feed.standing(2000, true)).toEqual({ state: 'stale', source: 'binance', online: true, priced: false, quietMs: 0 });
    const { title, direction, ...texts } = headline(feed.market.quote('BTCUSDT') ?? null, 'stale');
    expect([title, direction, ...new Set(Object.values(texts))]).toEqual(['moda console', '0', NOTHING]);
  });

  it('keeps its prices when it only falls silent, and counts from the last one', () => {
    const feed = new PriceFeed();
    feed.report({ upstream: 'live', source: 'binance' }, 0);
    expect(feed.standing(4000, true)).toMatchObject({ priced: false, quietMs: 4000 });
    feed.tick(TICK, 5000);
    expect(feed.report({ state: 'stale', source: 'binance' }, 7000)).toBe('state');
    expect(feed.market.symbols).toEqual(['BTCUSDT']);
    expect(feed.lastTickAt).toBe(5000);
    expect([ago(null, 9000), ago(5000, 6000), ago(5000, 9000)]).toEqual([NOTHING, 'just now', '4\u00a0s ago']);
  });

  it('is named in the title of the tab unless it is live', () => {
    const feed = new PriceFeed();
    const quote = feed.tick(TICK, 0);
    expect(headline(quote, 'live').title).toBe('93,842.91 BTC/USDT · moda');
    expect(headline(quote, 'silent').title).toBe('93,842.91 BTC/USDT (silent) · moda');
  });

  it('is found among the services by what gateways call it', () => {
    const service = (name: string): { name: string; status: string; detail: [] } => ({ name, status: 'up', detail: [] });
    expect(priceService([service('store'), service('prices')])?.name).toBe('prices');
    expect(priceService([service('store')])).toBeNull();
  });

  it('has a rate that forgets what is older than its window and holds a bounded number of ticks', () => {
    const rate = new TickRate(10_000);
    for (let index = 0; index < 20; index += 1) rate.add(index * 1000);
    expect(rate.perSecond(19_000)).toBe(1);
    const young = new TickRate(10_000);
    for (const at of [0, 500, 1000, 1500]) young.add(at);
    expect(young.perSecond(2000)).toBe(2);
    expect(rate.perSecond(60_000)).toBe(0);
    for (let index = 0; index < 100_000; index += 1) rate.add(60_000);
    expect(rate.perSecond(60_000)).toBeLessThanOrEqual(409.6);
  });
});

describe('the services', () => {
  it('are listed with their details in one line, without what repeats the status', () => {
    expect(detailLine({ name: 'a', status: 'up', detail: [['state', 'live'], ['source', 'x'], ['', 'plain']] })).toBe('source x · plain');
  });

  it('are said to be old or unknown when the gateway does not answer', () => {
    const health = { status: 'ok', version: '1', uptime: 1, services: [] };
    expect(servicesHint({ kind: 'loading' })).toBe('Asking');
    expect(servicesHint({ kind: 'known', health, at: 0 })).toBe('None reported');
    expect(servicesHint({ kind: 'unreachable', reason: 'no connection', last: null })).toBe('Health unknown: no connection');
    expect(servicesHint({ kind: 'unreachable', reason: 'no connection', last: health })).toBe('Last known, no connection');
    expect(healthWord({ kind: 'unreachable', reason: '', last: null })).toBe('unreachable');
  });
});

describe('arrow keys', () => {
  it('go around in a ring, Home and End to its ends, other keys nowhere', () => {
    expect(['ArrowRight', 'ArrowLeft', 'Home', 'End', 'Enter'].map((key) => arrowTarget(key, 2, 3))).toEqual([0, 1, 0, 2, null]);
  });
});
