// The official parser's verdict on AsyncAPI documents: reads a JSON array of document texts on standard
// input (or of {text, source}, where source is the path its references are relative to), writes a JSON
// array of what it finds in each, as [severity, code, path, message].
// Severity is the parser's: 0 error, 1 warning, 2 information, 3 hint.

import { Parser } from '@asyncapi/parser';
import { readFileSync } from 'node:fs';

const parser = new Parser();
const found = [];
for (const given of JSON.parse(readFileSync(0, 'utf8'))) {
  const { text, source } = typeof given === 'string' ? { text: given } : given;
  const { document, diagnostics } = await parser.parse(text, { source });
  const rows = diagnostics.map((one) => [one.severity, String(one.code), one.path.join('/'), one.message]);
  if (!document && rows.every(([severity]) => severity !== 0)) rows.push([0, 'no-document', '', 'the parser made no document of it']);
  found.push(rows);
}
process.stdout.write(JSON.stringify(found));
