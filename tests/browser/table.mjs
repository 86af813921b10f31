// The matrix as Markdown, put between its markers into a page that has other things around it.

import fs from 'node:fs';
import { MATRIX } from './faults.mjs';
import { SCENARIOS } from './scenarios.mjs';

const BEGIN = '<!-- matrix:begin -->';
const END = '<!-- matrix:end -->';

/** Node has event streams and polls by itself and WebSockets by what is injected: one column each. */
const COLUMNS = [
  ['Chromium', 'ws', ['chromium']], ['Chromium', 'sse', ['chromium']], ['Chromium', 'poll', ['chromium']],
  ['Firefox', 'ws', ['firefox']], ['Firefox', 'sse', ['firefox']], ['Firefox', 'poll', ['firefox']],
  ['Node', 'ws', ['node+ws']], ['Node', 'sse', ['node']], ['Node', 'poll', ['node']],
];
const HOMES = [['Chromium', 'chromium'], ['Firefox', 'firefox'], ['Node', 'node'], ['Node with ws', 'node+ws']];

const seconds = ms => `${(ms / 1000).toFixed(1)} s`;
const row = cells => `| ${cells.join(' | ')} |`;
const sum = (list, field) => list.reduce((total, result) => total + (result[field] ?? 0), 0);

/** Writes what was found into `file`. What was not run this time is a dash. */
export function written(file, results, versions, seed) {
  const text = fs.readFileSync(file, 'utf8');
  const [before, rest] = text.split(BEGIN);
  const after = rest?.split(END)[1];
  if (after === undefined) throw new Error(`${file} has no ${BEGIN} … ${END}`);
  const made = [...headline(results, versions, seed), '', ...matrix(results), '', ...ladder(results)];
  fs.writeFileSync(file, `${before}${BEGIN}\n\n${made.join('\n')}\n\n${END}${after}`);
}

function headline(results, versions, seed) {
  const failed = results.filter(result => !result.ok).length;
  return [`${new Date().toISOString().slice(0, 10)}, ${versions.join(', ')}, seed ${seed}: ${results.length} tests, ${failed === 0 ? 'none' : failed} failed; `
    + `${sum(results, 'received')} messages received, ${sum(results, 'lost')} lost, ${sum(results, 'doubled')} doubled, `
    + `${sum(results, 'announced')} lost and announced.`];
}

function matrix(results) {
  const cells = results.filter(result => result.fault);
  const lines = [row(['lost / doubled, time to recover', ...COLUMNS.map(([home, transport]) => `${home} ${transport}`)]), row(['---', ...COLUMNS.map(() => '---')])];
  for (const fault of MATRIX) {
    const own = COLUMNS.map(([, transport, peers]) => cell(cells.filter(c => c.fault === fault && c.transport === transport && peers.includes(c.peer))));
    lines.push(row([fault.title, ...own]));
  }
  return lines;
}

/** The worst of its rounds. */
function cell(rounds) {
  if (rounds.length === 0) return '–';
  const counts = `${sum(rounds, 'lost')} / ${sum(rounds, 'doubled')}`;
  if (rounds.some(round => !round.ok)) return `**FAIL** ${counts}`;
  return `${counts}, ${seconds(Math.max(...rounds.map(round => round.recover)))}`;
}

function ladder(results) {
  const found = results.filter(result => result.scenario);
  const lines = [row(['', ...HOMES.map(([title]) => title)]), row(['---', ...HOMES.map(() => '---')])];
  for (const scenario of SCENARIOS) {
    const own = HOMES.map(([, peer]) => outcome(found.filter(r => r.scenario === scenario && r.peer === peer)));
    if (own.some(text => text !== '–')) lines.push(row([scenario.name, ...own]));
  }
  return lines;
}

function outcome(rounds) {
  if (rounds.length === 0) return '–';
  if (rounds.some(round => !round.ok)) return '**FAIL**';
  const [{ note, recover }] = rounds;
  const times = rounds.map(round => round.recover).filter(ms => ms !== undefined);
  return ['ok', note, recover === undefined ? '' : `recovered in ${seconds(Math.max(...times))}`].filter(Boolean).join(', ');
}
