// Just enough of HTTP/1.1 to know where a head and where an answer ends. It reads; it never changes a byte.

import crypto from 'node:crypto';

const HEAD_END = Buffer.from('\r\n\r\n');
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** Splits bytes at the end of a head: null as long as that has not come. */
export function splitHead(bytes) {
  const at = bytes.indexOf(HEAD_END);
  if (at < 0) return null;
  return { head: bytes.subarray(0, at + 4), rest: bytes.subarray(at + 4) };
}

/** The first line and the fields of a head, names in lower case. */
export function parseHead(head) {
  const [first, ...lines] = head.toString('latin1').trimEnd().split('\r\n');
  const fields = new Map(lines.map(line => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  return { first, fields };
}

/** Follows one answer. `push` takes bytes; `ended` says that it is complete, `tunnel` that it was a 101. */
export class Answer {
  #kept = Buffer.alloc(0);
  #left = 0;
  #state = 'head';
  status = 0;
  ended = false;
  tunnel = false;

  push(bytes) {
    let rest = bytes;
    while (rest.length > 0 && !this.ended && !this.tunnel) rest = this.#step(rest);
  }

  #step(bytes) {
    switch (this.#state) {
      case 'head': return this.#head(bytes);
      case 'length': return this.#length(bytes, 'end');
      case 'size': return this.#size(bytes);
      case 'chunk': return this.#length(bytes, 'size');
      default: return bytes.subarray(bytes.length); // until the connection closes
    }
  }

  #head(bytes) {
    this.#kept = Buffer.concat([this.#kept, bytes]);
    const split = splitHead(this.#kept);
    if (!split) return bytes.subarray(bytes.length);
    this.#kept = Buffer.alloc(0);
    const { first, fields } = parseHead(split.head);
    this.status = Number(first.split(' ')[1]);
    const length = Number(fields.get('content-length') ?? -1);
    if (this.status === 101) this.tunnel = true;
    else if (this.status === 204 || this.status === 304 || length === 0) this.#to('end');
    else if (/chunked/i.test(fields.get('transfer-encoding') ?? '')) this.#to('size');
    else if (length > 0) this.#to('length', length);
    else this.#to('close');
    return split.rest;
  }

  #size(bytes) {
    this.#kept = Buffer.concat([this.#kept, bytes]);
    const at = this.#kept.indexOf('\r\n');
    if (at < 0) return bytes.subarray(bytes.length);
    const size = parseInt(this.#kept.subarray(0, at).toString('latin1'), 16);
    const rest = this.#kept.subarray(at + 2);
    this.#kept = Buffer.alloc(0);
    if (size === 0) this.#to('end'); // our server sends no trailers; the last empty line is passed on with the rest
    else this.#to('chunk', size + 2);
    return rest;
  }

  #length(bytes, after) {
    const taken = Math.min(bytes.length, this.#left);
    this.#left -= taken;
    if (this.#left === 0) this.#to(after);
    return bytes.subarray(taken);
  }

  #to(state, left = 0) {
    this.#state = state;
    this.#left = left;
    this.ended = state === 'end';
  }
}

/** A whole answer of our own. */
export function answer(status, fields = {}, body = '') {
  const names = { 200: 'OK', 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 502: 'Bad Gateway', 503: 'Service Unavailable' };
  const lines = [`HTTP/1.1 ${status} ${names[status] ?? 'Status'}`, `Content-Length: ${Buffer.byteLength(body)}`];
  for (const [name, value] of Object.entries(fields)) lines.push(`${name}: ${value}`);
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`);
}

/** A 101 to that request, and a Close frame with a code. */
export function openAndClose(fields, code, reason) {
  const key = fields.get('sec-websocket-key') ?? '';
  // A browser that offered some wants one of them.
  const [protocol] = (fields.get('sec-websocket-protocol') ?? '').split(',');
  const chosen = protocol ? `Sec-WebSocket-Protocol: ${protocol.trim()}\r\n` : '';
  const accept = crypto.createHash('sha1').update(key + GUID).digest('base64');
  const head = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${chosen}\r\n`;
  const body = Buffer.alloc(2 + Buffer.byteLength(reason));
  body.writeUInt16BE(code);
  body.write(reason, 2);
  return Buffer.concat([Buffer.from(head), Buffer.from([0x88, body.length]), body]);
}
