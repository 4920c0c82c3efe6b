// The console is served by the gateway under `default-src 'self'`, at `/` and possibly behind a
// path prefix. That decides everything unusual here: no asset may become a `data:` URL, nothing may
// be inlined into the page, and every URL is relative.

import { defineConfig } from 'vitest/config';
import { emitLicences } from './licences.ts';

export default defineConfig({
  base: './',
  plugins: [emitLicences(import.meta.dirname)],
  build: {
    outDir: '../python/moda/console',
    emptyOutDir: true,
    // One reserved path beside `/`: a mounted application keeps `/assets` for itself.
    assetsDir: 'console',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    // Two charting libraries and a font are the whole of it; splitting would only add round trips.
    chunkSizeWarningLimit: 600,
  },
  server: {
    // `npm run dev` beside a running gateway: the page comes from Vite, the data from the gateway.
    proxy: Object.fromEntries(
      ['/socket', '/api', '/asyncapi', '/metrics'].map((path) => [
        path,
        { target: process.env.MODA_URL ?? 'http://127.0.0.1:4001', ws: path === '/socket' },
      ]),
    ),
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
