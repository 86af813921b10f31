// Says what a client lost, got twice, got in the wrong order or was told wrongly. Pure: it knows two lists, what was
// published and what the client wrote down, and neither the client nor the network.
//
// A message counts as announced lost only if a gap names its channel, stands where the message should have been, and
// its own limits hold the message: after `since`, not after `resumed`.

/** `epoch-seq` → { epoch, seq }, or null. */
export function position(cursor) {
  const found = /^([A-Za-z0-9]{6,12})-(0|[1-9][0-9]{0,19})$/.exec(cursor ?? '');
  return found && { epoch: found[1], seq: BigInt(found[2]) };
}

/** What was published, in order: { channel, n, id, t }, `id` null if the answer never came. */
export class Ledger {
  published = [];
  #byKey = new Map();

  /** Before it is sent. `t` is when. */
  offer(channel, n, t) {
    const entry = { channel, n, id: null, t, index: this.published.length };
    this.published.push(entry);
    this.#byKey.set(`${channel}\n${n}`, entry);
    return entry;
  }

  find(channel, n) {
    return this.#byKey.get(`${channel}\n${n}`);
  }

  /** Those that the server has confirmed. */
  confirmed() {
    return this.published.filter(entry => entry.id !== null);
  }
}

/**
 * Judges a log of { k: 'message', t, channel, n, id } and { k: 'gap', t, channels, reason, since, resumed }, other
 * kinds ignored. `from`: what was published before it is not owed. `channels`: only what is of these is owed. `apart`: the
 * channels were not asked for together, so there is an order in each of them only. Returns { received, lost, announced, doubled,
 * disordered, strange, gaps }, lists of sentences but for `received`, `announced` and `gaps`.
 */
export function judge(ledger, log, { from = 0, channels = null, apart = false } = {}) {
  const owed = ledger.confirmed().filter(e => e.t >= from && (!channels || channels.includes(e.channel)));
  const got = new Map(); // ledger entry → place in the log
  const verdict = { received: 0, lost: [], announced: 0, doubled: [], disordered: [], strange: [], gaps: [] };
  const last = new Map(); // channel → n
  let newest = null; // position over all channels
  log.forEach((entry, at) => {
    if (entry.k === 'gap') {
      verdict.gaps.push({ ...entry, at });
      newest = null; // a gap may lead back: what is kept of a new epoch comes after it
      return;
    }
    if (entry.k !== 'message') return;
    const known = ledger.find(entry.channel, entry.n);
    if (!known) return verdict.strange.push(`${entry.channel} ${entry.n} (${entry.id}) was never published`);
    if (known.id !== null && known.id !== entry.id) verdict.strange.push(`${entry.channel} ${entry.n} came as ${entry.id}, is ${known.id}`);
    if (got.has(known)) return verdict.doubled.push(`${entry.channel} ${entry.n} (${entry.id})`);
    got.set(known, at);
    verdict.received++;
    if (entry.n < (last.get(entry.channel) ?? -Infinity)) verdict.disordered.push(`${entry.channel} ${entry.n} after ${last.get(entry.channel)}`);
    last.set(entry.channel, Math.max(entry.n, last.get(entry.channel) ?? -Infinity));
    const here = position(entry.id);
    if (!here) return verdict.strange.push(`${entry.channel} ${entry.n} has the id ${entry.id}`);
    if (!apart && newest && newest.epoch === here.epoch && here.seq < newest.seq) verdict.disordered.push(`${entry.id} after ${newest.epoch}-${newest.seq}`);
    if (newest && newest.epoch !== here.epoch) verdict.strange.push(`${entry.id} after ${newest.epoch}-${newest.seq} without a gap`);
    newest = here;
  });
  for (const entry of owed) {
    if (got.has(entry)) continue;
    if (verdict.gaps.some(gap => covers(gap, entry, ledger, got))) verdict.announced++;
    else verdict.lost.push(`${entry.channel} ${entry.n} (${entry.id})`);
  }
  return verdict;
}

/** Whether this gap owns up to this message. */
function covers(gap, entry, ledger, got) {
  if (!gap.channels?.includes(entry.channel)) return false;
  const lost = position(entry.id);
  const since = position(gap.since);
  const resumed = position(gap.resumed);
  if (!resumed) return false;
  // Within its own limits, in each epoch that it speaks of.
  if (lost.epoch === resumed.epoch && lost.seq > resumed.seq) return false;
  if (since && lost.epoch === since.epoch && lost.seq <= since.seq) return false;
  if (lost.epoch !== resumed.epoch && since && lost.epoch !== since.epoch) return false;
  // And told where the message should have been: nothing older of its channel comes after, nothing newer before.
  for (const [other, at] of got) {
    if (other.channel !== entry.channel) continue;
    if (other.index < entry.index && at > gap.at) return false;
    if (other.index > entry.index && at < gap.at) return false;
  }
  return true;
}

/**
 * How long, from `from` on, until nothing was overdue any more: the arrival of the last message that was published
 * before `until` and came more than `slack` ms late. 0 if none was. null if something is still owed.
 */
export function recovery(ledger, log, from, { until = Infinity, slack = 300, channels = null } = {}) {
  const arrived = new Map(log.filter(e => e.k === 'message').map(e => [`${e.channel}\n${e.n}`, e.t]));
  let last = from;
  for (const { channel, n, t, id } of ledger.published) {
    if (id === null || t > until || (channels && !channels.includes(channel))) continue;
    const at = arrived.get(`${channel}\n${n}`);
    if (at !== undefined && at > from && at - t > slack) last = Math.max(last, at);
  }
  return last - from;
}
