// The price source over time: which state, since when, and how it got there. Kept apart from what is
// drawn of it, because two panels and the chart's watermark tell the same story and must agree.

import { duration } from './format';
import type { Upstream } from './protocol';

/** One state and when it began, Unix milliseconds by the gateway's clock where it told. */
export interface Era {
  readonly state: string;
  readonly source: string;
  readonly since: number;
  readonly reason: string;
}

const KEPT = 6;

/** What a report changed: nothing, the state, or the market the prices come from. */
export type Change = 'none' | 'state' | 'market';

export class UpstreamLog {
  #eras: readonly Era[] = [];

  /** Newest first. */
  get eras(): readonly Era[] {
    return this.#eras;
  }

  get current(): Era | null {
    return this.#eras[0] ?? null;
  }

  /**
   * Records a report. 'market' says that what was drawn must not continue: prices of one source do
   * not follow from those of another, least of all real ones from simulated ones.
   */
  enter(report: Upstream, now: number): Change {
    const before = this.current;
    const { state, source, reason } = report;
    if (before?.state === state && before.source === source) return 'none';
    const since = report.since === null ? now : report.since * 1000;
    this.#eras = [{ state, source, since, reason }, ...this.#eras].slice(0, KEPT);
    return before === null || sameMarket(before, report) ? 'state' : 'market';
  }
}

/** By the name of the source where both have one; by the state otherwise, stale being a tired live. */
function sameMarket(left: Omit<Era, 'since'>, right: Omit<Upstream, 'since'>): boolean {
  if (left.source !== '' && right.source !== '') return left.source === right.source;
  const kind = (state: string): string => (state === 'stale' ? 'live' : state);
  return kind(left.state) === kind(right.state);
}

/** How the prices stand: what the gateway last said of them, and what this page heard since. */
export interface Standing {
  readonly state: string;
  readonly source: string;
  readonly online: boolean;
  /** Whether this market has sent a price at all. */
  readonly priced: boolean;
  /** Milliseconds since the last price or, before the first, since the state was told. */
  readonly quietMs: number;
}

/**
 * How long a source that calls itself alive may send nothing. The gateway watches its source and
 * reports silence; this watches the gateway, which cannot report that it hangs itself.
 */
const QUIET_MS = 10_000;

/** The one word of the badge: the gateway's own, unless this page knows better. */
export function word({ state, online, quietMs }: Standing): string {
  if (!online) return 'offline';
  return (state === 'live' || state === 'simulated') && quietMs > QUIET_MS ? 'silent' : state;
}

/** What the badge says beside its one word. */
export function explain(standing: Standing): string {
  const { state, source, priced, quietMs } = standing;
  const made = source === 'replay' ? 'Played back from a file' : 'Made up by the gateway';
  switch (word(standing)) {
    case 'offline':
      return priced ? 'No connection: the last prices that arrived' : '';
    case 'silent': {
      const silence = priced ? `no price for ${duration(quietMs / 1000)}` : 'no price has come yet';
      return state === 'simulated' ? `${made}; ${silence}` : `${silence.charAt(0).toUpperCase()}${silence.slice(1)}`;
    }
    case 'live':
      return 'From the exchange as they happen';
    case 'stale':
      return priced ? 'The source is silent: these prices are old' : 'The source is silent: no price has come yet';
    case 'simulated':
      return source === 'replay' ? `${made}, not the market of this moment` : `${made}, not market prices`;
    case 'waiting':
      return '';
    default:
      return `The source calls itself ${state}`;
  }
}

/** The words behind the chart; '' for none. Simulated prices stay marked whatever else happens. */
export function watermark(standing: Standing): string {
  const { state, source } = standing;
  if (state === 'simulated') return source === 'replay' ? 'REPLAY' : 'SIMULATED';
  const shown = word(standing);
  return standing.priced && (shown === 'stale' || shown === 'silent') ? shown.toUpperCase() : '';
}

/** Ticks per second over the last `windowMs`, or since the first tick while that is shorter. */
export class TickRate {
  #times: number[] = [];
  #first = Number.NaN;

  constructor(private readonly windowMs = 10_000) {}

  add(now: number): void {
    if (Number.isNaN(this.#first)) this.#first = now;
    this.#times.push(now);
    if (this.#times.length > 4096) this.#forget(now);
    if (this.#times.length > 4096) this.#times = this.#times.slice(-2048);
  }

  clear(): void {
    this.#times = [];
    this.#first = Number.NaN;
  }

  perSecond(now: number): number {
    this.#forget(now);
    if (this.#times.length === 0) return 0;
    const watched = Math.min(this.windowMs, Math.max(1000, now - this.#first));
    return this.#times.length / (watched / 1000);
  }

  #forget(now: number): void {
    this.#times = this.#times.filter((at) => now - at < this.windowMs);
  }
}
