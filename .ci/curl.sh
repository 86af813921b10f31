#!/usr/bin/env bash
# curl in the forms that people type it, against a running binary:
#
#   .ci/curl.sh target/release/holdline
#
# One line a check; exit status 1 if one failed.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
binary=$1
cd "$work"

# json EXPRESSION: of `d`, the JSON on stdin.
json() {
  python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"
}

# get ARGUMENT…: quiet, bounded, and an error status is no failure.
get() {
  curl -sS --max-time 20 "$@"
}

channel() {
  echo "$base/channels/$1"
}

subscribers_are() {
  [ "$(get "${@:3}" "$(channel "$1")" | json 'd["subscribers"]')" = "$2" ]
}

# kept CHANNEL: the oldest message of a channel, as it was published.
kept() {
  get "$(channel "$1")?since=earliest"
}

has() {
  grep -q -- "$1" "$2"
}

# listen FILE ARGUMENT…: a stream into a file. Sets $listener.
listen() {
  curl -sSN --max-time 60 -H 'Accept: text/event-stream' "${@:2}" >"$1" 2>"$1.err" &
  listener=$!
  started+=("$listener")
}

# hang_up: ends the stream; its end is no failure.
hang_up() {
  kill "$listener"
  wait "$listener" || true
}

# ---------------------------------------------------------------- the banner

# banner WORD: the line of the banner that starts with it.
banner() {
  sed -n "s/^  $1  *//p" "$printed"
}

# Runs what the banner of $served says, in a shell, as a person would who copies it.
follow_banner() {
  local socket=() id page
  [ $# -eq 0 ] || socket=(--unix-socket "$1")
  bash -c "exec $(banner listen)" >heard 2>/dev/null &
  listener=$!
  started+=("$listener")
  eventually 'the listener is counted' subscribers_are demo 1 ${socket[@]+"${socket[@]}"}
  id=$(bash -c "$(banner publish)" 2>/dev/null | json 'd["id"]')
  bash -c "$(banner poll)" 2>/dev/null >polled
  eventually 'the stream has it' has '^data: hello' heard
  hang_up
  same 'polled' "1 $id hello" "$(json 'len(d["messages"]), d["messages"][0]["id"], d["messages"][0]["text"]' <polled | tr -d "(),'")"
  contains 'the stream' "id: $id"$'\n'"data: hello" "$(cat heard)"
  page=$(banner watch)
  [ -z "$page" ] || contains 'the page' '<title>' "$(get -f -H 'Accept: text/html' "$page")"
}

banner_tcp() {
  local host
  serve "$binary" --listen "$1"
  follow_banner
  host=${base#http://}
  contains 'the address' "${host%:*}" "$(banner publish)"
}

banner_ipv4() { banner_tcp 127.0.0.1:0; }
banner_ipv6() { banner_tcp '[::1]:0'; }

banner_unix() {
  serve "$binary" --listen "unix:$work/only.sock"
  base=http://localhost
  follow_banner "$work/only.sock"
  kill "$served"
  wait "$served"
  [ ! -e "$work/only.sock" ] # removed at exit
}

# The commented curl lines of the README, one after the other.
follow_readme() {
  local line
  serve "$binary" --listen 127.0.0.1:0
  sed -n 's/^\(curl .*[^ ]\)  *# .*/\1/p' "$here/../README.md" | sed "s|http://127.0.0.1:7070|$base|" >lines
  same 'listening and publishing are shown' 1 "$(($(wc -l <lines) > 1))"
  while IFS= read -r line; do
    case $line in
      *' -N '*)
        bash -c "exec $line" >heard 2>/dev/null </dev/null &
        listener=$!
        started+=("$listener")
        eventually 'the listener is counted' subscribers_are demo 1
        ;;
      *) bash -c "$line" >>said 2>/dev/null </dev/null ;;
    esac
  done <lines
  eventually 'the stream has it' has '^data: hello' heard
  hang_up
  contains 'the answers' hello "$(cat said)"
  lacks 'the answers' '"error"' "$(cat said)"
}

# ---------------------------------------------------------------- publishing

d_is_the_body() {
  same status '202' "$(get -d 'hello=a b&c=%41' -o answer -w '%{http_code}' "$(channel d)")"
  same channel d "$(json 'd["channel"]' <answer)"
  get -D head "$(channel d)?since=earliest" >body
  same body 'hello=a b&c=%41' "$(cat body)"
  contains type 'Content-Type: text/plain; charset=utf-8' "$(cat head)"
  contains id "Holdline-Id: $(json 'd["id"]' <answer)" "$(cat head)"
}

json_is_kept_as_sent() {
  get --json '{"b": 1,  "a": [1.50, null]}' "$(channel json)" >/dev/null
  same body '{"b": 1,  "a": [1.50, null]}' "$(kept json)"
  same type application/json "$(get -o /dev/null -w '%{content_type}' "$(channel json)?since=earliest")"
  same 'not JSON' '400 bad_json' "$(get --json '{' -o answer -w '%{http_code}' "$(channel json)") $(json 'd["error"]' <answer)"
}

sizes_with_expect() {
  head -c 65536 /dev/urandom >full
  get -v -H 'Expect: 100-continue' --data-binary @full -o answer -w '%{time_total} %{size_upload}' "$(channel big)" >times 2>trace
  contains 'the interim answer' '< HTTP/1.1 100 Continue' "$(cat trace)"
  same 'bytes sent' 65536 "$(cut -d ' ' -f 2 times)"
  # curl sends after a second even if nobody says so.
  awk '$1 > 0.9 { print "it took " $1 " s"; exit 1 }' times
  kept big >came
  cmp full came
  head -c 65537 /dev/urandom >over
  same 'too large, with Expect: status and bytes sent' '413 0' \
    "$(get -H 'Expect: 100-continue' --data-binary @over -o answer -w '%{http_code} %{size_upload}' "$(channel big)")"
  same 'too large' '413 too_large' "$(get -H 'Expect:' --data-binary @over -o answer -w '%{http_code}' "$(channel big)") $(json 'd["error"]' <answer)"
}

uploads_are_chunked() {
  head -c 60000 /dev/urandom >part
  same status 202 "$({ head -c 20000 part; sleep 0.3; tail -c +20001 part; } | get -v -T - -o answer -w '%{http_code}' "$(channel up)" 2>trace)"
  contains method '> PUT /channels/up' "$(cat trace)"
  contains framing 'Transfer-Encoding: chunked' "$(cat trace)"
  kept up >came
  cmp part came
  same 'a file' 202 "$(get -T part -o answer -w '%{http_code}' "$(channel up2)")"
  kept up2 >came
  cmp part came
  head -c 5000000 /dev/zero >huge
  same 'far too large' 413 "$(get -T - -o answer -w '%{http_code}' "$(channel up)" <huge)"
}

form_and_header_options() {
  local first
  same 'a multipart form' 202 "$(get -F 'a=b' -o answer -w '%{http_code}' "$(channel form)")"
  contains 'its type' 'multipart/form-data; boundary=' "$(get -o /dev/null -w '%{content_type}' "$(channel form)?since=earliest")"
  get -H 'Event: price' -H 'Content-Type: text/csv' -H 'Idempotency-Key: k1' -d '1,2' "$(channel typed)" >first
  first=$(json 'd["id"]' <first)
  same 'published again' "$first" "$(get -H 'Idempotency-Key: k1' -d 'other' "$(channel typed)" | json 'd["id"]')"
  get -D head -o body "$(channel typed)?since=earliest"
  contains event 'Event: price' "$(cat head)"
  contains type 'Content-Type: text/csv' "$(cat head)"
  same body '1,2' "$(cat body)"
}

many_in_one_request() {
  seq 1 250 | sed 's/.*/{"channel":"batch","data":&}/' >lines
  same status 200 "$(get --data-binary @lines -o answers -w '%{http_code}' "$base/publish")"
  same answers 250 "$(grep -c '"id"' answers)"
}

# ---------------------------------------------------------------- versions, sockets, connections

asked_for_http2() {
  same 'publish' '1.1 202' "$(get --http2 -d two -o /dev/null -w '%{http_version} %{http_code}' "$(channel h2)")"
  same 'poll' '1.1 200 two' "$(get --http2 -o body -w '%{http_version} %{http_code}' "$(channel h2)?since=earliest") $(cat body)"
  listen stream --http2 "$(channel h2)?since=earliest"
  eventually 'the stream has it' has '^data: two' stream
  hang_up
  # Prior knowledge leaves nothing to fall back to: an error, and the server goes on.
  if get --http2-prior-knowledge -d two "$(channel h2)" 2>/dev/null; then return 1; fi
  same 'afterwards' 200 "$(get -o /dev/null -w '%{http_code}' "$base/health")"
}

http_1_0() {
  same publish 202 "$(get -0 -d old -o /dev/null -w '%{http_code}' "$(channel old)")"
  get -0 -D head -o body "$(channel old)?since=earliest"
  same poll old "$(cat body)"
  lacks 'the head' 'Transfer-Encoding' "$(cat head)"
  same 'without Host' 200 "$(get -0 -H 'Host:' -o /dev/null -w '%{http_code}' "$(channel old)")"
  same 'without Host on 1.1' 400 "$(get -H 'Host:' -o /dev/null -w '%{http_code}' "$(channel old)")"
  listen stream -0 -D stream.head "$(channel old)?since=earliest"
  eventually 'the stream has it' has '^data: old' stream
  lacks 'the head of the stream' 'Transfer-Encoding' "$(cat stream.head)"
  hang_up
}

unix_socket() {
  local to=(--unix-socket "$work/main.sock")
  listen stream "${to[@]}" "http://localhost/channels/sock"
  eventually 'it is counted' subscribers_are sock 1
  same 'published there' 201 "$(get "${to[@]}" -d via -o answer -w '%{http_code}' http://localhost/channels/sock)"
  same 'one that listened' 1 "$(json 'd["subscribers"]' <answer)"
  eventually 'the stream has it' has '^data: via' stream
  hang_up
  same 'read over TCP' via "$(kept sock)"
}

one_connection_for_many() {
  same 'new connections' '1 0 0 ' \
    "$(get -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects} ' -d one "$(channel keep)" "$(channel keep)" "$(channel keep)")"
}

# ---------------------------------------------------------------- receiving

stream_resumes() {
  local last
  listen before "$(channel s)"
  eventually 'it is counted' subscribers_are s 1
  for text in 1 2 3; do get -d "$text" -o /dev/null "$(channel s)"; done
  eventually 'three came' has '^data: 3' before
  hang_up
  contains 'the first block' 'retry: ' "$(head -n 1 before)"
  last=$(sed -n 's/^id: //p' before | tail -n 1)
  eventually 'it is gone' subscribers_are s 0
  get --data-binary $'4\nfour\r\n' -o /dev/null "$(channel s)"
  get -d 5 -o /dev/null "$(channel s)"
  listen after -H "Last-Event-ID: $last" "$(channel s)"
  eventually 'it is counted' subscribers_are s 1
  get -d 6 -o /dev/null "$(channel s)"
  eventually 'the last came' has '^data: 6' after
  hang_up
  same 'after the cut' 'data: 4|data: four|data: |data: 5|data: 6|' "$(grep '^data: ' after | tr '\n' '|')"
}

events_resume() {
  local last ids
  listen before "$base/events?channel=e1&channel=e2"
  eventually 'it is counted' subscribers_are e2 1
  get -d 1 -o /dev/null "$(channel e1)"
  eventually 'it came' has '"text":"1"' before
  hang_up
  last=$(sed -n 's/^id: //p' before | tail -n 1)
  get -d 2 -o /dev/null "$(channel e2)"
  get -d 3 -o /dev/null "$(channel e1)"
  listen after -H "Last-Event-ID: $last" "$base/events?channel=e1&channel=e2"
  eventually 'both came' has '"text":"3"' after
  hang_up
  same texts '2 3 ' "$(sed -n 's/^data: //p' after | while read -r line; do json 'd["text"]' <<<"$line"; done | tr '\n' ' ')"
  # Each envelope bears the id of its event.
  ids=$(sed -n 's/^data: //p' after | while read -r line; do json 'd["id"]' <<<"$line"; done)
  same ids "$ids" "$(sed -n 's/^id: //p' after | tail -n 2)"
}

poll_loop() {
  local url="$base/poll?channel=batch&since=earliest" rounds=0
  : >polled
  while :; do
    rounds=$((rounds + 1))
    [ "$rounds" -le 10 ]
    get "$url" >answer
    json '"\n".join(m["id"] + " " + str(m["data"]) for m in d["messages"])' <answer >>polled
    [ "$(json 'd["more"]' <answer)" = True ] || break
    url="$base/poll?channel=batch&since=$(json 'd["cursor"]' <answer)"
  done
  same 'all, in order' "$(seq 1 250)" "$(cut -d ' ' -f 2 polled)"
  same 'ids, each once' 250 "$(cut -d ' ' -f 1 polled | sort -u | wc -l)"
  same rounds 3 "$rounds"
}

poll_from_now() {
  local next
  get "$base/poll?channel=now" >answer
  same 'at once, empty' '0 False' "$(json 'str(len(d["messages"])) + " " + str(d["more"])' <answer)"
  next="$base/poll$(json 'd["next"]' <answer)"
  get "$next" >held &
  local poller=$!
  eventually 'it is counted' subscribers_are now 1
  get -d fresh -o /dev/null "$(channel now)"
  wait "$poller"
  same 'what it was held for' fresh "$(json 'd["messages"][0]["text"]' <held)"
  same 'over in time' '0 None' "$(get "$base/poll?channel=now&wait=1&since=$(json 'd["cursor"]' <held)" | json 'str(len(d["messages"])) + " " + str(d["gap"])')"
}

raw_poll_loop() {
  local cursor=earliest came=''
  for text in a b c d; do get -d "$text" -o /dev/null "$(channel raw)"; done
  while [ "$(get -D head -o body -w '%{http_code}' "$(channel raw)?wait=1&since=$cursor")" = 200 ]; do
    cursor=$(tr -d '\r' <head | sed -n 's/^Holdline-Cursor: //p')
    came+=$(cat body)
  done
  same came abcd "$came"
  contains 'the last answer' 'HTTP/1.1 204' "$(cat head)"
  contains 'the last answer' 'Holdline-Cursor: ' "$(cat head)"
}

heads_are_not_held() {
  local path
  for path in / /health /channels/x '/channels/x?since=latest&wait=20' '/events?channel=x' '/poll?channel=x&since=latest&wait=20'; do
    same "HEAD $path" '200 0' "$(curl -sS --max-time 2 -I -o head -w '%{http_code} %{size_download}' "$base$path")"
    contains "HEAD $path" 'Content-Type: ' "$(cat head)"
  done
  same 'HEAD of a stream' '200 text/event-stream' "$(curl -sS --max-time 2 -I -H 'Accept: text/event-stream' -o head -w '%{http_code} %{content_type}' "$(channel x)" | cut -d ';' -f 1)"
}

options_name_the_methods() {
  same OPTIONS 204 "$(get -X OPTIONS -D head -o /dev/null -w '%{http_code}' "$(channel x)")"
  for method in GET HEAD POST PUT DELETE OPTIONS; do
    contains Allow "$method" "$(grep -i '^Allow:' head)"
  done
  same 'OPTIONS *' 204 "$(get -X OPTIONS --request-target '*' -o /dev/null -w '%{http_code}' "$base")"
  get -X OPTIONS -H 'Origin: http://localhost:1' -H 'Access-Control-Request-Method: POST' -H 'Access-Control-Request-Headers: ttl' -D head "$(channel x)"
  contains 'the preflight' 'Access-Control-Allow-Origin: http://localhost:1' "$(cat head)"
  contains 'the preflight' 'TTL' "$(grep -i '^Access-Control-Allow-Headers:' head)"
}

others_are_told() {
  get -d x -o /dev/null "$(channel gone)"
  same DELETE 204 "$(get -X DELETE -o /dev/null -w '%{http_code}' "$(channel gone)")"
  same 'after it' 0 "$(get "$(channel gone)" | json 'd["messages"]')"
  same 'another origin' '403 origin' "$(get -H 'Origin: https://evil.example' -d x -o answer -w '%{http_code}' "$(channel x)") $(json 'd["error"]' <answer)"
  same 'another host' '421 host' "$(get -H 'Host: evil.example' -o answer -w '%{http_code}' "$(channel x)") $(json 'd["error"]' <answer)"
  same 'a bad position' '400 bad_since' "$(get -o answer -w '%{http_code}' "$(channel x)?since=") $(json 'd["error"]' <answer)"
  same 'no such path' '404 not_found' "$(get -o answer -w '%{http_code}' "$base/nowhere") $(json 'd["error"]' <answer)"
  same 'curl -f' 22 "$(get -f "$base/nowhere" 2>/dev/null >&2 || echo $?)"
}

stops_in_order() {
  serve "$binary" --listen 127.0.0.1:0
  listen stream "$base/events?channel=end"
  eventually 'it is counted' subscribers_are end 1
  get "$base/poll?channel=end&since=latest" >held &
  local poller=$!
  eventually 'both are counted' subscribers_are end 2
  kill -TERM "$served"
  wait "$listener" # curl calls a stream that is cut an error
  wait "$poller"
  wait "$served"
  contains 'the stream' 'event: bye' "$(tail -n 4 stream)"
  same 'the poll says when to come back' True "$(json 'd["retry_ms"] > 0' <held)"
}

check 'the banner can be followed (IPv4)' banner_ipv4
if grep -q '^0\{31\}1 ' /proc/net/if_inet6 2>/dev/null; then
  check 'the banner can be followed (IPv6)' banner_ipv6
else
  echo 'SKIPPED the banner on IPv6: this machine has no [::1]'
fi
check 'the banner can be followed (unix socket)' banner_unix
check 'the README can be followed' follow_readme

serve "$binary" --listen 127.0.0.1:0 --listen "unix:$work/main.sock"

check '-d: the body is the message, no form' d_is_the_body
check '--json: kept as sent; 400 if it is none' json_is_kept_as_sent
check '--data-binary: 64 KiB with Expect; 413 above, nothing sent' sizes_with_expect
check '-T -: chunked; -T FILE; 413' uploads_are_chunked
check '-F, Event, Content-Type, Idempotency-Key' form_and_header_options
check '--data-binary: 250 lines to /publish' many_in_one_request
check '--http2: answered with 1.1' asked_for_http2
check '--http1.0: publish, poll, stream' http_1_0
check '--unix-socket: publish, stream' unix_socket
check 'three requests, one connection' one_connection_for_many
check '-N: a raw stream resumes by Last-Event-ID' stream_resumes
check '-N: /events resumes by Last-Event-ID' events_resume
check '/poll in a loop: 250 messages, three answers' poll_loop
check '/poll: from now on, held, timed out' poll_from_now
check 'raw polls in a loop, by Holdline-Cursor' raw_poll_loop
check '-I: never held' heads_are_not_held
check '-X OPTIONS, *, a preflight' options_name_the_methods
check '-X DELETE, 400 403 404 421, -f' others_are_told
check 'SIGTERM: the stream and the poll end in order' stops_in_order
tally
