// The browsers' client, as it was served below a path, over the proxy's TLS: what it publishes comes back by each
// transport that Node has.
//
//   NODE_TLS_REJECT_UNAUTHORIZED=0 node below.mjs CLIENT.mjs https://rt.example:PORT/realtime
import dns from "node:dns";
import process from "node:process";

const lookUp = dns.lookup;
dns.lookup = (name, ...more) => lookUp("127.0.0.1", ...more); // every name is this machine

const [client, base] = process.argv.slice(2);
const { default: Holdline } = await import(client);
const deadline = setTimeout(() => fail("nothing came"), 60_000);

function fail(why) {
  console.error(why);
  process.exit(1);
}

for (const transport of ["sse", "poll"]) {
  const line = new Holdline(base, { transports: [transport] });
  const refused = (event) => fail(`${transport}: ${event.code} ${event.reason}`);
  line.addEventListener("close", refused);
  const subscription = line.subscribe("below");
  await new Promise((resolve) => subscription.addEventListener("live", resolve, { once: true }));
  const came = new Promise((resolve) => subscription.addEventListener("message", resolve, { once: true }));
  await line.publish("below", { by: transport });
  const { data } = await came;
  if (data.by !== transport || line.transport !== transport) fail(JSON.stringify([data, line.transport]));
  line.removeEventListener("close", refused);
  line.close();
}
clearTimeout(deadline);
console.log("sse, poll");
process.exit(0);
