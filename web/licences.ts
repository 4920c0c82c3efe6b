// Bundling removes the licence comments of what it bundles, and every licence here asks that its
// notice travels with the code. So the build writes them into the console itself, read from the
// installed packages: a list kept by hand would be wrong at the first upgrade.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';

/** A bundled package; `notice` is what its licence wants said beside the licence text. */
interface Bundled {
  readonly name: string;
  readonly files: readonly string[];
  readonly notice?: string;
}

const BUNDLED: readonly Bundled[] = [
  { name: 'phoenix', files: ['LICENSE.md'] },
  {
    name: 'lightweight-charts',
    files: ['LICENSE'],
    notice:
      'TradingView Lightweight Charts™\n' +
      'Copyright (c) 2026 TradingView, Inc. https://www.tradingview.com/\n' +
      'Includes parts of tslib, (c) Microsoft Corporation, BSD Zero Clause License.',
  },
  // Its package ships no licence file; package.json says MIT, whose text is uPlot's below.
  {
    name: 'fancy-canvas',
    files: [],
    notice: 'MIT License. Copyright (c) the fancy-canvas authors. Its terms are those of the MIT licence of uPlot.',
  },
  { name: 'uplot', files: ['LICENSE'] },
  { name: '@fontsource-variable/inter', files: ['LICENSE'] },
];

/** The text of every bundled package's licence; throws when a package or its licence is missing. */
export function licences(root: string): string {
  const parts = BUNDLED.map(({ name, files, notice }) => {
    const folder = join(root, 'node_modules', name);
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      version: string;
      license: string;
    };
    const texts = files.map((file) => {
      const path = join(folder, file);
      if (!existsSync(path)) {
        throw new Error(`${name}@${manifest.version} has no ${file}: say in licences.ts where its licence is`);
      }
      return readFileSync(path, 'utf8').trim();
    });
    const title = `${name} ${manifest.version} (${manifest.license})`;
    return [title, '='.repeat(title.length), ...(notice === undefined ? [] : [notice]), ...texts].join('\n\n');
  });
  return `The moda console contains the following software.\n\n\n${parts.join('\n\n\n')}\n`;
}

/** Emits `console/licences.txt`, which the footer links to. */
export function emitLicences(root: string): Plugin {
  return {
    name: 'moda:licences',
    generateBundle() {
      this.emitFile({ type: 'asset', fileName: 'console/licences.txt', source: licences(root) });
    },
  };
}
