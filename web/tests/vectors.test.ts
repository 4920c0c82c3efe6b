// The golden frames that the Rust and Python tests read as well, through the serializer of the stock
// client: what the gateway sends must mean to `phoenix` what the file says it means, and what
// `phoenix` sends must be among what the gateway is tested to read.

import { readFileSync } from 'node:fs';
import { Serializer, type WireMessage } from 'phoenix';
import { describe, expect, it } from 'vitest';

interface Vector {
  readonly name: string;
  readonly codec: string;
  readonly direction: 'in' | 'out';
  readonly encoding: 'text' | 'hex';
  readonly frame: string;
  readonly meaning: Readonly<Record<string, unknown>>;
}

const VECTORS = JSON.parse(readFileSync(new URL('../../tests/vectors.json', import.meta.url), 'utf8')) as Vector[];

function bytes(hex: string): ArrayBuffer {
  return Uint8Array.from(Buffer.from(hex, 'hex')).buffer;
}

function hex(buffer: ArrayBuffer): string {
  return Buffer.from(buffer).toString('hex');
}

function decode(frame: string | ArrayBuffer): WireMessage {
  const decoded: WireMessage[] = [];
  Serializer.decode(frame, (message) => decoded.push(message));
  const [message] = decoded;
  if (message === undefined) throw new Error('the serializer called back with nothing');
  return message;
}

function encode(message: WireMessage): string | ArrayBuffer {
  const encoded: (string | ArrayBuffer)[] = [];
  Serializer.encode(message, (frame) => encoded.push(frame));
  const [frame] = encoded;
  if (frame === undefined) throw new Error('the serializer called back with nothing');
  return frame;
}

/** A ref as a binary frame carries it: text, and an empty one for null. */
function inBytes(ref: unknown): string {
  if (ref === null || ref === undefined) return '';
  return typeof ref === 'string' ? ref : JSON.stringify(ref);
}

const outgoing = VECTORS.filter(({ direction }) => direction === 'out');
const texts = outgoing.filter(({ codec }) => codec === 'v2-text');
const binaries = outgoing.filter(({ codec }) => codec === 'v2-binary');
const pushes = VECTORS.filter(
  ({ codec, direction, meaning }) => codec === 'v2-binary' && direction === 'in' && meaning.error === undefined,
);

describe('frames of the gateway, read by the stock client', () => {
  it('finds frames of both kinds in the file', () => {
    expect([texts.length, binaries.length, pushes.length].every((count) => count >= 5)).toBe(true);
  });

  it.each(texts)('reads $name', ({ frame, meaning }) => {
    const message = decode(frame);
    expect(message.join_ref).toEqual(meaning.join_ref);
    expect(message.ref).toEqual(meaning.ref);
    expect(message.topic).toEqual(meaning.topic);
    if (meaning.kind === 'reply') {
      expect(message.event).toBe('phx_reply');
      expect(message.payload).toEqual({ status: meaning.status, response: meaning.response });
    } else {
      expect(message.event).toEqual(meaning.event);
      expect(message.payload).toEqual(meaning.payload);
    }
  });

  it.each(binaries)('reads $name', ({ frame, meaning }) => {
    const message = decode(bytes(frame));
    expect(message.topic).toBe(meaning.topic);
    if (meaning.kind !== 'broadcast') expect(message.join_ref).toBe(inBytes(meaning.join_ref));
    if (meaning.kind === 'reply') {
      const { status, response } = message.payload as { status: string; response: ArrayBuffer };
      expect(message.ref).toBe(inBytes(meaning.ref));
      expect([message.event, status, hex(response)]).toEqual(['phx_reply', meaning.status, meaning.data]);
    } else {
      expect(message.ref).toBe(null);
      expect([message.event, hex(message.payload as ArrayBuffer)]).toEqual([meaning.event, meaning.data]);
    }
  });
});

describe('frames of the stock client, as the gateway is tested to read them', () => {
  it.each(pushes)('writes $name byte for byte', ({ frame, meaning }) => {
    const written = encode({
      join_ref: meaning.join_ref,
      ref: meaning.ref,
      topic: meaning.topic as string,
      event: meaning.event as string,
      payload: bytes(meaning.data as string),
    });
    expect(written).toBeInstanceOf(ArrayBuffer);
    expect(hex(written as ArrayBuffer)).toBe(frame);
  });

  it('writes a heartbeat as the file has it', () => {
    const heartbeat = VECTORS.find(({ name }) => name === 'a heartbeat');
    expect(heartbeat).toBeDefined();
    expect(encode({ join_ref: null, ref: '7', topic: 'phoenix', event: 'heartbeat', payload: {} })).toBe(heartbeat?.frame);
  });
});
