// Why the gateway does not let this page in. A browser tells a page nothing of a refused handshake,
// so the same path is asked once more as a plain GET: the gateway decides it like an upgrade, and the
// status says what it decided. The token is shown to the socket only, never in an address, so this
// question goes without one; what it cannot see (a wrong token, a foreign origin) follows from that
// the socket was refused where the question was not.

import type { Link } from './link';

export type Refusal = 'token' | 'full' | 'failed' | 'missing' | 'upgrade';

const TIMEOUT_MS = 4000;

/** A known reason is asked for anew only at every so many failed attempts: each question is a request refused. */
const ASK_AGAIN = 6;

/** What the answer to the plain GET says, `null` when there was none. */
export function refusalOf(status: number | null, shown: boolean): Refusal | null {
  if (status === null) return null;
  if (status === 401 || status === 403) return 'token';
  if (status === 503) return 'full';
  if (status === 404) return 'missing';
  if (status >= 500) return 'failed';
  // The path is open to this question. With a token the socket was refused for that; without one the
  // upgrade itself was: its origin is not admitted, or a proxy does not pass it on.
  return shown ? 'token' : 'upgrade';
}

/** What to tell people, and what they can do about it. */
export function refusalText(refusal: Refusal, shown: boolean): string {
  switch (refusal) {
    case 'token':
      return shown ? 'The gateway does not accept this token.' : 'The gateway asks for a token.';
    case 'full':
      return 'The gateway takes no more connections: it is full, or about to stop.';
    case 'failed':
      return 'The gateway answers, but its socket fails: see its log.';
    case 'missing':
      return 'The gateway answers, but not at /socket/websocket: see the proxy in front of it.';
    case 'upgrade':
      return 'The gateway answers, but refuses a WebSocket from this page: see MODA_ORIGINS, or the proxy in front of it.';
  }
}

async function ask(url: string): Promise<number | null> {
  try {
    const response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
    return response.status;
  } catch {
    return null;
  }
}

/** Watches a link that does not open and finds out why. */
export class Door {
  readonly #listeners = new Set<() => void>();
  #refusal: Refusal | null = null;
  #asked = 0;

  constructor(link: Link, url: string) {
    link.watch(({ phase, attempt, everOpen }) => {
      // A connection that was lost is not a door that was shut: one attempt has to fail first.
      const failed = phase === 'waiting' && (!everOpen || attempt > 1);
      if (phase === 'open') {
        this.#asked += 1;
        this.#enter(null);
      } else if (failed && (this.#refusal === null || attempt % ASK_AGAIN === 1)) {
        const asked = (this.#asked += 1);
        void ask(url).then((status) => {
          // An answer that comes after the door opened, or after a newer question, is of no use.
          if (asked === this.#asked) this.#enter(refusalOf(status, link.token !== ''));
        });
      }
    });
  }

  /** Why the last attempt was refused; null when it was not, or when nobody answers at all. */
  get refusal(): Refusal | null {
    return this.#refusal;
  }

  watch(listener: () => void): void {
    this.#listeners.add(listener);
  }

  #enter(refusal: Refusal | null): void {
    if (refusal === this.#refusal) return;
    this.#refusal = refusal;
    for (const listener of this.#listeners) listener();
  }
}

const KEY = 'moda.token';

/** The token of this tab, '' for none. A browser may forbid the store; then it lasts as long as the page. */
export function storedToken(): string {
  try {
    return sessionStorage.getItem(KEY) ?? '';
  } catch {
    return '';
  }
}

export function storeToken(token: string): void {
  try {
    if (token === '') sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  } catch {
    // It is kept by the link anyway.
  }
}
