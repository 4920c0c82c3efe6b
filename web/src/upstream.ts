// The price source over time: which state, since when, and how it got there. Kept apart from what is
// drawn of it, because two panels and the chart's watermark tell the same story and must agree.

/** One state and when it began, `Date.now()` milliseconds. */
export interface Era {
  readonly state: string;
  readonly since: number;
}

const KEPT = 6;

export class UpstreamLog {
  #eras: readonly Era[] = [];

  /** Newest first. */
  get eras(): readonly Era[] {
    return this.#eras;
  }

  get current(): Era | null {
    return this.#eras[0] ?? null;
  }

  /** Records `state`; false when nothing changed. */
  enter(state: string, now: number): boolean {
    if (this.current?.state === state) return false;
    this.#eras = [{ state, since: now }, ...this.#eras].slice(0, KEPT);
    return true;
  }
}

/**
 * Whether prices of these two states come from the same market. Simulated ones do not continue into
 * real ones, so what was drawn of one must not be joined to the other.
 */
export function sameMarket(left: string, right: string): boolean {
  const real = (state: string): string => (state === 'live' || state === 'stale' ? 'real' : state);
  return real(left) === real(right);
}

/** What the badge says beside its one word. */
export function explain(state: string, online: boolean): string {
  if (!online) return 'No connection: the last prices that arrived';
  switch (state) {
    case 'live':
      return 'From the exchange as they happen';
    case 'stale':
      return 'The exchange is silent: these prices are old';
    case 'simulated':
      return 'Made up by the gateway, not market prices';
    case 'waiting':
      return '';
    default:
      return `The source calls itself ${state}`;
  }
}

/** Ticks per second over the last `windowMs`, counted here. */
export class TickRate {
  #times: number[] = [];

  constructor(private readonly windowMs = 10_000) {}

  add(now: number): void {
    this.#times.push(now);
    if (this.#times.length > 4096) this.#forget(now);
    if (this.#times.length > 4096) this.#times = this.#times.slice(-2048);
  }

  perSecond(now: number): number {
    this.#forget(now);
    return this.#times.length / (this.windowMs / 1000);
  }

  #forget(now: number): void {
    this.#times = this.#times.filter((at) => now - at < this.windowMs);
  }
}
