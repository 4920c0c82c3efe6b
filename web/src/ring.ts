// Bounded history. The page stays open for weeks on a wall display, so everything that grows with
// time lives in one of these and forgets its oldest entries.

/** The last `capacity` numbers, oldest first. NaN stands for "no value". */
export class Ring {
  readonly #slots: Float64Array;
  #start = 0;
  #length = 0;

  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(`a ring holds a whole number of values, at least 1; got ${capacity}`);
    }
    this.#slots = new Float64Array(capacity);
  }

  get capacity(): number {
    return this.#slots.length;
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    const end = (this.#start + this.#length) % this.capacity;
    this.#slots[end] = value;
    if (this.#length < this.capacity) this.#length += 1;
    else this.#start = (this.#start + 1) % this.capacity;
  }

  /** Replaces the newest value; a ring that is still empty takes it as its first. */
  amend(value: number): void {
    if (this.#length === 0) this.push(value);
    else this.#slots[(this.#start + this.#length - 1) % this.capacity] = value;
  }

  /** The value at `index`, 0 being the oldest and -1 the newest; NaN outside. */
  at(index: number): number {
    const position = index < 0 ? this.#length + index : index;
    if (position < 0 || position >= this.#length) return Number.NaN;
    return this.#slots[(this.#start + position) % this.capacity] ?? Number.NaN;
  }

  clear(): void {
    this.#start = 0;
    this.#length = 0;
  }

  /** A copy, oldest first, starting at `from`. */
  toArray(from = 0): number[] {
    const copy: number[] = [];
    for (let index = from; index < this.#length; index += 1) copy.push(this.at(index));
    return copy;
  }
}

/** A row whose time lies this far before the newest one means the server's clock was set back. */
const CLOCK_STEP_SECONDS = 5;

/**
 * Several series over one time axis, as uPlot draws them: times in seconds, strictly rising, and per
 * series a value or a gap for every time.
 */
export class Timeline {
  readonly #times: Ring;
  readonly #series = new Map<string, Ring>();

  constructor(
    private readonly capacity: number,
    private readonly maxSeries: number,
  ) {
    this.#times = new Ring(capacity);
  }

  get length(): number {
    return this.#times.length;
  }

  get keys(): readonly string[] {
    return [...this.#series.keys()];
  }

  get latestTime(): number {
    return this.#times.at(-1);
  }

  /** The newest value of `key`; NaN when it was not in the newest row. */
  latest(key: string): number {
    return this.#series.get(key)?.at(-1) ?? Number.NaN;
  }

  valueAt(key: string, index: number): number {
    return this.#series.get(key)?.at(index) ?? Number.NaN;
  }

  timeAt(index: number): number {
    return this.#times.at(index);
  }

  /**
   * Adds a row. A hole longer than `gapSeconds` is kept visible as a gap: a line drawn across a lost
   * connection would claim values nobody measured. A row that is a little late is dropped; one that
   * is much older starts the timeline anew, because the server's clock was set back.
   */
  push(time: number, values: ReadonlyMap<string, number>, gapSeconds = Infinity): boolean {
    const last = this.#times.at(-1);
    if (time <= last) {
      if (last - time < CLOCK_STEP_SECONDS) return false;
      this.clear();
    } else if (time - last > gapSeconds) {
      this.#row((last + time) / 2, new Map());
    }
    for (const key of values.keys()) {
      if (this.#series.has(key) || this.#series.size >= this.maxSeries) continue;
      const ring = new Ring(this.capacity);
      this.#times.toArray().forEach(() => {
        ring.push(Number.NaN);
      });
      this.#series.set(key, ring);
    }
    this.#row(time, values);
    return true;
  }

  clear(): void {
    this.#times.clear();
    for (const ring of this.#series.values()) ring.clear();
  }

  /**
   * Columns for uPlot: times, then each of `keys`, with null for a gap. They start one row before
   * `since` (seconds), so that a line reaches the left edge of a window that begins there.
   */
  columns(keys: readonly string[], since = -Infinity): [number[], ...(number | null)[][]] {
    let from = 0;
    while (from < this.#times.length && this.#times.at(from) < since) from += 1;
    from = Math.max(0, from - 1);
    const ys = keys.map((key) => {
      const ring = this.#series.get(key);
      const column: (number | null)[] = [];
      for (let index = from; index < this.#times.length; index += 1) {
        const value = ring?.at(index) ?? Number.NaN;
        column.push(Number.isNaN(value) ? null : value);
      }
      return column;
    });
    return [this.#times.toArray(from), ...ys];
  }

  #row(time: number, values: ReadonlyMap<string, number>): void {
    this.#times.push(time);
    for (const [key, ring] of this.#series) ring.push(values.get(key) ?? Number.NaN);
  }
}
