// The socket, as the page sees it: connecting, open, or waiting to try again. The stock client keeps
// this to itself, so the two things people want to know (why, and when it tries again) are taken from
// its reconnect hook. The hook also adds what the client lacks: jitter, without which every console
// left open on a wall comes back in the same millisecond after a restart.

import { Socket } from 'phoenix';
import { readReason } from './protocol';

export type Phase = 'connecting' | 'open' | 'waiting';

/** Where the connection stands. Times are `Date.now()` milliseconds. */
export interface LinkState {
  readonly phase: Phase;
  /** When this phase began. */
  readonly since: number;
  /** When the next attempt starts; only while waiting. */
  readonly retryAt: number | null;
  /** Failed attempts since the last time it was open. */
  readonly attempt: number;
  /** Whether it was ever open: "connection lost" and "cannot connect" are different news. */
  readonly everOpen: boolean;
}

/** Where a topic stands; `reason` is the server's, for a refused join. */
export type TopicState =
  | { readonly phase: 'joining' }
  | { readonly phase: 'joined' }
  | { readonly phase: 'refused'; readonly reason: string }
  | { readonly phase: 'errored' }
  | { readonly phase: 'closed' };

/** What a panel wants to hear of its topic. */
export interface TopicHandlers {
  readonly events: Readonly<Record<string, (payload: unknown) => void>>;
  readonly joined?: (response: unknown) => void;
  readonly state?: (state: TopicState) => void;
}

interface Topic {
  readonly name: string;
  readonly params: object;
  readonly handlers: TopicHandlers;
}

/**
 * The client asks for a sign of life this often and gives up when one stays out for as long. A third
 * of what it does by itself: a page that people watch should not call a hung gateway connected for a
 * minute, and one frame in ten seconds costs nobody anything.
 */
const HEARTBEAT_MS = 10_000;

/** Something is heard at least with every heartbeat, so a silence longer than one is the gateway's. */
const QUIET_MS = HEARTBEAT_MS + 2_000;

const DELAYS = [250, 500, 1000, 2000, 3000, 5000] as const;

/** Milliseconds before attempt `tries` (1 = the first): 0.25 s rising to 5 s, each by 0.75 to 1.25. */
export function reconnectDelay(tries: number, random: () => number = Math.random): number {
  const base = DELAYS[Math.min(Math.max(tries, 1), DELAYS.length) - 1] ?? 5000;
  return Math.round(base * (0.75 + random() / 2));
}

/** The client hands the token to `btoa`, which takes bytes; the gateway reads them as UTF-8. */
export function tokenBytes(token: string): string {
  return String.fromCharCode(...new TextEncoder().encode(token));
}

export class Link {
  readonly #listeners = new Set<(state: LinkState) => void>();
  readonly #topics: Topic[] = [];
  #socket: Socket;
  #token: string;
  #heardAt = 0;
  #state: LinkState = { phase: 'connecting', since: Date.now(), retryAt: null, attempt: 0, everOpen: false };

  /** `endpoint` is the socket's address without `/websocket`, e.g. `ws://localhost:4001/socket`; `token` is '' for none. */
  constructor(
    private readonly endpoint: string,
    token = '',
  ) {
    this.#token = token;
    this.#socket = this.#make();
  }

  /** The token shown to the gateway; '' for none. */
  get token(): string {
    return this.#token;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Calls `listener` now and at every change. */
  watch(listener: (state: LinkState) => void): void {
    this.#listeners.add(listener);
    listener(this.#state);
  }

  connect(): void {
    this.#socket.connect();
  }

  /** Whether the connection is open and yet nothing comes over it, not even an answer to a heartbeat. */
  quiet(now: number): boolean {
    return this.#state.phase === 'open' && now - Math.max(this.#heardAt, this.#state.since) > QUIET_MS;
  }

  /** Starts over with another token. The client takes one when it is made, so it is made anew. */
  present(token: string): void {
    this.#token = token;
    const old = this.#socket;
    this.#socket = this.#make();
    old.disconnect();
    this.#enter('connecting', { attempt: 0 });
    for (const topic of this.#topics) this.#subscribe(topic);
    this.connect();
  }

  /** Stops waiting and tries again at once. */
  retryNow(): void {
    if (this.#state.phase === 'open') return;
    this.#enter('connecting');
    this.#socket.disconnect(() => {
      this.#socket.connect();
    });
  }

  /** Joins a topic for as long as the page lives; the client rejoins it after every loss. */
  join(name: string, params: object, handlers: TopicHandlers): void {
    const topic = { name, params, handlers };
    this.#topics.push(topic);
    this.#subscribe(topic);
  }

  #make(): Socket {
    const socket: Socket = new Socket(this.endpoint, {
      ...(this.#token === '' ? {} : { authToken: tokenBytes(this.#token) }),
      heartbeatIntervalMs: HEARTBEAT_MS,
      reconnectAfterMs: (tries) => {
        const delay = reconnectDelay(tries);
        if (socket !== this.#socket) return delay;
        this.#enter('waiting', { attempt: tries, retryAt: Date.now() + delay });
        // The client starts the attempt without telling anybody; the same delay later it has begun.
        window.setTimeout(() => {
          if (this.#state.phase === 'waiting' && this.#state.attempt === tries) this.#enter('connecting');
        }, delay);
        return delay;
      },
      rejoinAfterMs: (tries) => reconnectDelay(tries + 2),
    });
    socket.onOpen(() => {
      if (socket === this.#socket) this.#enter('open', { attempt: 0, everOpen: true });
    });
    socket.onMessage(() => {
      this.#heardAt = Date.now();
    });
    return socket;
  }

  #subscribe({ name, params, handlers }: Topic): void {
    const tell = (state: TopicState): void => handlers.state?.(state);
    const channel = this.#socket.channel(name, params);
    for (const [event, handle] of Object.entries(handlers.events)) {
      channel.on(event, (payload: unknown) => {
        handle(payload);
      });
    }
    channel.onError(() => {
      tell({ phase: 'errored' });
    });
    channel.onClose(() => {
      tell({ phase: 'closed' });
    });
    tell({ phase: 'joining' });
    channel
      .join()
      .receive('ok', (response: unknown) => {
        tell({ phase: 'joined' });
        handlers.joined?.(response);
      })
      .receive('error', (response: unknown) => {
        tell({ phase: 'refused', reason: readReason(response) });
      })
      .receive('timeout', () => {
        tell({ phase: 'refused', reason: 'no answer in time' });
      });
  }

  #enter(phase: Phase, change: Partial<Omit<LinkState, 'phase' | 'since'>> = {}): void {
    const since = phase === this.#state.phase ? this.#state.since : Date.now();
    this.#state = { ...this.#state, retryAt: null, ...change, phase, since };
    for (const listener of this.#listeners) listener(this.#state);
  }
}
