// The price source over time: which state, since when, and how it got there. Kept apart from what is
// drawn of it, because two panels and the chart's watermark tell the same story and must agree.

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

/** What the badge says beside its one word. */
export function explain(state: string, source: string, online: boolean): string {
  if (!online) return 'No connection: the last prices that arrived';
  if (state === 'simulated' && source === 'replay') return 'Played back from a file, not the market of this moment';
  switch (state) {
    case 'live':
      return 'From the exchange as they happen';
    case 'stale':
      return 'The source is silent: these prices are old';
    case 'simulated':
      return 'Made up by the gateway, not market prices';
    case 'waiting':
      return '';
    default:
      return `The source calls itself ${state}`;
  }
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
