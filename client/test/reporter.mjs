// One line a test: `ok`, `FAIL` or `SKIPPED`; at the end the sum.
export default async function* report(source) {
  let passed = 0, failed = 0;
  const files = [];
  for await (const { type, data } of source) {
    if (type != "test:pass" && type != "test:fail") continue;
    // Groups and files: their tests are told one by one.
    if (data.details?.error?.failureType == "subtestsFailed") continue;
    if (data.name.endsWith(".mjs")) {
      if (type == "test:fail") files.push(data.name);
      continue;
    }
    if (data.skip !== undefined) yield `SKIPPED  ${data.name} ${data.skip === true ? "" : data.skip}\n`;
    else if (type == "test:pass") {
      passed++;
      yield `ok    ${data.name}${data.details.duration_ms > 8000 ? ` (${(data.details.duration_ms / 1000).toFixed()} s)` : ""}\n`;
    } else {
      failed++;
      const error = data.details?.error?.cause ?? data.details?.error;
      yield `FAIL  ${data.name}\n${String(error?.stack ?? error).replace(/^/gm, "      ")}\n`;
    }
  }
  // A file may fail by what happens between its tests.
  if (!failed && files.length) {
    failed = files.length;
    yield `FAIL  outside of a test, in ${files.join(", ")}\n`;
  }
  yield `${passed} passed, ${failed} failed\n`;
}
