// The bar at the top and the banner under it: is this page connected, to what, and since when.

import { byId, mark, say } from '../dom';
import { refusalText, storeToken, type Door, type Refusal } from '../door';
import { duration, NOTHING } from '../format';
import type { HealthState, HealthWatch } from '../health';
import type { Link, LinkState } from '../link';
import { eachSecond, paint } from '../paint';
import { offers } from '../protocol';

/** A loss shorter than this is not worth an alarm: the page reconnects within a breath. */
const BANNER_AFTER_MS = 1500;

/** `quiet` says that the open connection has gone dumb. */
export function linkText(state: LinkState, quiet: boolean): string {
  switch (state.phase) {
    case 'open':
      return quiet ? 'No answer' : 'Connected';
    case 'connecting':
      return state.everOpen ? 'Reconnecting' : 'Connecting';
    case 'waiting':
      return 'Disconnected';
  }
}

/** What the banner says: why the page is not connected, as far as anybody told it. */
export function bannerText(state: LinkState, refusal: Refusal | null, shown: boolean, healthy: boolean): string {
  // No attempt has failed yet since the token was given.
  if (refusal === 'token' && shown && state.attempt === 0) return 'Trying the token.';
  // A page that was let in before is not shut out for where it comes from.
  if (refusal !== null && !(refusal === 'upgrade' && state.everOpen)) return refusalText(refusal, shown);
  if (state.everOpen) return 'Connection lost. What you see is the last that arrived.';
  return healthy ? 'The gateway answers, but its socket does not open.' : 'The gateway does not answer.';
}

/** Seconds until the next attempt, for people: never "in 0 s". */
export function countdown(state: LinkState, now: number): string {
  if (state.phase !== 'waiting' || state.retryAt === null) return 'Trying now';
  return `Next attempt in ${Math.max(1, Math.ceil((state.retryAt - now) / 1000))} s`;
}

export function startHeader(link: Link, health: HealthWatch, door: Door): void {
  const banner = byId('banner');
  const text = byId('banner-text');
  const form = byId('token-form');
  const field = byId('token') as HTMLInputElement;
  let lostAt: number | null = Date.now();

  const drawLink = (): void => {
    const { state } = link;
    const now = Date.now();
    const quiet = link.quiet(now);
    mark(byId('link'), 'phase', quiet ? 'quiet' : state.phase);
    say(byId('link-text'), linkText(state, quiet));
    const alarm = lostAt !== null && (door.refusal !== null || now - lostAt > BANNER_AFTER_MS);
    const asked = alarm && door.refusal === 'token';
    banner.hidden = !alarm;
    mark(banner, 'tone', asked ? 'ask' : 'alarm');
    mark(document.body, 'offline', String(alarm));
    say(text, alarm ? bannerText(state, door.refusal, link.token !== '', health.state.kind === 'known') : '');
    say(byId('banner-countdown'), asked ? 'It is kept in this tab only.' : countdown(state, now));
    byId('banner-retry').hidden = asked;
    if (form.hidden === asked) {
      form.hidden = !asked;
      if (asked && document.activeElement === document.body) field.focus();
    }
  };

  const drawHealth = (): void => {
    const { state } = health;
    const known = state.kind === 'known' ? state.health : state.kind === 'unreachable' ? state.last : null;
    say(byId('version'), known === null ? NOTHING : known.version);
    say(byId('uptime'), state.kind === 'known' ? duration(state.health.uptime + (Date.now() - state.at) / 1000) : NOTHING);
    say(byId('health'), healthWord(state));
    mark(byId('health'), 'status', state.kind === 'known' ? state.health.status : state.kind);
  };

  link.watch((state) => {
    if (state.phase === 'open' && lostAt !== null) void offerMetrics();
    if (state.phase === 'open') lostAt = null;
    else lostAt ??= Date.now();
    paint(drawLink);
  });
  door.watch(() => {
    paint(drawLink);
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const token = field.value.trim();
    field.value = '';
    storeToken(token);
    link.present(token);
  });
  health.watch(() => {
    paint(drawHealth);
  });
  byId('banner-retry').addEventListener('click', () => {
    link.retryNow();
    health.refresh();
  });
  eachSecond(() => {
    drawLink();
    drawHealth();
  });
}

export function healthWord(state: HealthState): string {
  switch (state.kind) {
    case 'loading':
      return NOTHING;
    case 'known':
      return state.health.status;
    case 'unreachable':
      return 'unreachable';
  }
}

/**
 * Shows the link to the metrics where the gateway serves them. Its own description of itself says so;
 * asking for the metrics would make them, and would be an error in every console without.
 */
async function offerMetrics(): Promise<void> {
  try {
    const response = await fetch(new URL('api/v1/openapi.json', document.baseURI), { cache: 'no-cache' });
    byId('metrics-link').hidden = !offers((await response.json()) as unknown, '/metrics');
  } catch {
    // The link stays as it is; whether the gateway answers is told elsewhere.
  }
}
