// The price source in detail: its state, how fresh it is, what the gateway's health document says of
// it, and the changes it went through while this page watched.

import { byId, make, mark, say } from '../dom';
import { clock, duration, NOTHING, withScale } from '../format';
import type { HealthWatch } from '../health';
import type { Service } from '../protocol';
import { eachSecond } from '../paint';
import type { TickRate, UpstreamLog } from '../upstream';

/** What the prices panel knows and this one shows. */
export interface PriceActivity {
  readonly log: UpstreamLog;
  readonly rate: TickRate;
  readonly lastTickAt: () => number;
  readonly symbols: () => number;
}

/** The service that feeds the prices, by what gateways call it. */
export function priceService(services: readonly Service[]): Service | null {
  return services.find(({ name }) => /price|upstream|binance|chart/i.test(name)) ?? null;
}

/** What the health document says of the price source and this panel shows from its own knowledge. */
const TOLD_ALREADY: ReadonlySet<string> = new Set(['state', 'since', 'symbols', 'last tick age']);

export function startUpstream(activity: PriceActivity, health: HealthWatch): void {
  const tag = byId('upstream-state');
  const list = byId('upstream-facts');
  const history = byId('upstream-history');
  const facts = new Map<string, HTMLElement>();
  let drawnEras: unknown = null;

  const drawFacts = (pairs: readonly (readonly [string, string])[]): void => {
    for (const [key, value] of pairs) {
      let element = facts.get(key);
      if (element === undefined) {
        element = make('dd');
        facts.set(key, element);
        list.append(make('div', {}, make('dt', {}, key), element));
      }
      say(element, value);
      element.title = value;
      // A pair that does not fit half a row takes a whole one.
      element.parentElement?.classList.toggle('wide', key.length + value.length > 20);
    }
    for (const [key, element] of facts) {
      if (pairs.some(([kept]) => kept === key)) continue;
      element.parentElement?.remove();
      facts.delete(key);
    }
  };

  eachSecond(() => {
    const now = Date.now();
    const era = activity.log.current;
    const last = activity.lastTickAt();
    say(tag, era?.state ?? 'waiting');
    mark(tag, 'state', era?.state ?? 'waiting');
    const { state } = health;
    const service = state.kind === 'known' ? priceService(state.health.services) : null;
    drawFacts([
      ['For', era === null ? NOTHING : duration(Math.max(0, now - era.since) / 1000)],
      ['Last price', last === 0 ? NOTHING : now - last < 1500 ? 'just now' : `${duration((now - last) / 1000)} ago`],
      ['Ticks', withScale(activity.rate.perSecond(now), { factor: 1, suffix: '/s' })],
      ['Symbols', String(activity.symbols())],
      ...(service?.detail ?? [])
        .filter(([key]) => key !== '' && !TOLD_ALREADY.has(key))
        .slice(0, 5)
        .map(([key, value]) => [key.charAt(0).toUpperCase() + key.slice(1), value] as const),
    ]);
    if (activity.log.eras !== drawnEras) {
      drawnEras = activity.log.eras;
      history.replaceChildren(
        ...activity.log.eras.map(({ state: word, since, reason }) => {
          const name = make('span', reason === '' ? { class: 'tag' } : { class: 'tag', title: reason }, word);
          mark(name, 'state', word);
          return make('li', {}, make('time', { datetime: new Date(since).toISOString() }, clock(since / 1000)), name);
        }),
      );
    }
  });
}
