// What the gateway sends, checked once at the border. Payloads come from a wire that other programs
// publish to as well, so a wrong one must cost one message, never the page: every reader returns
// null for what it cannot use, and bounds what it keeps.

/** The most a page keeps per kind; beyond it new names are ignored so that memory stays bounded. */
export const LIMITS = { metrics: 64, series: 8, symbols: 64, text: 120 } as const;

/** One value of one series of a metric. */
export interface SeriesPoint {
  readonly key: string;
  readonly value: number;
}

/** Event `metric` on `telemetry:metrics`; `at` is Unix time in seconds. */
export interface MetricPoint {
  readonly name: string;
  readonly unit: string;
  readonly at: number;
  readonly series: readonly SeriesPoint[];
}

/**
 * Event `price_tick` on `chart:prices`: a 24 h mini ticker. `at` is Unix time in milliseconds.
 * The price is kept as the decimal text that was sent beside its number: the text is what people
 * read (exact), the number is what is drawn.
 */
export interface Tick {
  readonly symbol: string;
  readonly at: number;
  readonly price: number;
  readonly priceText: string;
  readonly open: number;
  readonly highText: string;
  readonly lowText: string;
  readonly volume: number;
  readonly quoteVolume: number;
}

/** One entry of `services` in the health document. */
export interface Service {
  readonly name: string;
  readonly status: string;
  readonly detail: readonly (readonly [string, string])[];
}

/** GET `/api/v1/health`; `uptime` in seconds. */
export interface Health {
  readonly status: string;
  readonly version: string;
  readonly uptime: number;
  readonly services: readonly Service[];
}

type Fields = Readonly<Record<string, unknown>>;

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value.length <= LIMITS.text ? value : null;
}

function finite(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

/** A plain decimal such as "96543.21000000"; exponents, signs and blanks are not prices. */
function decimal(value: unknown): string | null {
  return typeof value === 'string' && value.length <= 40 && /^\d+(\.\d+)?$/.test(value) ? value : null;
}

export function readMetric(payload: unknown): MetricPoint | null {
  if (!isFields(payload) || !Array.isArray(payload.series)) return null;
  const name = text(payload.name);
  const unit = text(payload.unit);
  const at = finite(payload.tsUnixSec);
  if (name === null || name === '' || unit === null || at === null || at <= 0) return null;
  const series: SeriesPoint[] = [];
  for (const entry of payload.series.slice(0, LIMITS.series) as unknown[]) {
    if (!isFields(entry)) continue;
    const key = text(entry.key);
    const value = finite(entry.value);
    if (key !== null && value !== null) series.push({ key, value });
  }
  return series.length === 0 ? null : { name, unit, at, series };
}

export function readTick(payload: unknown): Tick | null {
  if (!isFields(payload)) return null;
  const symbol = text(payload.s);
  const at = finite(payload.E);
  const priceText = decimal(payload.c);
  const open = decimal(payload.o);
  const highText = decimal(payload.h);
  const lowText = decimal(payload.l);
  const volume = decimal(payload.v);
  const quoteVolume = decimal(payload.q);
  if (symbol === null || !/^[A-Za-z0-9._-]{1,32}$/.test(symbol) || at === null || at <= 0) return null;
  if (priceText === null || open === null || highText === null || lowText === null) return null;
  if (volume === null || quoteVolume === null) return null;
  return {
    symbol,
    at,
    price: Number(priceText),
    priceText,
    open: Number(open),
    highText,
    lowText,
    volume: Number(volume),
    quoteVolume: Number(quoteVolume),
  };
}

/**
 * What is said of the price source, in the reply to the join (`upstream`) and in every event
 * `upstream` (`state`): live, stale or simulated; another short word is kept as it is. `since` is
 * Unix seconds; `source` is the kind of source, '' where the gateway does not name it.
 */
export interface Upstream {
  readonly state: string;
  readonly source: string;
  readonly since: number | null;
  readonly reason: string;
}

export function readUpstream(payload: unknown): Upstream | null {
  if (!isFields(payload)) return null;
  const state = payload.upstream ?? payload.state;
  if (typeof state !== 'string' || !/^[a-z][a-z_-]{0,15}$/.test(state)) return null;
  const since = finite(payload.since);
  return {
    state,
    source: text(payload.source) ?? '',
    since: since !== null && since > 0 ? since : null,
    reason: text(payload.reason) ?? '',
  };
}

/** The word for a refused join: `reason` of the error reply, whatever shape the server gave it. */
export function readReason(response: unknown): string {
  if (isFields(response)) {
    const reason = text(response.reason) ?? text(response.message);
    if (reason !== null && reason !== '') return reason;
  }
  return 'no reason given';
}

function scalar(value: unknown): string | null {
  if (typeof value === 'string') return value.slice(0, LIMITS.text);
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string')) {
    return value.join(', ').slice(0, LIMITS.text);
  }
  return null;
}

/** `interval_ms: 2000` reads "interval 2000 ms": the suffix of a name is the unit of its value. */
function pair(key: string, value: string): [string, string] {
  const [, name = key, unit = ''] = /^(.+?)(?:_(ms|s))?$/.exec(key) ?? [];
  const number = /^-?\d/.test(value);
  return [(number ? name : key).replaceAll('_', ' ').slice(0, 40), number && unit !== '' ? `${value} ${unit}` : value];
}

function readDetail(detail: unknown): [string, string][] {
  if (typeof detail === 'string') return detail === '' ? [] : [['', detail.slice(0, LIMITS.text)]];
  if (!isFields(detail)) return [];
  const pairs: [string, string][] = [];
  for (const [key, value] of Object.entries(detail).slice(0, 16)) {
    const shown = scalar(value);
    if (shown !== null && shown !== '') pairs.push(pair(key, shown));
  }
  return pairs;
}

export function readHealth(body: unknown): Health | null {
  if (!isFields(body)) return null;
  const status = text(body.status);
  const version = text(body.version);
  const uptime = finite(body.uptime_seconds);
  if (status === null || version === null || uptime === null) return null;
  const services: Service[] = [];
  if (isFields(body.services)) {
    for (const [name, entry] of Object.entries(body.services).slice(0, 32)) {
      if (!isFields(entry)) continue;
      services.push({
        name: name.slice(0, 40),
        status: text(entry.status) ?? 'unknown',
        detail: readDetail(entry.detail),
      });
    }
  }
  return { status, version, uptime, services };
}

/** Whether an OpenAPI document names `path`; false for anything that is no such document. */
export function offers(document: unknown, path: string): boolean {
  return isFields(document) && isFields(document.paths) && Object.hasOwn(document.paths, path);
}
