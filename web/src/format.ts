// Numbers as people read them. Two rules run through this file: a price is never rounded through a
// float (its decimal text is grouped, padded and nothing else), and a value on an axis has the same
// unit on every tick, so the scale is chosen once from the largest value.

const MINUS = '\u2212';
/** A number and its unit stay on one line. */
const GLUE = '\u00a0';

export const NOTHING = '\u2013';

/** "96543.21000000" with 2 decimals is "96,543.21": digits are cut or padded, never recomputed. */
export function price(text: string, decimals: number): string {
  const [whole = '0', fraction = ''] = text.split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return decimals === 0 ? grouped : `${grouped}.${fraction.slice(0, decimals).padEnd(decimals, '0')}`;
}

/** A fraction as a signed percentage: 0.0057 is "+0.57%". */
export function change(fraction: number): string {
  if (!Number.isFinite(fraction)) return NOTHING;
  const shown = Math.abs(fraction * 100).toFixed(2);
  if (shown === '0.00') return '0.00%';
  return `${fraction > 0 ? '+' : MINUS}${shown}%`;
}

const COMPACT = [
  [1e12, 'T'],
  [1e9, 'B'],
  [1e6, 'M'],
  [1e3, 'K'],
] as const;

/** About four significant digits: 12345.678 is "12.35K". */
export function compact(value: number): string {
  if (!Number.isFinite(value)) return NOTHING;
  for (const [scale, suffix] of COMPACT) {
    if (Math.abs(value) >= scale) return `${trim(value / scale, 2)}${suffix}`;
  }
  return trim(value, 2);
}

/** Whole seconds as the two largest units: 93784 is "1 d 2 h". */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return NOTHING;
  const whole = Math.floor(seconds);
  const parts: [number, string][] = [
    [Math.floor(whole / 86400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first === -1) return `0${GLUE}s`;
  return parts
    .slice(first, first + 2)
    .filter(([amount], index) => index === 0 || amount > 0)
    .map(([amount, unit]) => `${amount}${GLUE}${unit}`)
    .join(' ');
}

/** Local wall-clock time, 24 hours, with seconds unless told otherwise. */
export function clock(unixSeconds: number, withSeconds = true): string {
  const date = new Date(unixSeconds * 1000);
  const parts = [date.getHours(), date.getMinutes(), ...(withSeconds ? [date.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, '0')).join(':');
}

/** How a unit string is scaled and written. */
export interface Scale {
  readonly factor: number;
  readonly suffix: string;
}

const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

function bytes(largest: number, per: string): Scale {
  const power = largest < 1 ? 0 : Math.min(BYTES.length - 1, Math.floor(Math.log2(largest) / 10));
  return { factor: 1024 ** -power, suffix: `${BYTES[power] ?? 'B'}${per}` };
}

function seconds(largest: number): Scale {
  if (largest < 1e-3) return { factor: 1e6, suffix: 'µs' };
  if (largest < 1) return { factor: 1e3, suffix: 'ms' };
  return largest < 300 ? { factor: 1, suffix: 's' } : { factor: 1 / 60, suffix: 'min' };
}

function count(largest: number, suffix: string): Scale {
  if (largest >= 1e6) return { factor: 1e-6, suffix: `M${suffix}` };
  if (largest >= 1e4) return { factor: 1e-3, suffix: `K${suffix}` };
  return { factor: 1, suffix };
}

/** Bytes, or bytes per second, in any of the spellings in use. */
export function isBytes(unit: string): boolean {
  return /^(By|B|bytes)(\/s(ec)?)?$/.test(unit);
}

/** A plain count says no unit: "{connection}" and "1" are annotations, not units. */
function isCount(unit: string): boolean {
  return unit === '' || unit === '1' || /^\{[^}]*\}$/.test(unit);
}

/**
 * The scale for values up to `largest` of a unit written in UCUM or in everyday style. `ratio` says
 * that unit "1" means a fraction shown as a percentage (utilisation), not a count.
 */
export function scaleFor(unit: string, largest: number, ratio = false): Scale {
  const size = Math.abs(largest);
  if (ratio && (unit === '1' || unit === '')) return { factor: 100, suffix: '%' };
  const rate = /^(.*?)\/s(ec)?$/.exec(unit);
  if (rate !== null) {
    const base = rate[1] ?? '';
    if (isBytes(base)) return bytes(size, '/s');
    return count(size, isCount(base) ? '/s' : ` ${base}/s`);
  }
  if (isCount(unit)) return count(size, '');
  switch (unit) {
    case '%':
    case 'percent':
      return { factor: 1, suffix: '%' };
    case 'By':
    case 'B':
    case 'bytes':
      return bytes(size, '');
    case 'us':
    case 'µs':
      return scaled(seconds(size / 1e6), 1e-6);
    case 'ms':
      return scaled(seconds(size / 1e3), 1e-3);
    case 's':
      return seconds(size);
    default:
      return count(size, ` ${unit}`);
  }
}

function scaled(scale: Scale, by: number): Scale {
  return { factor: scale.factor * by, suffix: scale.suffix };
}

/** A value under a scale, with as many decimals as its size deserves: "12.3 ms", "0.42", "512 MiB". */
export function withScale(value: number, scale: Scale): string {
  if (!Number.isFinite(value)) return NOTHING;
  const shown = value * scale.factor;
  const size = Math.abs(shown);
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : 2;
  const number = trim(shown, digits);
  if (scale.suffix === '') return number;
  const tight = scale.suffix === '%' || scale.suffix.startsWith('/') || /^[KM](\/|$)/.test(scale.suffix);
  return tight ? `${number}${scale.suffix}` : `${number}${GLUE}${scale.suffix.trim()}`;
}

/** A single value scaled by itself. */
export function quantity(value: number, unit: string, ratio = false): string {
  return withScale(value, scaleFor(unit, value, ratio));
}

/** Labels for the ticks of one axis: one scale, and the same number of decimals on all of them. */
export function axisLabels(ticks: readonly number[], unit: string, ratio = false): string[] {
  const largest = Math.max(0, ...ticks.map(Math.abs));
  const scale = scaleFor(unit, largest, ratio);
  const shown = ticks.map((tick) => tick * scale.factor);
  // As few decimals as tell every tick exactly: 5.875 and 5.75 must not both become 5.8 or 5.9.
  const decimals = [0, 1, 2].find((digits) => shown.every((value) => Math.abs(round(value, digits) - value) < 1e-9)) ?? 3;
  const suffix = /^(%|[KM]?$|[KM]?\/)/.test(scale.suffix) ? scale.suffix.replace(/\/s$/, '') : ` ${scale.suffix.trim().replace(/\/s$/, '')}`;
  return shown.map((value) => `${trim(value, decimals, decimals)}${suffix}`);
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** Grouped, with at most `digits` decimals and at least `keep`, and a real minus sign. */
function trim(value: number, digits: number, keep = 0): string {
  const fixed = Math.abs(value).toFixed(digits);
  const [whole = '0', fraction = ''] = fixed.split('.');
  let end = fraction.length;
  while (end > keep && fraction[end - 1] === '0') end -= 1;
  const sign = value < 0 && Number(fixed) !== 0 ? MINUS : '';
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return `${sign}${grouped}${end === 0 ? '' : `.${fraction.slice(0, end)}`}`;
}
