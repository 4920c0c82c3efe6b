// What a metric is called on the page, and where it stands. The gateway decides which metrics exist;
// a name missing here still gets a chart, after the known ones, under a title made from its name.

/** How one metric is presented. */
export interface Presentation {
  readonly title: string;
  readonly group: Group;
  /** A fraction of 1 that reads better as a percentage. */
  readonly ratio: boolean;
  /** The axis starts at zero: true for amounts, false for what hovers around a level. */
  readonly fromZero: boolean;
  /** Counts whole things: half a connection is no place for a line of the grid. */
  readonly whole: boolean;
}

export const GROUPS = ['gateway', 'host', 'process', 'other'] as const;
export type Group = (typeof GROUPS)[number];

const TITLES: Readonly<Record<string, string>> = {
  'http.server.duration': 'HTTP latency',
  'moda.fanout.duration': 'Fan-out time',
  'moda.loop.lag': 'Event-loop lag',
  'moda.joins': 'Channel joins',
  'moda.drops': 'Dropped messages',
  'moda.outbox.bytes': 'Queued for slow readers',
  'moda.tasks': 'Tasks',
  'moda.connections': 'Connections',
  'moda.messages.in': 'Messages in',
  'moda.messages.out': 'Messages out',
  'system.cpu.utilization': 'CPU utilisation',
  'system.cpu.load_average.1m': 'Load average, 1 min',
  'system.memory.usage': 'Memory in use',
  'process.cpu.utilization': 'Gateway CPU',
  'process.memory.usage': 'Gateway memory',
};

const WORDS: Readonly<Record<string, string>> = {
  cpu: 'CPU',
  http: 'HTTP',
  gc: 'GC',
  io: 'I/O',
  ws: 'WebSocket',
  websocket: 'WebSocket',
  sse: 'SSE',
};

function groupOf(name: string): Group {
  if (/^(moda|http)\./.test(name)) return 'gateway';
  if (name.startsWith('system.')) return 'host';
  return name.startsWith('process.') ? 'process' : 'other';
}

/** The gateway repeats some metrics under the names a BEAM server gives them; a page shows each once. */
export function isAlias(name: string): boolean {
  return name.startsWith('process.runtime.beam.');
}

/** "process.memory.usage" without an entry above becomes "Process memory usage". */
export function titleOf(name: string): string {
  const known = TITLES[name];
  if (known !== undefined) return known;
  const words = name.split(/[._\s]+/).filter((word) => word !== '');
  const title = words.map((word) => WORDS[word.toLowerCase()] ?? word).join(' ');
  return title === '' ? name : title.charAt(0).toUpperCase() + title.slice(1);
}

export function present(name: string): Presentation {
  return {
    title: titleOf(name),
    group: groupOf(name),
    ratio: /(utilization|utilisation|ratio)$/.test(name),
    whole: /\.(connections|tasks)$/.test(name),
    fromZero: !/memory\.(usage|total)$/.test(name),
  };
}

const ORDER = Object.keys(TITLES);

/** Sorts metric names as the page shows them: by group, known before unknown, then by name. */
export function compareMetrics(left: string, right: string): number {
  const group = GROUPS.indexOf(groupOf(left)) - GROUPS.indexOf(groupOf(right));
  if (group !== 0) return group;
  const place = (name: string): number => {
    const index = ORDER.indexOf(name);
    return index === -1 ? ORDER.length : index;
  };
  return place(left) - place(right) || (left < right ? -1 : left > right ? 1 : 0);
}
