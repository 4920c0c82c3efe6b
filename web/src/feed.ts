// What `chart:prices` has said: the market as it stands, who makes it, and how long ago it spoke. One
// object holds all of it, because all of it ends together: when the source changes, a price, an age or
// a rate that stayed behind would be shown under the name of a source it never came from.

import { Market, type Quote } from './market';
import { readTick, readUpstream } from './protocol';
import { TickRate, UpstreamLog, type Change, type Standing } from './upstream';

export class PriceFeed {
  readonly market = new Market();
  readonly log = new UpstreamLog();
  readonly rate = new TickRate();
  #lastTickAt: number | null = null;
  #toldAt = 0;

  /** `now` of the last tick of this market; null before the first. */
  get lastTickAt(): number | null {
    return this.#lastTickAt;
  }

  /** Takes a `price_tick` that arrived at `now` (ms); the quote it changed, or null. */
  tick(payload: unknown, now: number): Quote | null {
    const tick = readTick(payload);
    if (tick === null) return null;
    this.#lastTickAt = now;
    this.rate.add(now);
    return this.market.apply(tick);
  }

  /** Takes a join reply or an `upstream` event; 'market' has emptied everything but the log. */
  report(payload: unknown, now: number): Change {
    const report = readUpstream(payload);
    if (report === null) return 'none';
    this.#toldAt = now;
    const change = this.log.enter(report, now);
    if (change === 'market') {
      this.market.clear();
      this.rate.clear();
      this.#lastTickAt = null;
    }
    return change;
  }

  /** How the prices stand at `now`, for everything on the page that says it. */
  standing(now: number, online: boolean): Standing {
    const era = this.log.current;
    return {
      state: era?.state ?? 'waiting',
      source: era?.source ?? '',
      online,
      priced: this.#lastTickAt !== null,
      quietMs: Math.max(0, now - Math.max(this.#toldAt, this.#lastTickAt ?? 0)),
    };
  }
}
