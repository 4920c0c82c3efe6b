import { describe, expect, it } from 'vitest';
import { Candles, decimalsOf, Market, Quote, splitSymbol } from '../src/market';
import { LIMITS, type Tick } from '../src/protocol';

function tick(symbol: string, at: number, priceText: string, open = 100): Tick {
  return {
    symbol,
    at,
    price: Number(priceText),
    priceText,
    open,
    highText: '120',
    lowText: '80',
    volume: 1,
    quoteVolume: 1,
  };
}

describe('candles', () => {
  it('gather the ticks of one interval: first, highest, lowest and last price', () => {
    const candles = new Candles(5, 10);
    for (const [second, price] of [[10, 4], [11, 9], [12, 2], [14.999, 5]] as const) candles.apply(second * 1000, price);
    expect(candles.newest(10)).toEqual([{ time: 10, open: 4, high: 9, low: 2, close: 5 }]);
  });

  it('begin anew at the next interval, which may lie further on', () => {
    const candles = new Candles(5, 10);
    expect(candles.apply(14_999, 1)).toBe('began');
    expect(candles.apply(15_000, 2)).toBe('began');
    expect(candles.apply(47_000, 3)).toBe('began');
    expect(candles.newest(10).map(({ time }) => time)).toEqual([10, 15, 45]);
  });

  it('ignore a tick of an interval that is over', () => {
    const candles = new Candles(5, 10);
    candles.apply(20_000, 1);
    expect(candles.apply(19_999, 99)).toBe('late');
    expect(candles.newest(10)).toEqual([{ time: 20, open: 1, high: 1, low: 1, close: 1 }]);
  });

  it('keep only the newest and still count all that were begun', () => {
    const candles = new Candles(1, 3);
    for (let second = 0; second < 10; second += 1) candles.apply(second * 1000, second);
    expect(candles.newest(99).map(({ close }) => close)).toEqual([7, 8, 9]);
    expect(candles.newest(2).map(({ close }) => close)).toEqual([8, 9]);
    expect(candles.begun).toBe(10);
  });
});

describe('a quote', () => {
  it('knows the change over 24 hours from the opening price', () => {
    expect(new Quote(tick('A', 1, '101.00', 100)).change).toBeCloseTo(0.01);
    expect(new Quote(tick('A', 1, '101.00', 0)).change).toBeNaN();
  });

  it('remembers which way the price went last, and keeps it while the price stands', () => {
    const quote = new Quote(tick('A', 1, '100'));
    expect(quote.direction).toBe(0);
    quote.apply(tick('A', 2, '99'));
    quote.apply(tick('A', 3, '99'));
    expect(quote.direction).toBe(-1);
    quote.apply(tick('A', 4, '99.5'));
    expect(quote.direction).toBe(1);
  });

  it('refuses an older tick', () => {
    const quote = new Quote(tick('A', 2000, '100'));
    expect(quote.apply(tick('A', 1000, '1'))).toBe(false);
    expect(quote.tick.priceText).toBe('100');
  });

  it('never shows fewer decimals than it has shown', () => {
    const quote = new Quote(tick('A', 1, '1.2345'));
    quote.apply(tick('A', 2, '1.2000'));
    expect(quote.decimals).toBe(4);
  });

  it('fills the candles of every interval at once', () => {
    const quote = new Quote(tick('A', 60_000, '1'));
    quote.apply(tick('A', 66_000, '2'));
    expect([1, 5, 15, 60].map((interval) => quote.candles[interval as 1].length)).toEqual([2, 2, 1, 1]);
  });
});

describe('the market', () => {
  it('keeps symbols apart, in order of appearance', () => {
    const market = new Market();
    market.apply(tick('BTCUSDT', 1, '10'));
    market.apply(tick('ETHUSDT', 1, '20'));
    market.apply(tick('BTCUSDT', 2, '11'));
    expect(market.symbols).toEqual(['BTCUSDT', 'ETHUSDT']);
    expect(market.quote('BTCUSDT')?.tick.price).toBe(11);
  });

  it('does not grow beyond its bound, whatever is sent', () => {
    const market = new Market();
    for (let index = 0; index < 500; index += 1) market.apply(tick(`S${index}`, 1, '1'));
    expect(market.symbols.length).toBe(LIMITS.symbols);
    expect(market.apply(tick('ONEMORE', 1, '1'))).toBeNull();
  });

  it('forgets everything when the source changes', () => {
    const market = new Market();
    market.apply(tick('BTCUSDT', 1, '10'));
    market.clear();
    expect(market.symbols).toEqual([]);
  });
});

describe('a symbol', () => {
  it.each([
    ['BTCUSDT', 'BTC', 'USDT'],
    ['ethbtc', 'ETH', 'BTC'],
    ['BTCFDUSD', 'BTC', 'FDUSD'],
    ['XYZ', 'XYZ', ''],
    ['USDT', 'USDT', ''],
  ])('%s is %s priced in "%s"', (symbol, base, quote) => {
    expect(splitSymbol(symbol)).toEqual([base, quote]);
  });

  it('shows the decimals that say something', () => {
    expect(['96543.21000000', '0.00001234', '5', '1.123456789'].map(decimalsOf)).toEqual([2, 8, 2, 8]);
  });
});
