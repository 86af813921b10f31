#!/usr/bin/env bash
# Runs the Autobahn suite's fuzzing client against an echo server and compares what it found with expected.txt.
#
#   .ci/autobahn/run.sh http://127.0.0.1:PORT VIRTUALENV
#
# After a wanted change: UPDATE=1 in front writes expected.txt anew. Only OK and INFORMATIONAL may stand there.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

sed "s|SERVER|ws${1#http}|; s|REPORTS|$out/reports|" "$here/fuzzingclient.json" >"$out/spec.json"
"$2/bin/wstest" -m fuzzingclient -s "$out/spec.json" >"$out/log" 2>&1 || {
  tail -n 30 "$out/log"
  exit 1
}
python3 "$here/summary.py" "$out/reports/index.json" >"$out/result.txt"

[ -z "${UPDATE:-}" ] || cp "$out/result.txt" "$here/expected.txt"
bad=0
diff -u "$here/expected.txt" "$out/result.txt" || bad=1
grep -vE '^\S+ (OK OK|INFORMATIONAL INFORMATIONAL)$' "$out/result.txt" && bad=1
echo "$(grep -c ' OK OK$' "$out/result.txt") OK, $(grep -c INFORMATIONAL "$out/result.txt") informational, of $(wc -l <"$out/result.txt") cases"
exit "$bad"
