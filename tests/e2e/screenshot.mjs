// Takes the picture of the console for the README: `PORT=4001 node tests/e2e/screenshot.mjs FILE [SECONDS]`.
// It waits SECONDS (300 by default) first, because the charts know only what they have seen.

import { setTimeout as sleep } from 'node:timers/promises';
import { launch } from './browser.mjs';
import { HTTP } from './support.mjs';

const [, , file, seconds = '300'] = process.argv;
if (file === undefined || !(Number(seconds) >= 0)) {
  throw new Error('usage: PORT=4001 node screenshot.mjs FILE [SECONDS]');
}

const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, deviceScaleFactor: 2, colorScheme: 'dark' });
  await page.goto(HTTP);
  await page.locator('#link[data-phase="open"]').waitFor();
  await sleep(Number(seconds) * 1000);
  await page.screenshot({ path: file, animations: 'disabled' });
} finally {
  await browser.close();
}
