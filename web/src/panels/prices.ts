// `chart:prices`: the symbols as tabs, the chosen one as a quote and a chart, and above all the badge
// that says whether these are prices at all. The badge follows the join reply and the `upstream`
// events; when the connection is gone it says so, because then nobody knows.

import { arrowTarget, byId, make, mark, say, segments, token } from '../dom';
import { PriceFeed } from '../feed';
import { change, compact, duration, NOTHING, price } from '../format';
import type { Link, TopicState } from '../link';
import { INTERVALS, splitSymbol, type Interval, type Quote } from '../market';
import { eachSecond, paint } from '../paint';
import { explain, watermark, word, type Standing } from '../upstream';
import { PriceChart } from './priceChart';
import type { PriceActivity } from './upstream';

const INTERVAL_LABELS: Readonly<Record<Interval, readonly [string, string]>> = {
  1: ['Line', 'Line, one point per second'],
  5: ['5 s', 'Candles of 5 seconds'],
  15: ['15 s', 'Candles of 15 seconds'],
  60: ['1 min', 'Candles of 1 minute'],
};

interface Tab {
  readonly button: HTMLButtonElement;
  readonly price: HTMLElement;
  readonly change: HTMLElement;
}

/** What the panel and the tab's title write of the chosen symbol. */
export interface Headline {
  readonly last: string;
  readonly change: string;
  readonly direction: string;
  readonly high: string;
  readonly low: string;
  readonly volume: string;
  readonly turnover: string;
  readonly title: string;
}

const NO_HEADLINE: Headline = {
  last: NOTHING,
  change: NOTHING,
  direction: '0',
  high: NOTHING,
  low: NOTHING,
  volume: NOTHING,
  turnover: NOTHING,
  title: 'moda console',
};

/** Of no quote it says that there is none: nothing of an earlier market may stay on the page. */
export function headline(quote: Quote | null, state: string): Headline {
  if (quote === null) return NO_HEADLINE;
  const { tick, decimals } = quote;
  const [base, counter] = splitSymbol(tick.symbol);
  const last = price(tick.priceText, decimals);
  // A title is read without the page: a price that is not of this moment says so there too.
  const aside = state === 'live' ? '' : ` (${state})`;
  return {
    last,
    change: Number.isNaN(quote.change) ? NOTHING : change(quote.change),
    direction: String(Math.sign(Math.round(quote.change * 1e4)) || 0),
    high: price(tick.highText, decimals),
    low: price(tick.lowText, decimals),
    volume: `${compact(tick.volume)} ${base}`,
    turnover: `${compact(tick.quoteVolume)} ${counter}`.trim(),
    title: `${last} ${base}${counter === '' ? '' : `/${counter}`}${aside} · moda`,
  };
}

/** The words in the empty chart: why there is no price yet. */
export function emptyText(topic: TopicState, { online, state }: Standing): string {
  if (!online) return 'Waiting for the connection';
  switch (topic.phase) {
    case 'refused':
      return `The gateway refused chart:prices: ${topic.reason}. Trying again`;
    case 'closed':
      return 'The gateway closed chart:prices';
    case 'errored':
      return 'Interrupted. Joining again';
    default:
      return state === 'stale' ? 'No price has come yet: the source is silent' : 'Waiting for the first price';
  }
}

export function startPrices(link: Link): PriceActivity {
  const feed = new PriceFeed();
  const { market } = feed;
  const tabs = new Map<string, Tab>();
  const tablist = byId('symbols');
  let topic: TopicState = { phase: 'joining' };
  let chosen: string | null = null;
  let interval: Interval = 1;

  const chart = new PriceChart(byId('price-chart'), byId('readout'), interval);
  const stand = (): Standing => feed.standing(Date.now(), link.state.phase === 'open');
  const quote = (): Quote | null => (chosen === null ? null : (market.quote(chosen) ?? null));

  const choose = (symbol: string, focus: boolean): void => {
    chosen = symbol;
    for (const [name, { button }] of tabs) {
      button.setAttribute('aria-selected', String(name === symbol));
      button.tabIndex = name === symbol ? 0 : -1;
      if (name === symbol) {
        byId('quote').setAttribute('aria-labelledby', button.id);
        if (focus) button.focus();
        button.scrollIntoView({ block: 'nearest', inline: 'nearest' });
      }
    }
    chart.show(quote(), interval);
    paint(draw);
  };

  const addTab = (symbol: string): Tab => {
    const [base, counter] = splitSymbol(symbol);
    const name = make('span', { class: 'pair' }, base, make('small', {}, counter === '' ? '' : `/${counter}`));
    const tab: Tab = {
      price: make('span', { class: 'tab-price' }),
      change: make('span', { class: 'change' }),
      button: make('button', { type: 'button', role: 'tab', id: `tab-${symbol}`, 'aria-controls': 'quote' }),
    };
    tab.button.append(name, tab.price, tab.change);
    tab.button.addEventListener('click', () => {
      choose(symbol, false);
    });
    tab.button.addEventListener('keydown', (event) => {
      const names = [...tabs.keys()];
      const next = names[arrowTarget(event.key, names.indexOf(symbol), names.length) ?? -1];
      if (next === undefined) return;
      event.preventDefault();
      choose(next, true);
    });
    tabs.set(symbol, tab);
    tablist.append(tab.button);
    return tab;
  };

  const draw = (): void => {
    drawTabs();
    const shown = quote();
    const standing = stand();
    const texts = headline(shown, word(standing));
    byId('price-empty').hidden = shown !== null;
    mark(byId('quote'), 'empty', String(shown === null));
    say(byId('price-empty-text'), emptyText(topic, standing));
    const last = byId('last-price');
    if (last.textContent !== texts.last) {
      say(last, texts.last);
      flash(last, shown?.direction ?? 0);
    }
    say(byId('change'), texts.change);
    mark(byId('change'), 'direction', texts.direction);
    for (const name of ['high', 'low', 'volume', 'turnover'] as const) say(byId(name), texts[name]);
    if (document.title !== texts.title) document.title = texts.title;
    if (shown === null) say(byId('readout'), '');
    else chart.draw();
  };

  const drawTabs = (): void => {
    for (const symbol of market.symbols) {
      const held = market.quote(symbol);
      if (held === undefined) continue;
      const tab = tabs.get(symbol) ?? addTab(symbol);
      const texts = headline(held, '');
      say(tab.price, texts.last);
      say(tab.change, texts.change);
      mark(tab.change, 'direction', texts.direction);
    }
    const [first] = market.symbols;
    if (chosen === null && first !== undefined) choose(first, false);
  };

  const drawState = (): void => {
    const standing = stand();
    const shown = word(standing);
    const badge = byId('price-badge');
    say(badge, shown);
    mark(badge, 'state', shown);
    say(byId('price-note'), explain(standing));
    mark(byId('prices'), 'state', shown);
    chart.watermark(watermark(standing));
    draw();
  };

  const describeChart = (): void => {
    const shown = quote();
    if (shown === null) {
      byId('price-chart').setAttribute('aria-label', 'Price chart, waiting for the first price');
      return;
    }
    const candles = shown.candles[interval];
    const span = duration(Date.now() / 1000 - candles.at(0).time);
    const label = `${INTERVAL_LABELS[interval][1]}: ${splitSymbol(shown.symbol).filter(Boolean).join('/')} over the last ${span}`;
    byId('price-chart').setAttribute('aria-label', label);
  };

  const enter = (payload: unknown): void => {
    if (feed.report(payload, Date.now()) === 'market') {
      for (const { button } of tabs.values()) button.remove();
      tabs.clear();
      chosen = null;
      byId('quote').setAttribute('aria-labelledby', 'prices-title');
      chart.show(null, interval);
      paint(describeChart);
    }
    paint(drawState);
  };

  link.join('chart:prices', {}, {
    events: {
      price_tick: (payload) => {
        const quiet = word(stand()) === 'silent';
        if (feed.tick(payload, Date.now()) !== null) paint(draw);
        if (quiet) paint(drawState);
      },
      upstream: enter,
    },
    joined: enter,
    state: (next) => {
      topic = next;
      paint(drawState);
    },
  });
  link.watch(() => {
    paint(drawState);
  });

  segments(
    byId('intervals'),
    INTERVALS.map((value) => ({ value, label: INTERVAL_LABELS[value][0], title: INTERVAL_LABELS[value][1] })),
    interval,
    (value) => {
      interval = value;
      chart.show(quote(), interval);
      paint(describeChart);
    },
  );

  let seconds = 0;
  eachSecond(() => {
    seconds += 1;
    drawState();
    if (seconds % 15 === 3) describeChart();
  });
  return { feed, standing: stand };
}

/** A short tint of the price in the direction it moved, by restarting a CSS animation. */
function flash(element: HTMLElement, direction: -1 | 0 | 1): void {
  if (direction === 0) return;
  for (const running of element.getAnimations()) running.cancel();
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) return;
  const tint = token(direction > 0 ? 'up' : 'down');
  element.animate([{ color: tint }, { color: tint, offset: 0.3 }, {}], { duration: 700, easing: 'ease-out' });
}
