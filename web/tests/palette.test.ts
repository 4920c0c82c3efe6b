// The palette as numbers: what a reader can tell apart is not a matter of taste.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const SHEET = readFileSync(new URL('../../python/moda/asyncapi/pages/assets/palette.css', import.meta.url), 'utf8');
const [dark = '', light = ''] = SHEET.split('@media');

type Palette = ReadonlyMap<string, string>;

function palette(css: string, base: Palette = new Map()): Palette {
  return new Map([...base, ...[...css.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map(([, name, hex]) => [name, hex] as [string, string])]);
}

function rgb(hex: string): number[] {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
}

/** WCAG 2.2, relative luminance and contrast. */
function luminance(colour: readonly number[]): number {
  const [red = 0, green = 0, blue = 0] = colour.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: readonly number[], other: readonly number[]): number {
  const [low = 0, high = 0] = [luminance(one), luminance(other)].sort((left, right) => left - right);
  return (high + 0.05) / (low + 0.05);
}

const darkPalette = palette(dark);

describe.each([
  ['dark', darkPalette],
  ['light', palette(light, darkPalette)],
])('the %s palette', (_, colours) => {
  const of = (name: string): number[] => rgb(colours.get(name) ?? 'none');
  const words = ['text', 'soft', 'muted', 'faint', 'blue', 'teal', 'amber', 'violet', 'red', 'up', 'down'];

  it.each(words)('can be read in %s on every ground', (word) => {
    // A tag stands on an eighth of its own colour over a panel.
    const tag = of(word).map((value, index) => value * 0.12 + (of('panel')[index] ?? 0) * 0.88);
    for (const ground of [...['ground', 'panel', 'panel-top', 'raised', 'inset'].map(of), tag]) {
      expect(contrast(of(word), ground)).toBeGreaterThanOrEqual(4.5);
    }
  });

  it('draws every line of a chart so that it is seen', () => {
    for (const tone of ['blue', 'amber', 'teal', 'pink', 'violet', 'lime', 'red', 'grey']) {
      expect(contrast(of(tone), of('panel'))).toBeGreaterThanOrEqual(3);
    }
  });
});

it('a palette names in light what has to differ from the dark one', () => {
  expect([...palette(light).keys()].sort()).toEqual([...darkPalette.keys()].sort());
});
