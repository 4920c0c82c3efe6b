// What the gateway depends on, as its health document tells it.

import { byId, make, mark, say } from '../dom';
import type { HealthState, HealthWatch } from '../health';
import { paint } from '../paint';
import type { Service } from '../protocol';

/** What repeats the status, a bare Unix time, and the words the panel of the price source has room for. */
const LEFT_OUT: ReadonlySet<string> = new Set(['state', 'since', 'reason']);

/** Detail as one line: the page shows it, the health document explains it. */
export function detailLine(service: Service): string {
  const told = service.detail.filter(([key]) => !LEFT_OUT.has(key));
  return told.map(([key, value]) => (key === '' ? value : `${key} ${value}`)).join(' · ');
}

/** Why the list is empty or old; '' when it is neither. */
export function servicesHint(state: HealthState): string {
  switch (state.kind) {
    case 'loading':
      return 'Asking';
    case 'unreachable':
      return state.last === null ? `Health unknown: ${state.reason}` : `Last known, ${state.reason}`;
    case 'known':
      return state.health.services.length === 0 ? 'None reported' : '';
  }
}

export function startServices(health: HealthWatch): void {
  const list = byId('services');
  const rows = new Map<string, { row: HTMLElement; status: HTMLElement; detail: HTMLElement }>();

  const draw = (): void => {
    const { state } = health;
    say(byId('services-hint'), servicesHint(state));
    mark(list, 'old', String(state.kind === 'unreachable'));
    const known = state.kind === 'known' ? state.health : state.kind === 'unreachable' ? state.last : null;
    const services = known?.services ?? [];
    for (const service of services) {
      let parts = rows.get(service.name);
      if (parts === undefined) {
        const status = make('span', { class: 'tag' });
        const detail = make('span', { class: 'detail' });
        const row = make('li', {}, make('span', { class: 'name' }, service.name), detail, status);
        parts = { row, status, detail };
        rows.set(service.name, parts);
        list.append(row);
      }
      say(parts.status, service.status);
      mark(parts.status, 'state', service.status);
      const line = detailLine(service);
      say(parts.detail, line);
      parts.detail.title = line;
    }
    for (const [name, { row }] of rows) {
      if (services.some((service) => service.name === name)) continue;
      row.remove();
      rows.delete(name);
    }
  };

  health.watch(() => {
    paint(draw);
  });
}
