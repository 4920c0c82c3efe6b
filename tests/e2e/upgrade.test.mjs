// The handshake as bytes. Firefox asks for the upgrade with `Connection: keep-alive, Upgrade`; no
// installed client sends that, so this one writes it by hand.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { PORT, within } from './support.mjs';

/** A text frame as a client must send it: final, masked, below 126 bytes. */
function textFrame(text) {
  const data = Buffer.from(text);
  assert.ok(data.length < 126);
  const mask = randomBytes(4);
  const masked = data.map((byte, index) => byte ^ mask[index % 4]);
  return Buffer.concat([Buffer.from([0x81, 0x80 | data.length]), mask, masked]);
}

/** Sends `head`, then `frames`, and collects bytes until `enough` of them says so. */
function talk(head, frames, enough) {
  return within(
    'the answer to a handshake',
    new Promise((resolve, reject) => {
      let received = Buffer.alloc(0);
      const line = connect(PORT, '127.0.0.1', () => line.write(head));
      line.on('error', reject);
      line.on('close', () => resolve(received));
      line.on('data', (chunk) => {
        const headWasOver = received.includes('\r\n\r\n');
        received = Buffer.concat([received, chunk]);
        if (!headWasOver && received.includes('\r\n\r\n')) for (const frame of frames) line.write(frame);
        if (enough(received)) {
          line.destroy();
          resolve(received);
        }
      });
    }),
  );
}

function request(key, lines) {
  return [`GET /socket/websocket?vsn=2.0.0 HTTP/1.1`, `Host: 127.0.0.1:${PORT}`, ...lines, `Sec-WebSocket-Key: ${key}`, '', ''].join('\r\n');
}

const HEARTBEAT = '[null,"7","phoenix","heartbeat",{}]';
const REPLY = '[null,"7","phoenix","phx_reply",';

describe('an upgrade', () => {
  for (const connection of ['keep-alive, Upgrade', 'Upgrade', 'upgrade', 'Keep-Alive,UPGRADE']) {
    it(`with "Connection: ${connection}" is accepted and the socket works`, async () => {
      const key = randomBytes(16).toString('base64');
      const head = request(key, [
        'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
        `Origin: http://127.0.0.1:${PORT}`,
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Extensions: permessage-deflate',
        `Connection: ${connection}`,
        'Pragma: no-cache',
        'Cache-Control: no-cache',
        'Upgrade: websocket',
      ]);
      const answer = (await talk(head, [textFrame(HEARTBEAT)], (bytes) => bytes.includes(REPLY))).toString('latin1');
      assert.match(answer, /^HTTP\/1\.1 101 /);
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
      assert.match(answer, new RegExp(`sec-websocket-accept: ${accept.replace(/[+/]/g, '\\$&')}\r\n`, 'i'));
      assert.ok(answer.includes('{"status":"ok","response":{}}') || answer.includes('{"response":{},"status":"ok"}'));
    });
  }

  it('without an upgrade in "Connection" is refused as a bad request', async () => {
    const head = request(randomBytes(16).toString('base64'), ['Connection: keep-alive', 'Sec-WebSocket-Version: 13']);
    const answer = (await talk(head, [], (bytes) => bytes.includes('\r\n\r\n'))).toString('latin1');
    assert.match(answer, /^HTTP\/1\.1 4\d\d /);
  });

  it('from a page of another host is forbidden', async () => {
    const head = request(randomBytes(16).toString('base64'), [
      'Origin: http://elsewhere.example',
      'Sec-WebSocket-Version: 13',
      'Connection: keep-alive, Upgrade',
      'Upgrade: websocket',
    ]);
    const answer = (await talk(head, [], (bytes) => bytes.includes('\r\n\r\n'))).toString('latin1');
    assert.match(answer, /^HTTP\/1\.1 403 /);
  });
});
