# Sourced by run and by the scripts beside it: servers that end with their script, and checks that print a line each.

export CURL_HOME=/nonexistent # no .curlrc of whoever runs this
export NO_PROXY=127.0.0.1,localhost,::1 no_proxy=127.0.0.1,localhost,::1
unset ${!HOLDLINE_@} # each option is a variable too; what is started here has the defaults

work=$(mktemp -d)
started=()

# What this shell started, no more.
end_started() {
  local pid
  for pid in ${started[@]+"${started[@]}"}; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}

clean_up() {
  end_started
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# serve COMMAND…: starts a server and waits for its first line. Sets $served (its id), $base (http://ADDR:PORT,
# empty if it has only a unix socket) and $printed (the file with its stdout).
serve() {
  printed=$(mktemp "$work/served.XXXXXX")
  "$@" >"$printed" 2>"$printed.err" </dev/null &
  served=$!
  started+=("$served")
  local tries
  for ((tries = 0; tries < 200; tries++)); do
    if grep -q '^listening on ' "$printed"; then
      base=$(sed -n '/^listening on http/{s/^listening on //p;q}' "$printed")
      return
    fi
    kill -0 "$served" 2>/dev/null || break
    sleep 0.05
  done
  echo "$* does not listen:"
  cat "$printed" "$printed.err"
  return 1
}

passed=0
failed=0

# check NAME FUNCTION: runs it in a shell of its own that stops at its first failure.
check() {
  local status=0 said="$work/said"
  set +e
  (
    set -e
    started=()
    trap end_started EXIT
    "$2"
  ) >"$said" 2>&1
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    passed=$((passed + 1))
    echo "ok    $1"
  else
    failed=$((failed + 1))
    echo "FAIL  $1 (status $status)"
    tail -n 20 "$said" | cut -c 1-400 | sed 's/^/      /'
  fi
}

# same WHAT EXPECTED GOT
same() {
  [ "$2" = "$3" ] && return
  printf '%s: expected %q, came %q\n' "$@"
  return 1
}

# contains WHAT PART TEXT
contains() {
  case $3 in *"$2"*) return ;; esac
  printf '%s: expected %q in it, came %q\n' "$@"
  return 1
}

# lacks WHAT PART TEXT
lacks() {
  case $3 in *"$2"*) ;; *) return ;; esac
  printf '%s: did not expect %q in it, came %q\n' "$@"
  return 1
}

# eventually WHAT COMMAND…: until it succeeds, for at most ten seconds.
eventually() {
  local what=$1 end=$((SECONDS + 10))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "waited in vain: $what"
      return 1
    fi
    sleep 0.05
  done
}

tally() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}
