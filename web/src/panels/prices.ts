// `chart:prices`: the symbols as tabs, the chosen one as a quote and a chart, and above all the badge
// that says whether these are prices at all. The badge follows the join reply and the `upstream`
// events; when the connection is gone it says so, because then nobody knows.

import { arrowTarget, byId, make, mark, say, segments } from '../dom';
import { change, compact, duration, NOTHING, price } from '../format';
import type { Link, TopicState } from '../link';
import { INTERVALS, Market, splitSymbol, type Interval, type Quote } from '../market';
import { eachSecond, paint } from '../paint';
import { readTick, readUpstream } from '../protocol';
import { explain, TickRate, UpstreamLog } from '../upstream';
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

/** The words in the empty chart: why there is no price yet. */
export function emptyText(topic: TopicState, online: boolean): string {
  if (!online) return 'Waiting for the connection';
  switch (topic.phase) {
    case 'refused':
      return `The gateway refused chart:prices: ${topic.reason}. Trying again`;
    case 'closed':
      return 'The gateway closed chart:prices';
    case 'errored':
      return 'Interrupted. Joining again';
    default:
      return 'Waiting for the first price';
  }
}

export function startPrices(link: Link): PriceActivity {
  const market = new Market();
  const log = new UpstreamLog();
  const rate = new TickRate();
  const tabs = new Map<string, Tab>();
  const tablist = byId('symbols');
  let topic: TopicState = { phase: 'joining' };
  let chosen: string | null = null;
  let interval: Interval = 1;
  let lastTickAt = 0;

  const chart = new PriceChart(byId('price-chart'), byId('readout'), interval);
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
    byId('price-empty').hidden = shown !== null;
    say(byId('price-empty-text'), emptyText(topic, link.state.phase === 'open'));
    if (shown === null) return;
    const { tick, decimals, direction } = shown;
    const [base, counter] = splitSymbol(tick.symbol);
    const last = byId('last-price');
    if (last.textContent !== price(tick.priceText, decimals)) {
      say(last, price(tick.priceText, decimals));
      mark(last, 'direction', String(direction));
      flash(last, direction);
    }
    drawChange(byId('change'), shown);
    say(byId('high'), price(tick.highText, decimals));
    say(byId('low'), price(tick.lowText, decimals));
    say(byId('volume'), `${compact(tick.volume)} ${base}`);
    say(byId('turnover'), `${compact(tick.quoteVolume)} ${counter}`.trim());
    document.title = `${price(tick.priceText, decimals)} ${base}${counter === '' ? '' : `/${counter}`} · moda`;
    chart.draw();
  };

  const drawTabs = (): void => {
    for (const symbol of market.symbols) {
      const held = market.quote(symbol);
      if (held === undefined) continue;
      const tab = tabs.get(symbol) ?? addTab(symbol);
      say(tab.price, price(held.tick.priceText, held.decimals));
      drawChange(tab.change, held);
    }
    const [first] = market.symbols;
    if (chosen === null && first !== undefined) choose(first, false);
  };

  const drawState = (): void => {
    const online = link.state.phase === 'open';
    const state = log.current?.state ?? 'waiting';
    const badge = byId('price-badge');
    say(badge, online ? state : 'offline');
    mark(badge, 'state', online ? state : 'offline');
    say(byId('price-note'), explain(state, log.current?.source ?? '', online));
    mark(byId('prices'), 'state', online ? state : 'offline');
    chart.watermark(state === 'simulated' || state === 'stale' ? state.toUpperCase() : '');
    say(byId('price-empty-text'), emptyText(topic, online));
  };

  const describeChart = (): void => {
    const shown = quote();
    if (shown === null) return;
    const candles = shown.candles[interval];
    const span = duration(Date.now() / 1000 - candles.at(0).time);
    const label = `${INTERVAL_LABELS[interval][1]}: ${splitSymbol(shown.symbol).filter(Boolean).join('/')} over the last ${span}`;
    byId('price-chart').setAttribute('aria-label', label);
  };

  const enter = (payload: unknown): void => {
    const report = readUpstream(payload);
    if (report === null) return;
    if (log.enter(report, Date.now()) === 'market') {
      market.clear();
      for (const { button } of tabs.values()) button.remove();
      tabs.clear();
      chosen = null;
      chart.show(null, interval);
    }
    paint(drawState);
    paint(draw);
  };

  link.join('chart:prices', {}, {
    events: {
      price_tick: (payload) => {
        const tick = readTick(payload);
        if (tick === null) return;
        lastTickAt = Date.now();
        rate.add(lastTickAt);
        if (market.apply(tick) !== null) paint(draw);
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
    if (seconds % 15 === 3) describeChart();
  });
  return { log, rate, lastTickAt: () => lastTickAt, symbols: () => market.symbols.length };
}

function drawChange(element: HTMLElement, quote: Quote): void {
  say(element, Number.isNaN(quote.change) ? NOTHING : change(quote.change));
  mark(element, 'direction', String(Math.sign(Math.round(quote.change * 1e4)) || 0));
}

/** A short tint of the price in the direction it moved, by restarting a CSS animation. */
function flash(element: HTMLElement, direction: -1 | 0 | 1): void {
  if (direction === 0) return;
  for (const running of element.getAnimations()) running.cancel();
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) return;
  const tint = getComputedStyle(document.documentElement).getPropertyValue(direction > 0 ? '--up' : '--down');
  element.animate([{ color: tint }, { color: tint, offset: 0.3 }, {}], { duration: 700, easing: 'ease-out' });
}
