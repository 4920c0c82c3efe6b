// What YAML readers make of texts: reads a JSON array of texts on standard input, writes for each
// {"1.1": ..., "1.2": ...}, the JSON of its value as a reader of that version has it, or null where it
// refuses the text.

import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

const read = (text, version) => {
  try {
    return JSON.stringify(parse(text, { version, logLevel: 'error', maxAliasCount: -1 }));
  } catch {
    return null;
  }
};
const texts = JSON.parse(readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify(texts.map((text) => ({ 1.1: read(text, '1.1'), 1.2: read(text, '1.2') }))));
