import { describe, expect, it } from 'vitest';
import { axisLabels, change, clock, compact, duration, NOTHING, price, quantity, scaleFor, withScale } from '../src/format';

/** The page writes no-break spaces and real minus signs; tests are easier to read without. */
const plain = (text: string): string => text.replaceAll('\u00a0', ' ').replaceAll('\u2212', '-');

describe('a price', () => {
  it('keeps the digits it was sent with, beyond what a float can hold', () => {
    expect(price('12345678901234567.12345678', 8)).toBe('12,345,678,901,234,567.12345678');
  });

  it('is cut or padded to the decimals of its symbol, never rounded', () => {
    expect(price('96543.21999999', 2)).toBe('96,543.21');
    expect(price('96543', 2)).toBe('96,543.00');
    expect(price('0.5', 0)).toBe('0');
  });

  it('groups whole digits only', () => {
    expect(price('0.12345678', 8)).toBe('0.12345678');
    expect(price('1000', 2)).toBe('1,000.00');
  });
});

describe('a change', () => {
  it('always carries its sign, except when there is none', () => {
    expect(plain(change(0.0057))).toBe('+0.57%');
    expect(plain(change(-0.1234))).toBe('-12.34%');
    expect(plain(change(0.000001))).toBe('0.00%');
    expect(plain(change(-0.000001))).toBe('0.00%');
  });

  it('is a dash when it cannot be known', () => {
    expect(change(Number.NaN)).toBe(NOTHING);
  });
});

describe('amounts', () => {
  it('are shortened to about four digits', () => {
    expect(compact(12345.678)).toBe('12.35K');
    expect(compact(1190123456.78)).toBe('1.19B');
    expect(compact(7)).toBe('7');
  });

  it('of time show their two largest units and leave out an empty second one', () => {
    expect(plain(duration(93784))).toBe('1 d 2 h');
    expect(plain(duration(3600))).toBe('1 h');
    expect(plain(duration(61.9))).toBe('1 min 1 s');
    expect(plain(duration(0))).toBe('0 s');
    expect(duration(-1)).toBe(NOTHING);
  });

  it('of a day are told in local time', () => {
    const noon = new Date(2026, 0, 2, 12, 3, 4).getTime() / 1000;
    expect(clock(noon)).toBe('12:03:04');
    expect(clock(noon, false)).toBe('12:03');
  });
});

describe('a quantity with a unit', () => {
  it.each([
    [512, 'By', '512 B'],
    [6.1e9, 'By', '5.68 GiB'],
    [2048, 'bytes', '2 KiB'],
    [1536, 'By/s', '1.5 KiB/s'],
    [0.42, 'ms', '420 µs'],
    [12.34, 'ms', '12.3 ms'],
    [4500, 'ms', '4.5 s'],
    [0.25, 's', '250 ms'],
    [37.5, '%', '37.5%'],
    [482.4, '1/s', '482/s'],
    [3.2, '{message}/s', '3.2/s'],
    [1241, '{connection}', '1,241'],
    [1241, '', '1,241'],
    [0.42, '', '0.42'],
    [25_300, '', '25.3K'],
    [21.5, 'Cel', '21.5 Cel'],
    [-1.5, 'ms', '-1.5 ms'],
    [0, 'By', '0 B'],
    [0, 'ms', '0 µs'],
  ])('%d in "%s" reads "%s"', (value, unit, text) => {
    expect(plain(quantity(value, unit))).toBe(text);
  });

  it('reads a utilisation as a percentage, in either spelling of "no unit"', () => {
    expect(quantity(0.264, '1', true)).toBe('26.4%');
    expect(quantity(0.264, '', true)).toBe('26.4%');
    expect(quantity(0.264, '1')).toBe('0.26');
  });

  it('is a dash when there is no value', () => {
    expect(withScale(Number.NaN, scaleFor('By', 1))).toBe(NOTHING);
  });
});

describe('the labels of an axis', () => {
  it('share one unit and one number of decimals', () => {
    expect(axisLabels([0, 0.5, 1], '').map(plain)).toEqual(['0.0', '0.5', '1.0']);
    expect(axisLabels([0, 1024 ** 2, 2 * 1024 ** 2], 'By').map(plain)).toEqual(['0 MiB', '1 MiB', '2 MiB']);
    expect(axisLabels([5.875 * 1024 ** 3, 6 * 1024 ** 3], 'By').map(plain)).toEqual(['5.875 GiB', '6.000 GiB']);
    expect(axisLabels([0, 1 / 3, 2 / 3], '').map(plain)).toEqual(['0.000', '0.333', '0.667']);
    expect(axisLabels([0, 5000, 10_000], '1/s').map(plain)).toEqual(['0K', '5K', '10K']);
    expect(axisLabels([0, 0.25, 0.5], '1', true)).toEqual(['0%', '25%', '50%']);
  });

  it('of a single tick or none do not fail', () => {
    expect(axisLabels([], 'ms')).toEqual([]);
    expect(axisLabels([3], '').map(plain)).toEqual(['3']);
  });
});
