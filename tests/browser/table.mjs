// What was found as Markdown, put between its markers into a page that has other things around it.

import fs from 'node:fs';
import { MATRIX } from './faults.mjs';
import { SCENARIOS } from './scenarios.mjs';

/** Node has event streams and polls by itself and WebSockets by what is injected: one column each. */
const COLUMNS = [
  ['Chromium', 'ws', ['chromium']], ['Chromium', 'sse', ['chromium']], ['Chromium', 'poll', ['chromium']],
  ['Firefox', 'ws', ['firefox']], ['Firefox', 'sse', ['firefox']], ['Firefox', 'poll', ['firefox']],
  ['Node', 'ws', ['node+ws']], ['Node', 'sse', ['node']], ['Node', 'poll', ['node']],
];
const HOMES = [['Chromium', 'chromium'], ['Firefox', 'firefox'], ['Node', 'node'], ['Node with ws', 'node+ws']];

const seconds = ms => `${(ms / 1000).toFixed(1)} s`;
const row = cells => `| ${cells.map(text => text.replaceAll('|', '\\|')).join(' | ')} |`;
const sum = (list, field) => list.reduce((total, result) => total + (result[field] ?? 0), 0);

/**
 * Writes what was found into `file`. What was not run this time stays as it was; the line of a browser is about its last
 * whole run.
 */
export function written(file, results, homes, { seed, only }) {
  const old = kept(file);
  put(file, 'matrix', [...headlines(results, homes, seed, only, old), '', ...merged(matrix(results), old), '', ...merged(outcomes(results), old)]);
}

/** The same for clients that were broken on purpose. */
export function writtenBroken(file, results) {
  const rows = results.filter(result => result.name).map(({ ok, name, note, error }) => row([name.replace('broken: ', ''), ok ? note : `**not seen**: ${error}`]));
  put(file, 'broken', [row(['a client that', 'is seen by']), row(['---', '---']), ...rows]);
}

function put(file, name, lines) {
  const begin = `<!-- ${name}:begin -->`;
  const end = `<!-- ${name}:end -->`;
  const [before, rest] = fs.readFileSync(file, 'utf8').split(begin);
  const after = rest?.split(end)[1];
  if (after === undefined) throw new Error(`${file} has no ${begin} … ${end}`);
  fs.writeFileSync(file, `${before}${begin}\n\n${lines.join('\n')}\n\n${end}${after}`);
}

/** What the page says by now: lines by how they begin, rows of tables as cells. */
function kept(file) {
  const text = fs.readFileSync(file, 'utf8').split('<!-- matrix:begin -->')[1].split('<!-- matrix:end -->')[0];
  const lines = text.split('\n').filter(line => line.startsWith('|') || line.startsWith('* '));
  return new Map(lines.map(line => [line.startsWith('* ') ? line.split(' ')[1] : cellsOf(line)[0], line]));
}

const cellsOf = line => line.slice(2, -2).split(' | ');

function merged(lines, old) {
  return lines.map(line => {
    const cells = cellsOf(line);
    const before = old.has(cells[0]) ? cellsOf(old.get(cells[0])) : [];
    return row(cells.map((cell, at) => (cell === '–' ? before[at] ?? cell : cell)));
  }).filter(line => cellsOf(line).some((cell, at) => at > 0 && cell !== '–'));
}

/** A line for each browser. */
function headlines(results, homes, seed, only, old) {
  return HOMES.flatMap(([, peer]) => {
    const own = results.filter(result => result.peer === peer);
    const name = `\`${peer}\``;
    if (own.length === 0 || only) return old.has(name) ? [old.get(name)] : [];
    const date = new Date().toISOString().slice(0, 10);
    return [`* ${name} is ${homes[peer]}; ${date}, seed ${seed}: ${own.length} tests, ${sum(own, 'received')} messages received, `
      + `${sum(own, 'lost')} lost, ${sum(own, 'doubled')} doubled`];
  });
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
  if (rounds.some(round => !round.ok)) return `**FAIL**, ${counts}`;
  return `${counts}, ${seconds(Math.max(...rounds.map(round => round.recover)))}`;
}

function outcomes(results) {
  const found = results.filter(result => result.scenario);
  const lines = [row(['', ...HOMES.map(([title]) => title)]), row(['---', ...HOMES.map(() => '---')])];
  for (const scenario of SCENARIOS) {
    const own = HOMES.map(([, peer]) => outcome(found.filter(r => r.scenario === scenario && r.peer === peer)));
    lines.push(row([scenario.name, ...own]));
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
