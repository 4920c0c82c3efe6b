// The price source in detail: its state, how fresh it is, what the gateway's health document says of
// it, and the changes it went through while this page watched.

import { byId, make, mark, say } from '../dom';
import type { PriceFeed } from '../feed';
import { clock, duration, NOTHING, withScale } from '../format';
import type { HealthWatch } from '../health';
import type { Service } from '../protocol';
import { eachSecond } from '../paint';
import { word, type Standing } from '../upstream';

/** What the prices panel knows and this one shows. */
export interface PriceActivity {
  readonly feed: PriceFeed;
  readonly standing: () => Standing;
}

/** The service that feeds the prices, by what gateways call it. */
export function priceService(services: readonly Service[]): Service | null {
  return services.find(({ name }) => /price|upstream|binance|chart/i.test(name)) ?? null;
}

/** What the health document says of the price source and this panel shows from its own knowledge. */
const TOLD_ALREADY: ReadonlySet<string> = new Set(['state', 'since', 'symbols', 'last tick age']);

/** How long ago `at` was, in words. */
export function ago(at: number | null, now: number): string {
  if (at === null) return NOTHING;
  return now - at < 1500 ? 'just now' : `${duration((now - at) / 1000)} ago`;
}

const LABELS: Readonly<Record<string, string>> = { url: 'Address', silent: 'Silent symbols' };

export function startUpstream({ feed, standing }: PriceActivity, health: HealthWatch): void {
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
    const era = feed.log.current;
    const shown = word(standing());
    say(tag, shown);
    mark(tag, 'state', shown);
    const known = health.state;
    const service = known.kind === 'known' ? priceService(known.health.services) : null;
    drawFacts([
      ['For', era === null ? NOTHING : duration(Math.max(0, now - era.since) / 1000)],
      ['Last price', ago(feed.lastTickAt, now)],
      ['Ticks', withScale(feed.rate.perSecond(now), { factor: 1, suffix: '/s' })],
      ['Symbols', feed.market.symbols.length === 0 ? NOTHING : String(feed.market.symbols.length)],
      ...(service?.detail ?? [])
        .filter(([key, value]) => key !== '' && !TOLD_ALREADY.has(key) && !(key === 'replacing' && value === 'no'))
        .slice(0, 5)
        .map(([key, value]) => [LABELS[key] ?? key.charAt(0).toUpperCase() + key.slice(1), value] as const),
    ]);
    if (feed.log.eras !== drawnEras) {
      drawnEras = feed.log.eras;
      history.replaceChildren(
        ...feed.log.eras.map(({ state, since, reason }) => {
          const name = make('span', reason === '' ? { class: 'tag' } : { class: 'tag', title: reason }, state);
          mark(name, 'state', state);
          return make('li', {}, make('time', { datetime: new Date(since).toISOString() }, clock(since / 1000)), name);
        }),
      );
    }
  });
}
