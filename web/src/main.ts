// The page is put together here: one socket, one health watch, and panels that know nothing of each
// other. Addresses are taken relative to the page, so the console also works behind a path prefix.

import 'uplot/dist/uPlot.min.css';
import { Door, storedToken } from './door';
import { HealthWatch } from './health';
import { Link } from './link';
import { startPainting } from './paint';
import { startHeader } from './panels/header';
import { startPrices } from './panels/prices';
import { startServices } from './panels/services';
import { startTelemetry } from './panels/telemetry';
import { startTraffic } from './panels/traffic';
import { startUpstream } from './panels/upstream';

/** The socket's address: the page's own host and folder, with the WebSocket scheme. */
function socketAddress(): string {
  const url = new URL('socket', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}

function start(): void {
  startPainting();
  const link = new Link(socketAddress(), storedToken());
  const door = new Door(link, new URL('socket/websocket?vsn=2.0.0', document.baseURI).href);
  const health = new HealthWatch(new URL('api/v1/health', document.baseURI).href);
  startHeader(link, health, door);
  startServices(health);
  const activity = startPrices(link);
  startUpstream(activity, health);
  startTelemetry(link, startTraffic());
  let wasOpen = false;
  link.watch(({ phase }) => {
    // A reconnect often means a restart: its version and services are news.
    if (phase === 'open' && !wasOpen) health.refresh();
    wasOpen = phase === 'open';
  });
  link.connect();
  health.start();
}

/** Charts measure text once, so they are made when the font is there; a missing font delays nothing. */
const fontReady = Promise.race([
  document.fonts.load('11px "Inter Variable"').then(() => undefined, () => undefined),
  new Promise<void>((resolve) => window.setTimeout(resolve, 800)),
]);
void fontReady.then(start);
