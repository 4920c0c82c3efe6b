// The bar at the top and the banner under it: is this page connected, to what, and since when.

import { byId, mark, say } from '../dom';
import { duration, NOTHING } from '../format';
import type { HealthState, HealthWatch } from '../health';
import type { Link, LinkState } from '../link';
import { eachSecond, paint } from '../paint';

/** A loss shorter than this is not worth an alarm: the page reconnects within a breath. */
const BANNER_AFTER_MS = 1500;

export function linkText(state: LinkState): string {
  switch (state.phase) {
    case 'open':
      return 'Connected';
    case 'connecting':
      return state.everOpen ? 'Reconnecting' : 'Connecting';
    case 'waiting':
      return 'Disconnected';
  }
}

/** Seconds until the next attempt, for people: never "in 0 s". */
export function countdown(state: LinkState, now: number): string {
  if (state.phase !== 'waiting' || state.retryAt === null) return 'Trying now';
  return `Next attempt in ${Math.max(1, Math.ceil((state.retryAt - now) / 1000))} s`;
}

export function startHeader(link: Link, health: HealthWatch): void {
  const banner = byId('banner');
  const bannerText = byId('banner-text');
  let lostAt: number | null = Date.now();

  const drawLink = (): void => {
    const { state } = link;
    mark(byId('link'), 'phase', state.phase);
    say(byId('link-text'), linkText(state));
    const alarm = lostAt !== null && Date.now() - lostAt > BANNER_AFTER_MS;
    banner.hidden = !alarm;
    mark(document.body, 'offline', String(alarm));
    if (!alarm) {
      say(bannerText, '');
      return;
    }
    say(bannerText, state.everOpen ? 'Connection lost. What you see is the last that arrived.' : 'The gateway does not answer.');
    say(byId('banner-countdown'), countdown(state, Date.now()));
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
    if (state.phase === 'open') lostAt = null;
    else lostAt ??= Date.now();
    paint(drawLink);
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
