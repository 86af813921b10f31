// Takes the snippets out of the documents: fenced blocks in a language that something here can run, and those of plain
// text that say what goes over a WebSocket, in lines that begin with `>` and `<`.

import fs from 'node:fs';
import path from 'node:path';

const RUNNABLE = ['bash', 'console', 'frames', 'html', 'javascript', 'js', 'mjs', 'py', 'python', 'sh', 'shell', 'ts',
  'typescript'];
const FOLDERS = ['.', 'capi', 'client', 'console', 'load'];

// All documents that people read, from the top folder.
export function documents(top) {
  const found = FOLDERS.flatMap(folder => list(top, folder, false));
  return [...found, ...list(top, 'docs', true)].sort();
}

function list(top, folder, deep) {
  const at = path.join(top, folder);
  if (!fs.existsSync(at)) return [];
  return fs.readdirSync(at, { withFileTypes: true, recursive: deep })
    .filter(entry => entry.isFile() && entry.name.endsWith('.md'))
    .map(entry => path.relative(top, path.join(entry.parentPath ?? entry.path, entry.name)));
}

// The snippets of a document, each with its language, text and first line's number.
export function snippets(text) {
  const found = [];
  let open;
  text.split('\n').forEach((line, at) => {
    const fence = line.match(/^( *)(`{3,})([\w-]*)/);
    if (!open && fence) {
      open = { fence: fence[2], indent: fence[1].length, language: fence[3].toLowerCase(), line: at + 2, lines: [] };
    } else if (open && line.trim() === open.fence) {
      const text = `${open.lines.join('\n')}\n`;
      const language = open.language === 'text' && /^[<>] /m.test(text) ? 'frames' : open.language;
      if (RUNNABLE.includes(language)) found.push({ language, line: open.line, text });
      open = undefined;
    } else if (open) {
      open.lines.push(line.slice(Math.min(open.indent, line.search(/\S|$/))));
    }
  });
  return found;
}
