// Compiled, not run: what may be written with the package's types, and what may not.
import Holdline, { Holdline as Named, type Gap, type HoldlineMessage, type StateChange } from "holdline";

const line: Holdline = new Holdline();
new Named("https://example.org/base", { transports: ["sse", "poll"], token: "t", queue: 10, heartbeat: 30, buffer: 100 });
new Holdline(new URL("https://example.org"), { token: async (isRefused: boolean) => (isRefused ? "new" : undefined), since: "10m", gap: "live" });
new Holdline(".", { fetch: globalThis.fetch, WebSocket: globalThis.WebSocket });
// @ts-expect-error there is no such transport
new Holdline(".", { transports: ["pigeon"] });
// @ts-expect-error there is no such option
new Holdline(".", { tokens: "t" });
// @ts-expect-error seconds are a number
new Holdline(".", { heartbeat: "30" });

const cursor: string | null = line.cursor;
const at: Date | null = line.retryAt === null ? null : new Date(line.retryAt);
const ready: 0 | 1 | 2 = line.readyState;
if (line.state === "waiting" && line.transport !== "ws") void [cursor, at, ready];
// @ts-expect-error what the line is at is not for others to say
line.cursor = "e-1";
// @ts-expect-error there is no such state
if (line.state === "lost") void 0;

line.onstate = ({ state, reason, code, retryAt, transport, detail }) => void [state satisfies StateChange["state"], reason.length, code satisfies number | "token", retryAt, transport, detail.state];
line.addEventListener("gap", ({ detail }) => void (detail satisfies Gap).channels.join());
line.addEventListener("message", function (event) {
  const id: string = event.lastEventId;
  const time: number = event.time;
  void [id, time, event.channel, event.contentType, event.event, this.cursor];
});
line.addEventListener("close", (event) => void [event.final satisfies true, event.code, event.reason], { once: true });
line.addEventListener("error", (event) => void [event.channel?.length, event.reason]);
line.addEventListener("open", { handleEvent: (event) => void (event.transport satisfies "ws" | "sse" | "poll") });
line.addEventListener("an event of one's own", (event: Event) => void event.type);
line.onmessage = null;
// @ts-expect-error a state has no such field
line.onstate = ({ status }) => void status;

const sub = line.subscribe<{ gold: number }>("news", { since: "earliest", gap: "live" });
sub.onmessage = ({ data }) => data.gold.toFixed();
sub.onlive = ({ channel }) => channel.length;
sub.onclose = ({ code, reason }) => void [code, reason];
async function read() {
  for await (const message of sub) {
    const price: number = message.data.gold;
    const whole: HoldlineMessage<{ gold: number }> = message;
    if (price > 1) void whole;
  }
  const { id, subscribers } = await line.publish("news", new Uint8Array([1]), { event: "e", type: "image/png", ttl: 0, idempotencyKey: "k" });
  void [id.length, subscribers + 1];
  // @ts-expect-error a time to live is a number
  await line.publish("news", "text", { ttl: "1" });
}
void read;
// @ts-expect-error a channel has a name
line.subscribe();
sub.close();
line.close();
