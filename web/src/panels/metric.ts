// One metric: its history, its latest values and its chart. The values are text beside the chart, so
// the chart itself says nothing to a screen reader and nothing is lost without it.

import { make, mark, say } from '../dom';
import { clock, quantity } from '../format';
import { Plot } from '../plot';
import { LIMITS, type MetricPoint } from '../protocol';
import { Timeline } from '../ring';

/** At the default of one sample every 2 s this is an hour. */
const CAPACITY = 1800;

export interface MetricLook {
  readonly title: string;
  readonly ratio: boolean;
  readonly fromZero: boolean;
  readonly whole: boolean;
  readonly height: number;
  /** The colours of the series, by position. */
  readonly tones: readonly string[];
  /** The name of each series as shown; the key when absent. */
  readonly labels?: Readonly<Record<string, string>>;
  /** The technical name under the title; none when absent. */
  readonly name?: string;
}

export const TONES = ['blue', 'amber', 'teal', 'pink', 'violet', 'lime', 'red', 'grey'] as const;

/** The time axis that ends now and starts at most `range` seconds ago, at least a minute long. */
export function timeWindow(first: number, last: number, range: number): [number, number] {
  const span = Math.min(range, Math.max(60, last - first));
  return [last - span, last];
}

export class MetricFigure {
  readonly element: HTMLElement;
  readonly #timeline = new Timeline(CAPACITY, LIMITS.series);
  readonly #values: HTMLElement;
  readonly #when: HTMLElement;
  readonly #plotHost: HTMLElement;
  readonly #readings = new Map<string, HTMLElement>();
  #plot: Plot | null = null;
  #plotted: readonly string[] = [];
  #unit = '';
  #pointed: number | null = null;
  #shownFrom = 0;
  #receivedAt = 0;

  constructor(private readonly look: MetricLook) {
    this.#values = make('p', { class: 'values' });
    this.#when = make('span', { class: 'when', 'aria-hidden': 'true' });
    this.#plotHost = make('div', { class: 'plot', 'aria-hidden': 'true' });
    this.#plotHost.style.height = `${look.height}px`;
    const head = make('div', { class: 'card-head' }, make('h3', {}, look.title), this.#when);
    if (look.name !== undefined) head.append(make('code', { title: look.name }, look.name));
    this.element = make('article', { class: 'metric' }, head, this.#values, this.#plotHost);
  }

  /** `Date.now()` of the last sample; 0 before the first. */
  get receivedAt(): number {
    return this.#receivedAt;
  }

  add(at: number, unit: string, values: ReadonlyMap<string, number>, gapSeconds: number): void {
    if (unit !== this.#unit) {
      // A metric that changes its unit is another metric under the same name.
      this.#timeline.clear();
      this.#plot?.destroy();
      this.#plot = null;
      this.#unit = unit;
    }
    this.#timeline.push(at, values, gapSeconds);
    this.#receivedAt = Date.now();
  }

  addPoint(point: MetricPoint, gapSeconds: number): void {
    this.add(point.at, point.unit, new Map(point.series.map(({ key, value }) => [key, value])), gapSeconds);
  }

  draw(range: number): void {
    const keys = this.#timeline.keys;
    if (keys.length === 0) return;
    if (this.#plot === null || keys.length !== this.#plotted.length) this.#rebuild(keys);
    const [from, to] = timeWindow(this.#timeline.timeAt(0), this.#timeline.latestTime, range);
    const columns = this.#timeline.columns(keys, from);
    this.#shownFrom = this.#timeline.length - columns[0].length;
    this.#plot?.draw(columns, from, to);
    this.#read();
  }

  #rebuild(keys: readonly string[]): void {
    this.#plot?.destroy();
    this.#plotted = keys;
    this.#plot = new Plot(this.#plotHost, {
      keys,
      tones: keys.map((_, index) => this.#tone(index)),
      unit: this.#unit,
      ratio: this.look.ratio,
      fromZero: this.look.fromZero,
      whole: this.look.whole,
      height: this.look.height,
      pointed: (index) => {
        if (index === this.#pointed) return;
        this.#pointed = index;
        this.#read();
      },
    });
    this.#readings.clear();
    this.#values.replaceChildren(
      ...keys.map((key, index) => {
        const reading = make('span', { class: 'reading' });
        this.#readings.set(key, reading);
        const label = this.look.labels?.[key] ?? key;
        const item = make('span', { class: 'value' });
        mark(item, 'tone', this.#tone(index));
        if (keys.length > 1) item.append(make('span', { class: 'key' }, label));
        item.append(reading);
        return item;
      }),
    );
  }

  #tone(index: number): string {
    return this.look.tones[index] ?? TONES[index % TONES.length] ?? 'grey';
  }

  /** The values at the pointer, or the latest ones. */
  #read(): void {
    const index = this.#pointed === null ? -1 : this.#shownFrom + this.#pointed;
    for (const [key, reading] of this.#readings) {
      say(reading, quantity(this.#timeline.valueAt(key, index), this.#unit, this.look.ratio));
    }
    say(this.#when, this.#pointed === null ? '' : clock(this.#timeline.timeAt(index)));
    mark(this.element, 'pointed', String(this.#pointed !== null));
  }
}
