// Runs every snippet of the documents. See `run` beside this.

import fs from 'node:fs';
import path from 'node:path';

import { documents, snippets } from './documents.mjs';
import { ASIDE, KNOWN } from './known.mjs';
import * as lib from '../support/shared.mjs';
import { close, RUNNERS, top } from './runners.mjs';
import { transcript } from './transcript.mjs';
import { at } from './trials.mjs';

const [binary, only = ''] = process.argv.slice(2);
const jobs = [];

// A check, if it is wanted.
function job(name, run) {
  if (name.includes(only)) jobs.push(() => lib.check(name, run));
}

// A snippet with a server of its own, behind a wire that can be cut.
async function attempt(snippet, runner, trial) {
  const server = await lib.serve(binary, '--listen', '127.0.0.1:0');
  const wire = await lib.wire(server.port);
  const begun = [];
  const begin = async (before = '') => {
    begun.push(await RUNNERS[runner](before + at(wire.at, snippet.text)));
    return begun.at(-1);
  };
  try {
    return await trial({ ...snippet, begin, server, wire });
  } finally {
    for (const one of begun) await one.stop();
    wire.close();
    await server.stop();
  }
}

// All transcripts of a document tell of one server, in their order, but for the first, which starts one.
function transcripts(name, [first, ...rest]) {
  job(`${name} ${1 + rest.length} transcripts`, async () => {
    for (const them of [[first], rest]) {
      const server = await lib.serve(binary, '--listen', '127.0.0.1:0');
      const home = lib.folder();
      for (const { line, text } of them) {
        await transcript(at(server.at, text), server, home).catch(error => {
          throw new Error(`${name}:${line}: ${error.message}`);
        });
      }
      await server.stop();
    }
  });
}

function document(name) {
  const them = snippets(fs.readFileSync(path.join(top, name), 'utf8'));
  const isTranscript = ({ text }) => name === 'PROTOCOL.md' && text.startsWith('$ ');
  if (them.some(isTranscript)) transcripts(name, them.filter(isTranscript));
  const seen = new Set();
  for (const snippet of them.filter(one => !isTranscript(one))) {
    const title = `${name}:${snippet.line} ${snippet.language}`;
    const known = (KNOWN[name] ?? []).filter(([part]) => snippet.text.includes(part));
    known.forEach(one => seen.add(one));
    if (known.length !== 1) {
      job(title, () => { throw new Error(`tests/snippets/known.mjs has ${known.length} lines for it`); });
    } else {
      const [[, runners = [], trial]] = known;
      for (const one of [runners].flat()) job(`${title} by ${one}`, () => attempt(snippet, one, trial));
    }
  }
  for (const [part] of (KNOWN[name] ?? []).filter(one => !seen.has(one))) {
    job(`${name} ${part}`, () => { throw new Error('there is no such snippet any more'); });
  }
}

const all = documents(top);
all.filter(name => !ASIDE[name]).forEach(document);
for (const name of Object.keys(KNOWN).filter(one => !all.includes(one))) {
  job(name, () => { throw new Error('there is no such document any more'); });
}
await lib.together(8, jobs);
await close();
process.exit(lib.sum());
