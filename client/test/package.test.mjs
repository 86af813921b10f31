// The package as it would be published: what is in it, that it can be installed and imported, and its types.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { event, serve, PATIENCE } from "./lib.mjs";

const client = join(dirname(fileURLToPath(import.meta.url)), "..");
const run = (cwd, command, ...args) => {
  try {
    return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    throw new Error(`${command} ${args.join(" ")}: ${error.stdout}${error.stderr}`);
  }
};

const folder = mkdtempSync(join(tmpdir(), "holdline-package-"));
test.after(() => rmSync(folder, { recursive: true }));
const [packed] = JSON.parse(run(client, "npm", "pack", "--json", "--pack-destination", folder));
run(folder, "npm", "init", "--yes");
run(folder, "npm", "install", "--offline", "--no-audit", "--no-fund", "--no-package-lock", join(folder, packed.filename));

test("package: what is in it", () => {
  assert.deepEqual(packed.files.map(({ path }) => path).sort(), ["LICENSE-APACHE", "LICENSE-MIT", "README.md",
    "dist/holdline.iife.js", "dist/holdline.min.js", "global.d.ts", "holdline.d.ts", "holdline.js", "package.json"]);
  const { dependencies, exports, sideEffects, engines, license } = JSON.parse(readFileSync(join(client, "package.json")));
  assert.deepEqual([dependencies, sideEffects, engines.node, license], [undefined, false, ">=20", "MIT OR Apache-2.0"]);
  for (const targets of Object.values(exports)) {
    for (const path of Object.values(typeof targets == "string" ? { targets } : targets)) {
      assert.ok(path.includes("*") || packed.files.some((file) => "./" + file.path == path), path);
    }
  }
});

test("package: installed and imported, it holds a line, here by an event stream", { timeout: PATIENCE }, async (t) => {
  const { base } = await serve(t);
  const script = `
    import Holdline, { Holdline as Named } from "holdline";
    if (Holdline !== Named) throw new Error("two of them");
    const line = new Holdline(${JSON.stringify(base)}), sub = line.subscribe("a");
    sub.onlive = () => line.publish("a", { n: 1 });
    sub.onmessage = ({ data }) => {
      console.log(typeof WebSocket, line.transport, JSON.stringify(data));
      line.close();
    };`;
  writeFileSync(join(folder, "main.mjs"), script);
  // Without the flag of these tests: Node 20 has no WebSocket, and what is closed lets the process end.
  const said = execFileSync(process.execPath, ["main.mjs"], { cwd: folder, encoding: "utf8", timeout: 20000 });
  const hasWebSocket = +process.versions.node.split(".")[0] >= 22;
  assert.equal(said, hasWebSocket ? 'function ws {"n":1}\n' : 'undefined sse {"n":1}\n');
});

test("package: the script makes one global, and runs where there is no window", { timeout: PATIENCE }, async (t) => {
  const { base } = await serve(t);
  const names = ["URL", "URLSearchParams", "fetch", "AbortController", "EventTarget", "Event", "MessageEvent", "TextDecoder",
    "TextEncoder", "setTimeout", "clearTimeout", "setInterval", "clearInterval", "atob", "btoa", "queueMicrotask", "WebSocket"];
  const world = vm.createContext(Object.fromEntries(names.map((name) => [name, globalThis[name]])));
  const before = Object.keys(world);
  vm.runInContext(readFileSync(join(client, "dist/holdline.iife.js"), "utf8"), world);
  assert.deepEqual(Object.keys(world).filter((name) => !before.includes(name)), ["Holdline"]);
  const line = new world.Holdline(base);
  t.after(() => line.close());
  await event(line.subscribe("a"), "live");
  assert.equal(line.transport, "ws");
});

test("package: its types, imported and as a global", (t) => {
  const places = [client, join(client, "../.ci/cache/node"), join(process.env.NODE_PATH || "/nonexistent", "..")];
  const compiler = places.map((place) => join(place, "node_modules/typescript/bin/tsc")).find(existsSync);
  if (!compiler) return t.skip("there is no TypeScript: run npm install in client/");
  const files = ["module.ts", "global.ts"].map((file) => {
    const copy = file.replace(".ts", ".mts");
    copyFileSync(join(client, "test/types", file), join(folder, copy));
    return copy;
  });
  run(folder, process.execPath, compiler, "--noEmit", "--strict", "--skipDefaultLibCheck", "--noUncheckedIndexedAccess",
    "--exactOptionalPropertyTypes", "--target", "es2020", "--lib", "es2020,dom,dom.iterable", "--module", "nodenext", ...files);
});
