// The price chart: a line of seconds, or candles. The library keeps every point it was ever given, so
// it is handed a fresh copy of the bounded history whenever it has taken in half as much again.
//
// Its attribution logo is off because it brings a <style> element, which `default-src 'self'`
// forbids; the footer carries the notice and the link its licence asks for.

import {
  AreaSeries,
  CandlestickSeries,
  ColorType,
  createChart,
  createTextWatermark,
  CrosshairMode,
  LineStyle,
  type AreaSeriesPartialOptions,
  type CandlestickSeriesPartialOptions,
  type IChartApi,
  type ISeriesApi,
  type ITextWatermarkPluginApi,
  type MouseEventParams,
  type Time,
  type UTCTimestamp,
} from 'lightweight-charts';
import { onScheme, token } from '../dom';
import { clock, price } from '../format';
import type { Candle, Candles, Interval, Quote } from '../market';

/** Below these many points the history is stretched over the width instead of hugging the right. */
const STRETCH_LINE = 300;
const STRETCH_CANDLES = 90;

/** A candle is never wider than this many pixels; a line may stretch as far as it must. */
const WIDEST_CANDLE = 18;

/** Half the width of "00:00:00" on the time axis, in pixels. */
const HALF_LABEL = 26;

type AreaColours = Pick<AreaSeriesPartialOptions, 'lineColor' | 'topColor' | 'bottomColor'>;
type CandleColours = Pick<CandlestickSeriesPartialOptions, 'upColor' | 'downColor' | 'wickUpColor' | 'wickDownColor'>;
type Series = ISeriesApi<'Area'> | ISeriesApi<'Candlestick'>;

export class PriceChart {
  readonly #host: HTMLElement;
  readonly #chart: IChartApi;
  readonly #readout: HTMLElement;
  readonly #watermark: ITextWatermarkPluginApi<Time>;
  #series: Series;
  #quote: Quote | null = null;
  #interval: Interval;
  #decimals = -1;
  #drawnBegun = 0;
  #given = 0;
  #touched = false;
  #words = '';

  constructor(host: HTMLElement, readout: HTMLElement, interval: Interval) {
    this.#host = host;
    this.#readout = readout;
    this.#interval = interval;
    this.#chart = createChart(host, {
      autoSize: true,
      layout: {
        background: { type: ColorType.Solid, color: 'transparent' },
        fontFamily: token('font'),
        fontSize: 11,
        attributionLogo: false,
      },
      crosshair: { mode: CrosshairMode.Magnet },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.16, bottom: 0.1 } },
      timeScale: {
        borderVisible: false,
        timeVisible: true,
        allowBoldLabels: false,
        secondsVisible: true,
        rightOffsetPixels: 14,
        tickMarkFormatter: (time: Time) => clock(Number(time), this.#interval < 60),
      },
      localization: { timeFormatter: (time: Time) => clock(Number(time)) },
      // The wheel scrolls the page and a finger pans it; dragging and pinching move the chart.
      handleScroll: { mouseWheel: false, vertTouchDrag: false },
      handleScale: { mouseWheel: false },
    });
    this.#series = this.#makeSeries();
    this.#paint();
    const [pane] = this.#chart.panes();
    if (pane === undefined) throw new Error('a chart has at least one pane');
    this.#watermark = createTextWatermark(pane, { horzAlign: 'center', vertAlign: 'center', lines: [] });
    this.#chart.subscribeCrosshairMove((event) => {
      this.#read(event);
    });
    onScheme(() => {
      this.#paint();
      this.#label();
    });
    for (const gesture of ['pointerdown', 'touchstart'] as const) {
      host.addEventListener(gesture, () => (this.#touched = true), { passive: true });
    }
  }

  /** Shows `quote` in candles of `interval`; a change of either starts from the stored history. */
  show(quote: Quote | null, interval: Interval): void {
    if (interval !== this.#interval) {
      this.#interval = interval;
      this.#chart.removeSeries(this.#series);
      this.#series = this.#makeSeries();
      this.#decimals = -1;
    }
    this.#quote = quote;
    this.#touched = false;
    // A scale that somebody dragged fits the prices it was dragged for, not the next ones.
    this.#chart.priceScale('right').applyOptions({ autoScale: true });
    this.#chart.timeScale().resetTimeScale();
    this.#reset();
  }

  /** Large faint words behind the chart; '' for none. */
  watermark(words: string): void {
    if (words === this.#words) return;
    this.#words = words;
    this.#label();
  }

  /** Draws what arrived since the last call. */
  draw(): void {
    const candles = this.#candles();
    if (candles === null || this.#quote === null) return;
    this.#precision(this.#quote.decimals);
    const fresh = candles.begun - this.#drawnBegun;
    if (this.#given + fresh > candles.capacity * 1.5 || fresh >= candles.length) {
      this.#reset();
      return;
    }
    // The candle drawn last may have changed since, so it is given again before the new ones.
    for (const candle of candles.newest(fresh + 1)) this.#update(candle);
    this.#given += fresh;
    this.#drawnBegun = candles.begun;
    this.#stretch(candles.length);
  }

  #candles(): Candles | null {
    return this.#quote?.candles[this.#interval] ?? null;
  }

  #reset(): void {
    const candles = this.#candles();
    const all = candles?.newest(candles.capacity) ?? [];
    if (this.#quote !== null) this.#precision(this.#quote.decimals);
    if (this.#series.seriesType() === 'Area') {
      (this.#series as ISeriesApi<'Area'>).setData(all.map(({ time, close }) => ({ time: at(time), value: close })));
    } else {
      (this.#series as ISeriesApi<'Candlestick'>).setData(all.map((candle) => ({ ...candle, time: at(candle.time) })));
    }
    this.#given = all.length;
    this.#drawnBegun = candles?.begun ?? 0;
    this.#stretch(all.length);
    this.#readout.textContent = '';
  }

  #update(candle: Candle): void {
    const time = at(candle.time);
    if (this.#series.seriesType() === 'Area') (this.#series as ISeriesApi<'Area'>).update({ time, value: candle.close });
    else (this.#series as ISeriesApi<'Candlestick'>).update({ ...candle, time });
  }

  /** A short history fills the width, less the room that half a label takes at either end. */
  #stretch(count: number): void {
    const until = this.#interval === 1 ? STRETCH_LINE : STRETCH_CANDLES;
    if (this.#touched || count >= until) return;
    const scale = this.#chart.timeScale();
    const room = scale.width() - 2 * HALF_LABEL;
    if (count < 2 || room <= 0) {
      scale.fitContent();
      return;
    }
    const margin = ((count - 1) / room) * HALF_LABEL;
    scale.setVisibleLogicalRange({ from: -margin, to: count - 1 + margin });
  }

  #precision(decimals: number): void {
    if (decimals === this.#decimals) return;
    this.#decimals = decimals;
    this.#series.applyOptions({
      priceFormat: {
        type: 'custom',
        minMove: 10 ** -decimals,
        formatter: (value: number) => price(value.toFixed(decimals), decimals),
      },
    });
  }

  #makeSeries(): Series {
    this.#chart.timeScale().applyOptions({ maxBarSpacing: this.#interval === 1 ? 0 : WIDEST_CANDLE });
    if (this.#interval === 1) {
      return this.#chart.addSeries(AreaSeries, { lineWidth: 2, priceLineStyle: LineStyle.Dotted, crosshairMarkerRadius: 4, ...this.#colours() });
    }
    return this.#chart.addSeries(CandlestickSeries, { borderVisible: false, priceLineStyle: LineStyle.Dotted, ...this.#colours() });
  }

  #colours(): AreaColours | CandleColours {
    const [accent, up, down] = [token('blue'), token('up'), token('down')];
    return this.#interval === 1
      ? { lineColor: accent, topColor: `${accent}40`, bottomColor: `${accent}00` }
      : { upColor: up, downColor: down, wickUpColor: up, wickDownColor: down };
  }

  /** Everything in the colours of the style sheet, which may have turned from dark to light. */
  #paint(): void {
    const crosshair = { color: token('line-strong'), labelBackgroundColor: token('raised'), style: LineStyle.Dashed };
    this.#chart.applyOptions({
      layout: { textColor: token('muted') },
      grid: { vertLines: { color: token('grid') }, horzLines: { color: token('grid') } },
      crosshair: { vertLine: crosshair, horzLine: crosshair },
    });
    this.#series.applyOptions(this.#colours());
  }

  #label(): void {
    const fontSize = this.#host.clientWidth < 560 ? 30 : 60;
    const line = { text: this.#words, color: token('watermark'), fontSize, fontFamily: token('font'), fontStyle: '600' };
    this.#watermark.applyOptions({ lines: this.#words === '' ? [] : [line] });
  }

  #read(event: MouseEventParams): void {
    const point = event.seriesData.get(this.#series) as Partial<Candle> & { value?: number } | undefined;
    if (point === undefined || event.time === undefined) {
      this.#readout.textContent = '';
      return;
    }
    const shown = (value: number | undefined): string =>
      value === undefined ? '' : price(value.toFixed(Math.max(0, this.#decimals)), Math.max(0, this.#decimals));
    const time = clock(Number(event.time));
    this.#readout.textContent =
      point.value === undefined
        ? `${time}   O ${shown(point.open)}   H ${shown(point.high)}   L ${shown(point.low)}   C ${shown(point.close)}`
        : `${time}   ${shown(point.value)}`;
  }
}

function at(seconds: number): UTCTimestamp {
  return seconds as UTCTimestamp;
}
