import { describe, expect, it } from 'vitest';
import { LIMITS, offers, readHealth, readMetric, readReason, readTick, readUpstream } from '../src/protocol';

const METRIC = {
  name: 'http.server.duration',
  unit: 'ms',
  tsUnixSec: 1740441600.12,
  series: [
    { key: 'p50', value: 12.3 },
    { key: 'p95', value: 45.8 },
  ],
};

const TICK = {
  e: '24hrMiniTicker',
  E: 1740441600123,
  s: 'BTCUSDT',
  c: '96543.21',
  o: '96000.00',
  h: '97000.00',
  l: '95500.00',
  v: '12345.678',
  q: '1190123456.78',
};

describe('a metric point', () => {
  it('of the contract is read whole', () => {
    expect(readMetric(METRIC)).toEqual({
      name: 'http.server.duration',
      unit: 'ms',
      at: 1740441600.12,
      series: METRIC.series,
    });
  });

  it.each([
    ['null', null],
    ['an array', [METRIC]],
    ['no name', { ...METRIC, name: undefined }],
    ['an empty name', { ...METRIC, name: '' }],
    ['a name too long to show', { ...METRIC, name: 'x'.repeat(LIMITS.text + 1) }],
    ['a unit that is no text', { ...METRIC, unit: null }],
    ['no time', { ...METRIC, tsUnixSec: undefined }],
    ['a time that is text', { ...METRIC, tsUnixSec: '1740441600' }],
    ['no series', { ...METRIC, series: [] }],
    ['a series without a usable value', { ...METRIC, series: [{ key: 'a', value: null }, 3] }],
  ])('with %s is refused', (_, payload) => {
    expect(readMetric(payload)).toBeNull();
  });

  it('keeps what is usable beside what is not, and no more series than the page can show', () => {
    const many = Array.from({ length: 40 }, (_, index) => ({ key: `k${index}`, value: index }));
    expect(readMetric({ ...METRIC, series: many })?.series.length).toBe(LIMITS.series);
    expect(readMetric({ ...METRIC, series: [{ key: 'a', value: 1 }, null] })?.series).toEqual([{ key: 'a', value: 1 }]);
  });
});

describe('a price tick', () => {
  it('of the contract is read, its price kept as the text that was sent', () => {
    expect(readTick(TICK)).toMatchObject({ symbol: 'BTCUSDT', price: 96543.21, priceText: '96543.21', open: 96000 });
  });

  it.each([
    ['a price that is a number', { ...TICK, c: 96543.21 }],
    ['an exponent', { ...TICK, c: '9e4' }],
    ['a negative price', { ...TICK, c: '-1' }],
    ['a missing opening price', { ...TICK, o: undefined }],
    ['a symbol with markup', { ...TICK, s: '<b>BTC</b>' }],
    ['a time before all time', { ...TICK, E: 0 }],
    ['nothing in it', {}],
  ])('with %s is refused', (_, payload) => {
    expect(readTick(payload)).toBeNull();
  });
});

describe('the state of the price source', () => {
  it('is read from the reply to the join and from an event alike', () => {
    expect(readUpstream({ upstream: 'simulated', source: 'replay', since: 5 })).toEqual({
      state: 'simulated',
      source: 'replay',
      since: 5,
      reason: '',
    });
    expect(readUpstream({ state: 'stale', reason: 'no tick for 10 s' })).toEqual({
      state: 'stale',
      source: '',
      since: null,
      reason: 'no tick for 10 s',
    });
  });

  it.each([[{}], [null], [{ upstream: 7 }], [{ upstream: 'LIVE' }], [{ state: 'a'.repeat(40) }], ['live']])(
    'is unknown for %j',
    (payload) => {
      expect(readUpstream(payload)).toBeNull();
    },
  );
});

describe('a refusal', () => {
  it('is told in the words of the server, or as having none', () => {
    expect(readReason({ reason: 'too many channels joined' })).toBe('too many channels joined');
    expect(readReason({ message: 'go away' })).toBe('go away');
    expect(readReason({ reason: { reason: 'nested' } })).toBe('no reason given');
    expect(readReason(undefined)).toBe('no reason given');
  });
});

describe('the health document', () => {
  const document = (detail: unknown): unknown => ({
    status: 'ok',
    version: '0.1.0',
    uptime_seconds: 12.5,
    services: { prices: { status: 'simulated', detail } },
  });
  const detailOf = (detail: unknown): unknown => readHealth(document(detail))?.services[0]?.detail;

  it('is read with its services', () => {
    expect(readHealth(document({}))).toEqual({
      status: 'ok',
      version: '0.1.0',
      uptime: 12.5,
      services: [{ name: 'prices', status: 'simulated', detail: [] }],
    });
  });

  it('has details of any shape, of which the plain ones are shown', () => {
    expect(detailOf('all well')).toEqual([['', 'all well']]);
    expect(detailOf({ symbols: ['a', 'b'], counters: { x: 1 }, reason: '', ok: true, nothing: null })).toEqual([
      ['symbols', 'a, b'],
      ['ok', 'yes'],
    ]);
  });

  it('has details whose names end in their unit, which is put behind the value', () => {
    expect(detailOf({ interval_ms: 2000, last_sample_age_s: 0.41234 })).toEqual([
      ['interval', '2000 ms'],
      ['last sample age', '0.4123 s'],
    ]);
  });

  it.each([[null], ['ok'], [{ status: 'ok' }], [{ status: 'ok', version: '1', uptime_seconds: 'long' }]])(
    'is refused as %j',
    (body) => {
      expect(readHealth(body)).toBeNull();
    },
  );

  it('without services is still a health document', () => {
    expect(readHealth({ status: 'ok', version: '1', uptime_seconds: 0 })?.services).toEqual([]);
  });
});

describe('an OpenAPI document', () => {
  it('says whether a path is served', () => {
    expect(offers({ paths: { '/metrics': {} } }, '/metrics')).toBe(true);
    expect(offers({ paths: { '/health': {} } }, '/metrics')).toBe(false);
    expect([null, 'text', {}, { paths: [] }].map((body) => offers(body, '/metrics'))).toEqual([false, false, false, false]);
  });
});
