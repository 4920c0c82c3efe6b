// The health document, asked for every five seconds. A gateway that answers 503 still sends the
// document, and that is when it is most wanted, so the status code alone decides nothing.

import { readHealth, type Health } from './protocol';

export type HealthState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'known'; readonly health: Health; readonly at: number }
  | { readonly kind: 'unreachable'; readonly reason: string; readonly last: Health | null };

const PERIOD_MS = 5000;
const TIMEOUT_MS = 4000;

/** Asks once; never rejects. */
async function ask(url: string, last: Health | null): Promise<HealthState> {
  try {
    const response = await fetch(url, {
      headers: { accept: 'application/json' },
      cache: 'no-store',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const health = readHealth((await response.json()) as unknown);
    if (health !== null) return { kind: 'known', health, at: Date.now() };
    return { kind: 'unreachable', reason: `HTTP ${response.status} without a health document`, last };
  } catch (error) {
    const slow = error instanceof DOMException && error.name === 'TimeoutError';
    return { kind: 'unreachable', reason: slow ? 'no answer in time' : 'no connection', last };
  }
}

export class HealthWatch {
  readonly #listeners = new Set<(state: HealthState) => void>();
  #state: HealthState = { kind: 'loading' };
  #last: Health | null = null;
  #timer = 0;
  #asking = false;

  constructor(private readonly url: string) {}

  get state(): HealthState {
    return this.#state;
  }

  watch(listener: (state: HealthState) => void): void {
    this.#listeners.add(listener);
    listener(this.#state);
  }

  start(): void {
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.refresh();
    });
    this.refresh();
  }

  /** Asks now, unless it is already asking; the next regular question comes a period later. */
  refresh(): void {
    if (this.#asking) return;
    this.#asking = true;
    window.clearTimeout(this.#timer);
    void ask(this.url, this.#last).then((state) => {
      this.#asking = false;
      this.#state = state;
      if (state.kind === 'known') this.#last = state.health;
      for (const listener of this.#listeners) listener(state);
      this.#timer = window.setTimeout(() => {
        if (document.visibilityState === 'visible') this.refresh();
      }, PERIOD_MS);
    });
  }
}
