// One line a test: `ok`, `FAIL` or `SKIPPED`; at the end the sum.
export default async function* report(source) {
  let passed = 0, failed = 0;
  for await (const { type, data } of source) {
    if (type != "test:pass" && type != "test:fail") continue;
    // Groups and files: their tests are told one by one.
    if (data.details?.error?.failureType == "subtestsFailed" || data.name.endsWith(".mjs")) continue;
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
  yield `${passed} passed, ${failed} failed\n`;
}
