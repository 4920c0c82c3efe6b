// The npm package `phoenix`, unchanged, told to join a room and to say what happens to it, a JSON
// line per event, until its standard input ends. The test on the other side breaks its connection.

import { createRequire } from 'node:module';

const require = createRequire(new URL('../e2e/package.json', import.meta.url));
const { Socket } = require('phoenix');
const WebSocket = require('ws');

const say = (...words) => process.stdout.write(`${JSON.stringify(words)}\n`);

const socket = new Socket(process.argv[2], { transport: WebSocket });
socket.onOpen(() => say('open'));
socket.onClose((event) => say('close', event.code));
socket.onError(() => say('error'));
socket.connect();

const room = socket.channel('room:a', {});
room.on('news', (payload) => say('news', payload.n));
room.join().receive('ok', () => say('joined'));

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
