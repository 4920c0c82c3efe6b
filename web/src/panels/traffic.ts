// The gateway's own traffic, out of the telemetry stream: open connections, and messages in and out
// as two lines of one chart, because the ratio of the two is what tells a fan-out from a chat. Below
// them what tells a crowd at the door and clients that cannot keep up, as plain figures: their charts
// are cards further down.

import { byId, make, mark, say } from '../dom';
import { NOTHING, quantity } from '../format';
import type { MetricPoint } from '../protocol';
import { MetricFigure } from './metric';
import type { Elsewhere } from './telemetry';

const IN = 'moda.messages.in';
const OUT = 'moda.messages.out';
const CONNECTIONS = 'moda.connections';

interface Tally {
  readonly name: string;
  readonly label: string;
  readonly title: string;
  /** Anything but zero deserves a look. */
  readonly alarming: boolean;
}

const TALLIES: readonly Tally[] = [
  { name: 'moda.joins', label: 'Joins', title: 'Channels joined per second', alarming: false },
  { name: 'moda.drops', label: 'Drops', title: 'Messages given up per second, for slow readers and other reasons', alarming: true },
  { name: 'moda.outbox.bytes', label: 'Slow readers', title: 'Bytes queued for clients that do not read fast enough', alarming: true },
];

/** The rows of figures under the charts; returns what takes their points. */
function startTallies(host: HTMLElement): (point: MetricPoint) => void {
  const readings = new Map<string, (point: MetricPoint) => void>();
  for (const { name, label, title, alarming } of TALLIES) {
    const reading = make('dd', {}, NOTHING);
    host.append(make('div', { title }, make('dt', {}, label), reading));
    readings.set(name, ({ unit, series }) => {
      const value = series.reduce((sum, entry) => sum + entry.value, 0);
      say(reading, quantity(value, unit));
      mark(reading, 'alarm', String(alarming && value > 0));
    });
  }
  return (point) => {
    readings.get(point.name)?.(point);
  };
}

export function startTraffic(): Elsewhere {
  const connections = new MetricFigure({
    title: 'Connections',
    ratio: false,
    fromZero: true,
    whole: true,
    tones: ['teal'],
    height: 64,
  });
  const messages = new MetricFigure({
    title: 'Messages',
    ratio: false,
    fromZero: true,
    whole: false,
    tones: ['blue', 'amber'],
    labels: { in: 'in', out: 'out' },
    height: 64,
  });
  const empty = (text: string): HTMLElement => make('p', { class: 'empty-line' }, text);
  const hosts = [byId('traffic-connections'), byId('traffic-messages')] as const;
  hosts[0].append(empty('Waiting for moda.connections'));
  hosts[1].append(empty('Waiting for moda.messages.*'));

  const halves = new Map<'in' | 'out', { at: number; value: number }>();
  let shown: readonly [boolean, boolean] = [false, false];

  const reveal = (index: 0 | 1, figure: MetricFigure): void => {
    if (shown[index]) return;
    shown = index === 0 ? [true, shown[1]] : [shown[0], true];
    hosts[index].replaceChildren(figure.element);
  };

  const takeMessages = (point: MetricPoint, gapSeconds: number): void => {
    const value = point.series.reduce((sum, entry) => sum + entry.value, 0);
    halves.set(point.name === IN ? 'in' : 'out', { at: point.at, value });
    const into = halves.get('in');
    const out = halves.get('out');
    // The two come as separate events of one sample; the row is complete with the later one.
    if (into === undefined || out === undefined || Math.abs(into.at - out.at) > 0.5) return;
    messages.add(
      Math.max(into.at, out.at),
      point.unit,
      new Map([
        ['in', into.value],
        ['out', out.value],
      ]),
      gapSeconds,
    );
    reveal(1, messages);
  };

  return {
    names: new Set([CONNECTIONS, IN, OUT]),
    note: startTallies(byId('tallies')),
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
