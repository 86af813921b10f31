// What is published, and what must come out again: a number in each of the three payload forms, with padding that
// follows from it, so that a byte that was lost or swapped shows. Runs in pages and in Node.

const PAD = 'grün żółć 漢字 😀 \u2028\\"\n';

function padding(n) {
  const length = n % 50 === 49 ? 9000 : n % 7 * 11;
  return PAD.repeat(Math.ceil(length / PAD.length)).slice(0, length).replace(/[\ud800-\udbff]$/, '');
}

/** The fields of a publication. */
export function make(n) {
  const pad = padding(n);
  switch (n % 3) {
    case 0: return { data: { n, pad } };
    case 1: return { text: `${n} ${pad}` };
    default: return { b64: base64(new TextEncoder().encode(`${n} ${pad}`)) };
  }
}

/** The number that a client's `data` has; throws if it is not what was published. */
export function read(data) {
  const { n, pad } = split(data);
  if (pad !== padding(n)) throw new Error(`message ${n} is not what was published: ${JSON.stringify(data).slice(0, 200)}`);
  return n;
}

function split(data) {
  if (data instanceof Uint8Array) return split(new TextDecoder().decode(data));
  if (typeof data !== 'string') return data;
  const space = data.indexOf(' ');
  return { n: Number(data.slice(0, space)), pad: data.slice(space + 1) };
}

function base64(bytes) {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
