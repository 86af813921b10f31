// Drives the four browser examples as two people would. See `run` beside this.

import path from 'node:path';

import * as lib from '../support/shared.mjs';

const [programs, shots] = process.argv.slice(2);
const HOSTILE = '<img src=x onerror="document.title=\'broken in\'"><script>document.title="broken in"</script>';
const HOSTILE_NAME = HOSTILE.replaceAll(' ', '/').slice(0, 64);

// Where there is no browser, each example says so.
let lacks;
const chromium = await lib.chromium().catch(error => { lacks = error.message; });
// What Ann and Bob have before them.
const wide = await chromium?.newContext({ viewport: { width: 1000, height: 640 }, colorScheme: 'light' });
const phone = await chromium?.newContext({ viewport: { width: 390, height: 760 }, colorScheme: 'dark' });

// ---------------------------------------------------------------- two people

// Ann sits beside the server; Bob's wire may be cut.
async function meet(name, run) {
  if (lacks) throw new lib.Skip(lacks);
  const server = await lib.serve(path.join(programs, name), '127.0.0.1:0');
  const wire = await lib.wire(server.port);
  const people = [];
  try {
    const [ann, bob] = await Promise.all([come(wide, server.base, people), come(phone, wire.base, people)]);
    await run({ ann, bob, server, wire });
    for (const [person, page] of [['ann', ann], ['bob', bob]]) {
      if (page.errors.length) throw new Error(`${person}'s page: ${page.errors}`);
      if (await page.title() === 'broken in') throw new Error(`${person}'s page ran what somebody published`);
    }
    await shoot(ann, 'light');
    await shoot(bob, 'dark-phone');
  } finally {
    for (const page of people) await page.close();
    wire.close();
    await server.stop();
  }
}

async function come(context, base, people) {
  const page = await context.newPage();
  people.push(page);
  page.errors = [];
  page.asked = [];
  page.on('pageerror', error => page.errors.push(error.message));
  page.on('console', message => {
    // A wire that is cut is told there by the browser itself, and the icon that no example has.
    const own = /net::ERR_|WebSocket connection to|favicon\.ico/;
    const isOwn = own.test(message.text() + message.location().url);
    if (message.type() === 'error' && !isOwn) page.errors.push(message.text());
  });
  page.on('request', request => page.asked.push(new URL(request.url()).pathname));
  page.on('websocket', socket => page.asked.push(new URL(socket.url()).pathname));
  await page.goto(base);
  await is(page, 'open');
  return page;
}

async function shoot(page, what) {
  const name = `${(await page.title()).toLowerCase()}-${what}.png`;
  if (shots) await page.screenshot({ path: path.join(shots, name), animations: 'disabled' });
}

const state = page => page.getAttribute('#state', 'data-state');
const is = (page, wanted) => lib.becomes(`the page says that it is ${wanted}`, async () => {
  const now = await state(page);
  return now === wanted || `${now}: ${await page.textContent('#state')}; ${page.errors}`;
});
const texts = (page, selector) => page.locator(selector).allTextContents();
const count = (list, part) => list.filter(text => text.includes(part)).length;

// Cuts the wire, sees that it is told, does something meanwhile, and waits until all is well again.
async function through({ bob, wire }, meanwhile) {
  wire.sever();
  await lib.becomes('the page says that it is cut off', async () => {
    const text = await bob.textContent('#state');
    return /^cut off; next try \d/.test(text) || text;
  });
  await meanwhile();
  await shoot(bob, 'cut-off');
  wire.mend();
  await is(bob, 'open');
}

// ---------------------------------------------------------------- the examples

async function chat(room) {
  const { ann, bob, server } = room;
  const say = async (page, text) => {
    await page.fill('[name=text]', text);
    await page.press('[name=text]', 'Enter');
  };
  const heard = (page, text) => lib.becomes(`${text} is heard, once`, async () =>
    count(await texts(page, '#messages li'), text) === 1 && count(await texts(page, '#drafts li'), text) === 0
      || texts(page, 'li'));
  await ann.fill('[name=name]', 'Ann');
  await bob.fill('[name=name]', 'Bob');
  await say(ann, 'Hello, anybody there?');
  await heard(bob, 'Hello, anybody there?');
  await say(bob, 'Me! And this is only text: <b>bold</b>');
  await heard(ann, '<b>bold</b>');
  await through(room, async () => {
    await say(ann, 'said while Bob was cut off');
    await say(bob, 'said by Bob while he was');
    await lib.becomes('it waits', async () => count(await texts(bob, '#drafts li'), 'while he was') === 1);
  });
  for (const page of [ann, bob]) {
    await heard(page, 'said while Bob was cut off');
    await heard(page, 'said by Bob while he was');
  }
  // Whatever may be published to the channel, by whoever speaks the protocol.
  for (const odd of [HOSTILE, 'null', '17', '[1]', JSON.stringify({ name: HOSTILE, text: { a: HOSTILE } })]) {
    await lib.publish(server.base, 'chat', odd, odd[0] === '<' ? {} : { 'Content-Type': 'application/json' });
  }
  await say(ann, 'Still here.');
  for (const page of [ann, bob]) {
    await heard(page, 'Still here.');
    if (await page.locator('main img, main script').count()) throw new Error('text became HTML');
  }
  await ann.reload(); // who comes late is given all of it
  await heard(ann, 'Hello, anybody there?');
  if (!ann.asked.includes('/ws') || ann.asked.includes('/poll')) throw new Error(`it asked for ${ann.asked}`);
  for (const [method, channel] of [['POST', 'other'], ['DELETE', 'chat']]) {
    const { status } = await fetch(`${server.base}/channels/${channel}`, { method });
    if (status !== 403) throw new Error(`${method} of ${channel}: ${status}`);
  }
}

async function dashboard(room) {
  const { ann, bob, server } = room;
  const card = (page, name) => page.locator('article').filter({ has: page.locator('h2', { hasText: name }) });
  const shows = (page, name, value) => lib.becomes(`${name} is ${value}`, async () => {
    const now = await card(page, name).locator('strong').textContent({ timeout: 1000 });
    return now === value || now;
  });
  const measure = (name, value) => lib.publish(server.base, 'sensors', value, { Event: name });
  await card(ann, 'greenhouse').waitFor();
  await measure('cellar', '12.5');
  for (const page of [ann, bob]) await shows(page, 'cellar', '12.5');
  await through(room, async () => {
    for (const value of ['13', '14.5', '14', '15.3']) await measure('cellar', value);
  });
  await shows(bob, 'cellar', '15.3');
  // The curve has every reading, each of them once; also for who comes late.
  await ann.reload();
  for (const page of [ann, bob]) {
    await lib.becomes('five readings', async () => {
      const curve = await card(page, 'cellar').locator('path').getAttribute('d', { timeout: 1000 });
      return /^M[^ML]+(L[^ML]+){4}$/.test(curve) || curve;
    });
  }
  for (const odd of [HOSTILE, '', 'NaN', '1e999', '{"value":{}}', 'true']) {
    await lib.publish(server.base, 'sensors', odd, odd === HOSTILE ? { Event: HOSTILE_NAME } : {});
  }
  await measure('<i>attic</i>', '31');
  for (const page of [ann, bob]) {
    await shows(page, '<i>attic</i>', '31');
    if (await page.locator('img, i').count()) throw new Error('text became HTML');
  }
  if (!ann.asked.includes('/events') || ann.asked.includes('/ws')) throw new Error(`it asked for ${ann.asked}`);
}

async function scoreboard(room) {
  const { ann, bob, server } = room;
  const points = (page, team) => page.locator(`[data-team=${team}] output`).textContent();
  const score = (page, team, by) => page.click(`[data-team=${team}] [data-by="${by}"]`);
  const shows = (page, team, wanted) => lib.becomes(`${team} has ${wanted}`, async () => {
    const now = await points(page, team);
    return now === wanted || now;
  });
  await score(ann, 'Red', 1);
  await score(bob, 'Blue', 1);
  for (const page of [ann, bob]) {
    await shows(page, 'Red', '1');
    await shows(page, 'Blue', '1');
  }
  await through(room, async () => {
    for (let goal = 0; goal < 3; goal++) await score(ann, 'Gold', 1);
    await score(ann, 'Red', -1);
    if (await bob.locator('button:enabled').count()) throw new Error('who is cut off can still press');
  });
  await shows(bob, 'Gold', '3');
  await shows(bob, 'Red', '0');
  await score(bob, 'Gold', 1);
  await shows(ann, 'Gold', '4');
  // Nobody but the program says what the score is, and the referee takes no nonsense.
  const forged = await fetch(`${server.base}/channels/score`, { method: 'POST', body: '{"team":"Red","points":99}' });
  if (forged.status !== 403) throw new Error(`a score was taken: ${forged.status}`);
  for (const odd of ['', 'null', '[]', '{"team":"Red","by":7}', '{"team":"Grey","by":1}', HOSTILE]) {
    await lib.publish(server.base, 'goals', odd);
  }
  await score(ann, 'Green', 1);
  await shows(bob, 'Green', '1');
  const all = await Promise.all(['Red', 'Blue', 'Green', 'Gold'].map(team => points(bob, team)));
  if (`${all}` !== '0,1,1,4') throw new Error(`the scores are ${all}`);
  await ann.reload();
  await shows(ann, 'Gold', '4');
  const places = await ann.locator('section').evaluateAll(all => all
    .sort((a, b) => a.getBoundingClientRect().x - b.getBoundingClientRect().x).map(section => section.dataset.team));
  if (`${places}` !== 'Red,Blue,Green,Gold') throw new Error(`they stand as ${places}`);
  const paths = [...new Set([...ann.asked, ...bob.asked])].sort();
  if (`${paths}` !== '/,/client.js,/poll,/publish') throw new Error(`it asked for ${paths}`);
}

async function cursors(room) {
  const { ann, bob, server } = room;
  // Where they are, as `x y`, to a tenth of the board.
  const places = (page, kind) => page.locator(kind).evaluateAll(all => all.map(({ style }) =>
    ['--x', '--y'].map(name => Number(style.getPropertyValue(name)).toFixed(1)).join(' ')));
  const marks = async page => (await places(page, '.mark')).join(', ');
  const move = async (page, x, y, press) => {
    const board = await page.locator('main').boundingBox();
    await page.mouse.move(board.x + board.width * x, board.y + board.height * y);
    if (press) await page.mouse.down().then(() => page.mouse.up());
  };
  const at = (page, wanted) => lib.becomes(`a cursor at ${wanted}`, async () => {
    const [now] = await places(page, '.cursor');
    return now === wanted || now;
  });
  await move(ann, 0.3, 0.4);
  await at(bob, '0.3 0.4');
  await move(bob, 0.6, 0.7);
  await at(ann, '0.6 0.7');
  await at(bob, '0.3 0.4'); // nobody is shown to themselves
  await through(room, async () => {
    for (const x of [0.2, 0.5, 0.8]) await move(ann, x, 0.2, true);
  });
  await at(bob, '0.8 0.2');
  await ann.reload(); // the board is there for who comes late
  for (const page of [ann, bob]) {
    await lib.becomes('three marks', async () => await marks(page) === '0.2 0.2, 0.5 0.2, 0.8 0.2' || marks(page));
  }
  const odd = [['x', '{"x":"1;background:red","y":[]}'], [HOSTILE_NAME, 'null'], ['y', '"x"']];
  for (const [Event, body] of odd) {
    for (const channel of ['cursors', 'marks']) {
      await lib.publish(server.base, channel, body, { Event, 'Content-Type': 'application/json' });
    }
  }
  for (const page of [ann, bob]) {
    await lib.becomes('odd ones are shown', async () => {
      const names = await texts(page, '.cursor');
      const hasAll = ['x', 'y', HOSTILE_NAME.slice(0, 20)].every(name => names.includes(name));
      return hasAll && await page.locator('.mark').count() === 6 || names;
    });
    if (await page.locator('img, main script').count()) throw new Error('text became HTML');
  }
  if ((await fetch(`${server.base}/channels/marks`, { method: 'DELETE' })).status !== 403) throw new Error('wiped');
}

// ---------------------------------------------------------------- all

const EXAMPLES = { chat, dashboard, scoreboard, cursors };
await lib.together(4, Object.entries(EXAMPLES).map(([name, run]) =>
  () => lib.check(`examples/${name}: two people, a cut, hostile input`, () => meet(name, run))));
await chromium?.close();
process.exit(lib.sum());
