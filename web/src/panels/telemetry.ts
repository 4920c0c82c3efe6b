// `telemetry:metrics`: a card for every metric the gateway sends, known to this page or not. Cards
// are placed by the catalogue's order when they first appear and never move afterwards.

import { compareMetrics, GROUPS, isAlias, present } from '../catalogue';
import { byId, make, mark, onScheme, say, segments } from '../dom';
import type { Link, TopicState } from '../link';
import { eachSecond, paint } from '../paint';
import { LIMITS, readMetric, type MetricPoint } from '../protocol';
import { MetricFigure, TONES } from './metric';

const RANGES = [
  { label: '2 min', value: 120, title: 'Last 2 minutes' },
  { label: '10 min', value: 600, title: 'Last 10 minutes' },
  { label: '1 h', value: 3600, title: 'Last hour' },
] as const;

const DEFAULT_INTERVAL_MS = 2000;
const GROUP_TONE = { gateway: 'blue', host: 'teal', process: 'violet', other: 'lime' } as const;

/** What else on the page lives of this stream; the metrics in `names` are drawn there and get no card. */
export interface Elsewhere {
  readonly names: ReadonlySet<string>;
  /** Called with every point. */
  note(point: MetricPoint): void;
  take(point: MetricPoint, gapSeconds: number): void;
  draw(range: number): void;
}

/** `interval_ms` of the join reply, in the range the gateway accepts. */
export function readInterval(response: unknown): number {
  const value = (response as { interval_ms?: unknown } | null)?.interval_ms;
  return typeof value === 'number' && value >= 250 && value <= 60_000 ? value : DEFAULT_INTERVAL_MS;
}

export function startTelemetry(link: Link, elsewhere: Elsewhere): void {
  const host = byId('cards');
  const hint = byId('telemetry-hint');
  const figures = new Map<string, MetricFigure>();
  const seenElsewhere = new Set<string>();
  let topic: TopicState = { phase: 'joining' };
  let intervalMs = DEFAULT_INTERVAL_MS;
  let joinedAt = 0;
  let range = 600;

  host.append(...Array.from({ length: 8 }, () => make('div', { class: 'metric ghost', 'aria-hidden': 'true' })));

  const gapSeconds = (): number => Math.max(3, (intervalMs / 1000) * 3);

  const drawAll = (): void => {
    for (const figure of figures.values()) figure.draw(range);
    elsewhere.draw(range);
  };

  const place = (name: string): MetricFigure | null => {
    if (figures.size >= LIMITS.metrics) return null;
    const { title, group, ratio, fromZero, whole } = present(name);
    const tones = [GROUP_TONE[group], ...TONES.filter((tone) => tone !== GROUP_TONE[group])];
    const figure = new MetricFigure({ title, ratio, fromZero, whole, tones, name, height: 104 });
    mark(figure.element, 'metric', name);
    mark(figure.element, 'group', GROUPS.includes(group) ? group : 'other');
    if (figures.size === 0) host.replaceChildren();
    const after = [...figures.keys()].filter((other) => compareMetrics(other, name) > 0).sort(compareMetrics)[0];
    host.insertBefore(figure.element, after === undefined ? null : (figures.get(after)?.element ?? null));
    figures.set(name, figure);
    return figure;
  };

  const status = (): void => {
    const now = Date.now();
    const silent = Math.max(10_000, intervalMs * 4);
    let newest = 0;
    for (const figure of figures.values()) {
      newest = Math.max(newest, figure.receivedAt);
      mark(figure.element, 'stale', String(now - figure.receivedAt > silent));
    }
    host.setAttribute('aria-busy', String(figures.size === 0));
    say(hint, describe(topic, figures.size + seenElsewhere.size, intervalMs, link.state.phase === 'open', now - Math.max(newest, joinedAt) > silent));
    mark(hint, 'phase', topic.phase);
  };

  link.join('telemetry:metrics', {}, {
    events: {
      metric: (payload) => {
        const point = readMetric(payload);
        if (point === null || isAlias(point.name)) return;
        elsewhere.note(point);
        if (elsewhere.names.has(point.name)) {
          seenElsewhere.add(point.name);
          elsewhere.take(point, gapSeconds());
        } else {
          (figures.get(point.name) ?? place(point.name))?.addPoint(point, gapSeconds());
        }
        paint(drawAll);
      },
    },
    joined: (response) => {
      intervalMs = readInterval(response);
      joinedAt = Date.now();
    },
    state: (next) => {
      topic = next;
      paint(status);
    },
  });
  link.watch(() => {
    paint(status);
  });
  eachSecond(status);
  onScheme(() => {
    paint(drawAll);
  });
  segments(byId('ranges'), RANGES, range, (value) => {
    range = value;
    paint(drawAll);
  });
}

/** The line under the title: what is shown, or why nothing is. */
export function describe(topic: TopicState, metrics: number, intervalMs: number, online: boolean, silent: boolean): string {
  if (!online) return metrics === 0 ? 'Waiting for the connection' : 'Paused: no connection';
  switch (topic.phase) {
    case 'refused':
      return `Refused by the gateway: ${topic.reason}. Trying again`;
    case 'closed':
      return 'Closed by the gateway';
    case 'errored':
      return 'Interrupted. Joining again';
    case 'joining':
      return 'Joining telemetry:metrics';
    case 'joined': {
      if (silent) return 'Joined, but no metric arrives';
      if (metrics === 0) return 'Joined. The first sample is on its way';
      const every = intervalMs % 1000 === 0 ? `${intervalMs / 1000} s` : `${intervalMs} ms`;
      return `${metrics} ${metrics === 1 ? 'metric' : 'metrics'}, one sample every ${every}`;
    }
  }
}
