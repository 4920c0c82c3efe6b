// What the Node tests share: where the gateway is, and waiting for things without timing them. A wait
// has an end only so that a broken gateway fails a test instead of hanging it.

import { setTimeout as sleep } from 'node:timers/promises';

const port = process.env.PORT;
if (!/^\d+$/.test(port ?? '')) {
  throw new Error(`PORT names the port of a running gateway on this machine; got ${port ?? 'nothing'}`);
}

export const PORT = Number(port);
export const HTTP = `http://127.0.0.1:${PORT}`;
export const SOCKET = `ws://127.0.0.1:${PORT}/socket`;

/** Resolves with the first truthy answer of `check`; rejects naming `what` when none comes. */
export async function eventually(what, check, withinMs = 30_000) {
  const end = Date.now() + withinMs;
  for (;;) {
    const answer = await check();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await sleep(50);
  }
}

/** The promise of `work`, or a rejection that names `what`. */
export async function within(what, work, ms = 30_000) {
  const stop = new AbortController();
  try {
    return await Promise.race([
      work,
      sleep(ms, undefined, { signal: stop.signal }).then(() => {
        throw new Error(`waited in vain for ${what}`);
      }),
    ]);
  } finally {
    stop.abort();
  }
}
