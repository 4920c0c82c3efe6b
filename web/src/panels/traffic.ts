// The gateway's own traffic, out of the telemetry stream: open connections, and messages in and out
// as one chart of two lines. The counters may come as rates or as running totals; a total is turned
// into a rate here, because nobody reads a slope off a line that only rises.

import { byId, make } from '../dom';
import type { MetricPoint } from '../protocol';
import { MetricFigure } from './metric';
import type { Elsewhere } from './telemetry';

const IN = 'moda.messages.in';
const OUT = 'moda.messages.out';
const CONNECTIONS = 'moda.connections';

/** Turns readings of a running total into a rate per second; null until there are two. */
export class Rate {
  #at = Number.NaN;
  #total = 0;

  next(at: number, total: number): number | null {
    const seconds = at - this.#at;
    const grown = total - this.#total;
    this.#at = at;
    this.#total = total;
    // A total that shrank belongs to a restarted gateway: the next reading is comparable again.
    return seconds > 0 && grown >= 0 ? grown / seconds : null;
  }
}

export function isRate(unit: string): boolean {
  return /\/s(ec)?$/.test(unit);
}

export function startTraffic(): Elsewhere {
  const connections = new MetricFigure({
    title: 'Connections',
    ratio: false,
    fromZero: true,
    tones: ['teal'],
    height: 64,
  });
  const messages = new MetricFigure({
    title: 'Messages',
    ratio: false,
    fromZero: true,
    tones: ['blue', 'amber'],
    labels: { in: 'in', out: 'out' },
    height: 64,
  });
  const empty = (text: string): HTMLElement => make('p', { class: 'empty-line' }, text);
  const hosts = [byId('traffic-connections'), byId('traffic-messages')] as const;
  hosts[0].append(empty('Waiting for moda.connections'));
  hosts[1].append(empty('Waiting for moda.messages.*'));

  const rates = { [IN]: new Rate(), [OUT]: new Rate() };
  const halves = new Map<'in' | 'out', { at: number; value: number }>();
  let shown: readonly [boolean, boolean] = [false, false];

  const reveal = (index: 0 | 1, figure: MetricFigure): void => {
    if (shown[index]) return;
    shown = index === 0 ? [true, shown[1]] : [shown[0], true];
    hosts[index].replaceChildren(figure.element);
  };

  const takeMessages = (point: MetricPoint, gapSeconds: number): void => {
    const total = point.series.reduce((sum, { value }) => sum + value, 0);
    const name = point.name === IN ? IN : OUT;
    const value = isRate(point.unit) ? total : rates[name].next(point.at, total);
    if (value === null) return;
    halves.set(name === IN ? 'in' : 'out', { at: point.at, value });
    const into = halves.get('in');
    const out = halves.get('out');
    // The two come as separate events of one sample; the row is complete with the later one.
    if (into === undefined || out === undefined || Math.abs(into.at - out.at) > 0.5) return;
    messages.add(Math.max(into.at, out.at), '1/s', new Map([['in', into.value], ['out', out.value]]), gapSeconds);
    reveal(1, messages);
  };

  return {
    names: new Set([CONNECTIONS, IN, OUT]),
    take(point, gapSeconds) {
      if (point.name !== CONNECTIONS) {
        takeMessages(point, gapSeconds);
        return;
      }
      connections.addPoint(point, gapSeconds);
      reveal(0, connections);
    },
    draw(range) {
      if (shown[0]) connections.draw(range);
      if (shown[1]) messages.draw(range);
    },
  };
}
