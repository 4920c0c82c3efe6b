// The words and small decisions of the panels; what they look like is the browser test's business.

import { describe, expect, it } from 'vitest';
import { compareMetrics, present, titleOf } from '../src/catalogue';
import { arrowTarget } from '../src/dom';
import { reconnectDelay, type LinkState } from '../src/link';
import { healthWord, countdown, linkText } from '../src/panels/header';
import { timeWindow } from '../src/panels/metric';
import { detailLine, servicesHint } from '../src/panels/services';
import { describe as describeTelemetry, readInterval } from '../src/panels/telemetry';
import { priceService } from '../src/panels/upstream';
import { isolated, verticalRange } from '../src/scale';
import { explain, TickRate, UpstreamLog } from '../src/upstream';

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
    expect(linkText(state({ phase: 'connecting' }))).toBe('Reconnecting');
    expect(linkText(state({ phase: 'connecting', everOpen: false }))).toBe('Connecting');
    expect(linkText(state({ phase: 'open' }))).toBe('Connected');
    expect(linkText(state({}))).toBe('Disconnected');
  });

  it('counts down in whole seconds and never to zero', () => {
    expect(countdown(state({ retryAt: 4200 }), 1000)).toBe('Next attempt in 4 s');
    expect(countdown(state({ retryAt: 1000 }), 4000)).toBe('Next attempt in 1 s');
    expect(countdown(state({ phase: 'connecting' }), 0)).toBe('Trying now');
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

  it('never lets simulated prices pass for market prices in its explanation', () => {
    expect(explain('simulated', 'simulated', true)).toContain('not market prices');
    expect(explain('simulated', 'replay', true)).toContain('file');
    expect(explain('live', 'binance', false)).toContain('No connection');
    expect(explain('odd', '', true)).toContain('odd');
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
