// One small time chart on uPlot, in the look of the page. The range of time is given with the data
// instead of being taken from it, so that charts under one another stand on the same axis and a
// chart with three points does not pretend that they fill it.

import uPlot from 'uplot';
import { token } from './dom';
import { axisLabels, clock, isBytes } from './format';
import { onWidth } from './paint';
import { isolated, verticalRange } from './scale';

/** How a plot is drawn; `tones` are names of colours in the style sheet, one per series. */
export interface PlotOptions {
  readonly keys: readonly string[];
  readonly tones: readonly string[];
  readonly unit: string;
  readonly ratio: boolean;
  readonly fromZero: boolean;
  readonly whole: boolean;
  readonly height: number;
  /** Called with the index under the pointer, or null when it left. */
  readonly pointed: (index: number | null) => void;
}

/** Columns as uPlot takes them: times in seconds, then one column per series. */
export type Columns = [number[], ...(number | null)[][]];

/** Plots that share this key show the pointer at the same time. */
const SYNC = 'moda';

/** A time axis shorter than this many seconds says them on its labels. */
const SECONDS_SHOWN = 240;

const TIME_STEPS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/** Steps for an axis of bytes: powers of two, so that its labels are whole numbers of KiB or MiB. */
const BINARY_STEPS = Array.from({ length: 52 }, (_, power) => 2 ** power);

/** Steps for an axis of whole things: 1, 2, 5, 10, 20 and so on. */
const WHOLE_STEPS = Array.from({ length: 9 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

/** The room the labels of the value axis need, so that none is cut and none wastes a phone's width. */
function labelWidth(self: uPlot, labels: string[] | null): number {
  self.ctx.save();
  self.ctx.font = `${11 * devicePixelRatio}px ${token('font')}`;
  const widest = Math.max(18, ...(labels ?? []).map((label) => self.ctx.measureText(label).width / devicePixelRatio));
  self.ctx.restore();
  return Math.ceil(widest) + 10;
}

export class Plot {
  readonly #plot: uPlot;
  #from = 0;
  #to = 1;

  constructor(host: HTMLElement, options: PlotOptions) {
    // Asked for at every drawing: the system may turn from dark to light while the page is open.
    const colour = (index: number) => (): string => token(options.tones[index] ?? 'grey');
    const axis = {
      stroke: () => token('faint'),
      font: `11px ${token('font')}`,
      grid: { stroke: () => token('grid'), width: 1 },
      ticks: { show: false },
    };
    this.#plot = new uPlot(
      {
        width: Math.max(120, Math.floor(host.clientWidth)),
        height: options.height,
        padding: [6, 8, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          drag: { x: false, y: false },
          points: { size: 6, width: 0 },
          sync: { key: SYNC, setSeries: false },
        },
        scales: {
          x: { time: true, range: () => [this.#from, this.#to] },
          y: { range: (_, low, high) => verticalRange(low, high, options.fromZero) },
        },
        axes: [
          {
            ...axis,
            size: 22,
            gap: 4,
            // A label with seconds is wider; steps of two minutes fill the gap between one and five.
            space: (_, __, from, to) => (to - from < SECONDS_SHOWN ? 68 : 46),
            incrs: TIME_STEPS,
            values: (_, splits) => splits.map((at) => this.#timeLabel(at)),
          },
          {
            ...axis,
            size: (self, labels) => labelWidth(self, labels),
            gap: 6,
            space: options.height < 80 ? 15 : 24,
            ...(isBytes(options.unit) ? { incrs: BINARY_STEPS } : options.whole ? { incrs: WHOLE_STEPS } : {}),
            values: (_, splits) => axisLabels(splits, options.unit, options.ratio),
          },
        ],
        series: [
          {},
          ...options.keys.map((key, index) => ({
            label: key,
            stroke: colour(index),
            width: 1.5,
            points: { show: false, size: 4, filter: (self: uPlot, at: number) => isolated(self.data[at] ?? []) },
            ...(options.keys.length === 1 ? { fill: fade(colour(index)) } : {}),
          })),
        ],
        hooks: {
          setCursor: [
            (self) => {
              options.pointed(self.cursor.idx ?? null);
            },
          ],
        },
      },
      [[], ...options.keys.map(() => [])],
      host,
    );
    onWidth(host, (width) => {
      this.#plot.setSize({ width, height: options.height });
    });
  }

  /** Draws `columns` on the axis `from`..`to`, Unix seconds. */
  draw(columns: Columns, from: number, to: number): void {
    this.#from = from;
    this.#to = Math.max(to, from + 1);
    this.#plot.setData(columns);
  }

  /** Minutes for a long axis, seconds for a short one; nothing where the edge would cut it. */
  #timeLabel(at: number): string {
    const span = this.#to - this.#from;
    return at > this.#to - span * 0.07 ? '' : clock(at, span < SECONDS_SHOWN);
  }

  destroy(): void {
    this.#plot.destroy();
  }
}

function fade(colour: () => string): (self: uPlot) => CanvasGradient {
  return (self) => {
    const { top, height } = self.bbox;
    const gradient = self.ctx.createLinearGradient(0, top, 0, top + Math.max(1, height));
    gradient.addColorStop(0, `${colour()}38`);
    gradient.addColorStop(1, `${colour()}00`);
    return gradient;
  };
}
