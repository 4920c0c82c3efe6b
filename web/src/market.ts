// Ticks to candles. The server sends the 24 h ticker of each symbol about once a second and no
// history, so the page makes its own candles, for every interval at once: changing the interval then
// shows what was already seen instead of starting from nothing.

import { LIMITS, type Tick } from './protocol';
import { Ring } from './ring';

/** Seconds per candle of the offered charts; the first one is drawn as a line. */
export const INTERVALS = [1, 5, 15, 60] as const;
export type Interval = (typeof INTERVALS)[number];

const CAPACITY: Readonly<Record<Interval, number>> = { 1: 1800, 5: 1440, 15: 960, 60: 720 };

/** One candle; `time` is the start of its interval, Unix seconds. */
export interface Candle {
  readonly time: number;
  readonly open: number;
  readonly high: number;
  readonly low: number;
  readonly close: number;
}

/** What a tick did to a series: changed the newest candle, began a new one, or came too late. */
export type Applied = 'amended' | 'began' | 'late';

/** Candles of one interval, the newest `capacity` of them. */
export class Candles {
  readonly #time: Ring;
  readonly #open: Ring;
  readonly #high: Ring;
  readonly #low: Ring;
  readonly #close: Ring;
  #begun = 0;

  constructor(
    readonly interval: number,
    capacity: number,
  ) {
    this.#time = new Ring(capacity);
    this.#open = new Ring(capacity);
    this.#high = new Ring(capacity);
    this.#low = new Ring(capacity);
    this.#close = new Ring(capacity);
  }

  get length(): number {
    return this.#time.length;
  }

  get capacity(): number {
    return this.#time.capacity;
  }

  /** How many candles were ever begun: two readings of it tell how many are new. */
  get begun(): number {
    return this.#begun;
  }

  apply(atMs: number, price: number): Applied {
    const time = Math.floor(atMs / 1000 / this.interval) * this.interval;
    const newest = this.#time.at(-1);
    if (time < newest) return 'late';
    if (time === newest) {
      this.#high.amend(Math.max(this.#high.at(-1), price));
      this.#low.amend(Math.min(this.#low.at(-1), price));
      this.#close.amend(price);
      return 'amended';
    }
    this.#begun += 1;
    this.#time.push(time);
    for (const ring of [this.#open, this.#high, this.#low, this.#close]) ring.push(price);
    return 'began';
  }

  at(index: number): Candle {
    return {
      time: this.#time.at(index),
      open: this.#open.at(index),
      high: this.#high.at(index),
      low: this.#low.at(index),
      close: this.#close.at(index),
    };
  }

  /** The newest `count` candles, oldest first. */
  newest(count: number): Candle[] {
    const from = Math.max(0, this.length - count);
    return Array.from({ length: this.length - from }, (_, offset) => this.at(from + offset));
  }
}

/** Everything the page knows of one symbol. */
export class Quote {
  readonly candles: Readonly<Record<Interval, Candles>> = {
    1: new Candles(1, CAPACITY[1]),
    5: new Candles(5, CAPACITY[5]),
    15: new Candles(15, CAPACITY[15]),
    60: new Candles(60, CAPACITY[60]),
  };
  #tick: Tick;
  #direction: -1 | 0 | 1 = 0;
  #decimals: number;

  constructor(tick: Tick) {
    this.#tick = tick;
    this.#decimals = decimalsOf(tick.priceText);
    this.#fill(tick);
  }

  get symbol(): string {
    return this.#tick.symbol;
  }

  get tick(): Tick {
    return this.#tick;
  }

  /** Which way the last change of the price went; 0 before there was one. */
  get direction(): -1 | 0 | 1 {
    return this.#direction;
  }

  /** Digits after the point, the most seen so far, so that the price does not change its width. */
  get decimals(): number {
    return this.#decimals;
  }

  /** Change over 24 h as a fraction of the opening price; NaN when that price is 0. */
  get change(): number {
    return this.#tick.open === 0 ? Number.NaN : (this.#tick.price - this.#tick.open) / this.#tick.open;
  }

  /** Takes a newer tick; false when it is older than the one held. */
  apply(tick: Tick): boolean {
    if (tick.at < this.#tick.at) return false;
    if (tick.price !== this.#tick.price) this.#direction = tick.price > this.#tick.price ? 1 : -1;
    this.#decimals = Math.max(this.#decimals, decimalsOf(tick.priceText));
    this.#tick = tick;
    this.#fill(tick);
    return true;
  }

  #fill(tick: Tick): void {
    for (const interval of INTERVALS) this.candles[interval].apply(tick.at, tick.price);
  }
}

/** Every symbol seen, in order of appearance, at most `LIMITS.symbols`. */
export class Market {
  readonly #quotes = new Map<string, Quote>();

  get symbols(): readonly string[] {
    return [...this.#quotes.keys()];
  }

  quote(symbol: string): Quote | undefined {
    return this.#quotes.get(symbol);
  }

  /** The quote the tick went into, or null when it was late or one symbol too many. */
  apply(tick: Tick): Quote | null {
    const known = this.#quotes.get(tick.symbol);
    if (known !== undefined) return known.apply(tick) ? known : null;
    if (this.#quotes.size >= LIMITS.symbols) return null;
    const quote = new Quote(tick);
    this.#quotes.set(tick.symbol, quote);
    return quote;
  }

  /** Forgets everything: candles of a simulated source must not continue into live ones. */
  clear(): void {
    this.#quotes.clear();
  }
}

/** Digits after the point that say something, between 2 and 8: "96543.21000000" has 2. */
export function decimalsOf(priceText: string): number {
  const fraction = (priceText.split('.')[1] ?? '').replace(/0+$/, '');
  return Math.min(8, Math.max(2, fraction.length));
}

const QUOTE_ASSETS = ['FDUSD', 'USDT', 'USDC', 'TUSD', 'BUSD', 'USD', 'EUR', 'GBP', 'TRY', 'BRL', 'BTC', 'ETH', 'BNB'];

/** "BTCUSDT" is BTC priced in USDT; an unknown ending leaves the symbol whole. */
export function splitSymbol(symbol: string): readonly [base: string, quote: string] {
  const upper = symbol.toUpperCase();
  const quote = QUOTE_ASSETS.find((asset) => upper.endsWith(asset) && upper.length > asset.length);
  return quote === undefined ? [upper, ''] : [upper.slice(0, -quote.length), quote];
}
