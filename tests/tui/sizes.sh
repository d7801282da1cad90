#!/usr/bin/env bash
# The full screen at all sizes, in all colours, with wrong keys; the dashboard; tailor top.
# tests/tui/sizes.sh TAILOR SOURCE_DIR
set -u
# shellcheck source=tests/tui/lib.sh
. "$(dirname "$0")/lib.sh"

# ---- three sizes ----
open_terminal 20 5
chat -n 60
wait_for 'say something'
line 'Hi'
answered
[ "$(screen | wc -l)" -le 5 ] || fail "more than five rows"
bottom | grep -qE '[0-9]%$' || fail "no gauge of the context"
leave

# ---- help and plan, whole at every size ----
chat
for size in '20 5' '40 12' '80 24' '200 50'; do
    # shellcheck disable=SC2086 # two words
    resize $size
    keys F1
    wait_for '─ keys'
    wait_for '^.? ?Enter|│ Enter'
    keys End
    wait_for 'Shift\.'
    keys F4
    wait_for '─ plan'
    wait_for 'Tailor demo'
    keys End
    wait_for 'on the host|the host'
    keys Escape
    wait_gone '─ plan'
done
leave

open_terminal 80 24
chat --kv tailor -n 60
line 'Hello'
answered
keys F2
wait_for 'every [0-9]+ ms'
wait_for 'layer.*device.*host'
wait_for 'fidelity'
wait_for 'ms step [0-9.]+ compute [0-9.]+ transfer [0-9.]+ wait [0-9.]+'
screen | grep -q '^> Hello' || fail "stacked, the chat is gone"
keys F2
wait_gone 'every [0-9]+ ms'
leave

open_terminal 150 45
chat --kv tailor -n 60
line "/read $source_dir/README.md"
line 'What is this?'
answered
keys F2
wait_for '│.*every [0-9]+ ms'
wait_for '│ +0 top [0-9]+'
line '/regen'
wait_for 'looked at by layer 0'
wait_for '│ +0 .*%'
keys F3 # keys go to the dashboard
wait_for '▶ cache'
keys Down Down Enter
wait_for 'layer 2 of'
wait_for 'rows hit [1-9]'
keys Enter
keys s
wait_for '\^policy'
keys Right Right
wait_for 'vdevice'
keys r
wait_for '\^device'
keys Left
wait_for 'vtiers'
for name in host step hit history layer policy tiers device; do
    click_on "$name" 'layer.*policy'
    wait_for "[v^]$name"
done
keys Z
wait_for 'no such key here'
keys f
wait_for 'layers are not filtered'
keys M
wait_for 'vtiers'
keys z
keys p
wait_for 'PAUSED'
keys p +
wait_for 'every 1000 ms'
keys Escape
wait_gone '▶ cache'
keys F9
answered
wait_for 'looked at [0-9]+ rows'
keys F1
wait_for 'Ctrl\+X Ctrl\+E'
keys x F4
wait_for '─ plan'
wait_for 'layers 0 to 5: top [0-9]+ by codes'
wait_for 'sketch +[0-9.]+ [KM]iB'
wait_for 'feed forward +[0-9.]+ [KM]iB +F16: [a-z]'
keys Escape
wait_gone '─ plan'
click_on 'F1 help'
wait_for '─ keys'
keys Escape
wait_gone '─ keys'
click_on '     3 top'
wait_for '▶ cache'
click_on '     3 top'
wait_for 'layer 3 of 6'
keys Escape Escape
wait_gone '▶ cache'

# ---- only what changed is drawn, at most thirty times a second ----
term pipe-pane -t t "cat >$work/drawn"
for _ in 1 2 3 4 5 6; do # nothing happens: nothing is drawn (a busy machine is late, but it comes)
    sleep 1
    before=$(wc -c <"$work/drawn")
    sleep 1
    [ "$before" -eq "$(wc -c <"$work/drawn")" ] && break
done
keys F2
wait_gone 'every [0-9]+ ms'
sleep 1
before=$(wc -c <"$work/drawn")
sleep 2
[ "$before" -eq "$(wc -c <"$work/drawn")" ] || fail "an idle chat draws: $(tail -c 200 "$work/drawn" | od -c)"
line '/set n 300'
wait_for ', n 300'
term pipe-pane -t t
term pipe-pane -t t "cat >$work/drawn"
begin=$(date +%s%N)
line 'Tell me a long story'
answered
took_ms=$((($(date +%s%N) - begin) / 1000000))
frames=$(grep -oaE $'\033\\[\\?25h' "$work/drawn" | wc -l) # each ends with a cursor to be seen
bytes=$(wc -c <"$work/drawn")
[ "$frames" -gt 3 ] || fail "no frames were seen: $frames"
[ "$frames" -le $((took_ms * 30 / 1000 + 3)) ] || fail "$frames frames in $took_ms ms"
# A whole screen of this size is more than 6000 bytes; a fast answer puts many words into a frame.
[ $((bytes / frames)) -lt 4000 ] || fail "$bytes bytes in $frames frames: the whole screen is drawn"
term pipe-pane -t t
leave

# ---- resized while it streams ----
open_terminal 80 24
chat --kv tailor -n 16000 --ignore-eos
line 'Tell me a long story'
wait_for 'answering'
keys F2
for size in '20 5' '150 45' '40 12' '100 8' '21 40' '300 60' '20 5' '80 24'; do
    # shellcheck disable=SC2086 # two words
    resize $size
    sleep 0.4
    case $size in
    '20 5' | '21 40') bottom | grep -qE 'answering|ready' || fail "$size: no status" ;;
    *) bottom | grep -qE 'F10 quit' || fail "$size: no status line at the bottom" ;;
    esac
done
wait_for 'answering'

# ---- wrong keys, while it streams ----
keys Escape Escape
answered
line '/clear'
line 'Tell me a long story'
wait_for 'answering'
keys F11 F12 M-z M-x M-0 C-t C-_ C-] BTab IC PPage NPage NPage Home End C-Home C-End Up Down Left Right DC
keys -H 1b 5b 39 39 39 7e      # an unknown sequence
keys -H 1b 5b 4d 20 ff ff      # an old mouse report
keys -H ff fe 80 c3 28 00 7f   # broken UTF-8, NUL, DEL
keys -H 1b 5b 3c 36 34 3b 35 3b 35 4d # the wheel
keys -H 1b 5b 3c 30 3b 31 30 3b 31 30 4d # a click
sleep 0.3
never '^> .*(999|64;5)'
sleep 0.3
bottom | grep -qE 'answering' || fail "wrong keys: no status line"
seen '^> .*����' || fail "bytes that are no text are not shown as such"
keys Escape Escape
keys C-u
answered
keys C-u C-u C-c
leave
restored

# ---- colours, and none ----
open_terminal 80 24
for look in 'NO_COLOR=1' 'COLORTERM=truecolor' 'COLORTERM=' 'TERM=xterm' 'TERM=vt100' 'LC_ALL=C'; do
    start "$look $tailor chat -m $model --temp 0"
    wait_for '^ ready'
    keys F2
    wait_for 'context [^ ]* [0-9]'
    raw=$(term capture-pane -t t -p -e)
    case $look in
    NO_COLOR=1 | TERM=vt100) printf '%s' "$raw" | grep -q $'\033\\[[0-9;]*3[0-8]' && fail "$look: there are colours" ;;
    *truecolor) printf '%s' "$raw" | grep -q '38;2;' || fail "$look: no 24-bit colours" ;;
    COLORTERM=) printf '%s' "$raw" | grep -q '38;5;' || fail "$look: no 256 colours" ;;
    TERM=xterm) printf '%s' "$raw" | grep -q $'\033\\[3[0-7]m' || fail "$look: no 8 colours" ;;
    LC_ALL=C) printf '%s' "$raw" | LC_ALL=C grep -q $'[\x80-\xff]' && fail "$look: not ASCII" ;;
    esac
    leave
done

# ---- tailor top ----
export XDG_RUNTIME_DIR=$work/run
start "$tailor top --once"
wait_for 'no tailor is running'
wait_for '^code 1'
printf 'Tell me a story\n' >"$work/say"
# shellcheck disable=SC2024
"$tailor" chat -m "$model" -c 120000 --kv tailor -n 200000 --ignore-eos <"$work/say" >/dev/null 2>&1 &
first=$!
"$tailor" chat -m "$model" -c 120000 --kv full -n 200000 --ignore-eos <"$work/say" >/dev/null 2>&1 &
second=$!
start "$tailor top --once"
sleep 1
start "$tailor top --once"
wait_for "$first chat .* tailor "
wait_for "$second chat .* full "
"$tailor" top --once --json "$first" >"$work/json" || fail "top --once --json"
grep -q '"kv":"tailor".*"layers":\[{"layer":0' "$work/json" || fail "the JSON of top"
[ "$("$tailor" top --csv --once | wc -l)" -eq 3 ] || fail "top --csv --once: not three lines"
: >"$work/csv"
: >"$work/served"
"$tailor" top --csv -d 0.1 "$first" >"$work/csv" &
stream=$!
for _ in $(seq 100); do
    [ "$(wc -l <"$work/csv")" -ge 4 ] && break
    sleep 0.1
done
kill -INT $stream
[ "$(wc -l <"$work/csv")" -ge 4 ] || fail "top --csv -d 0.1: $(cat "$work/csv")"
port=$((20000 + $$ % 20000))
"$tailor" top --prometheus $port >"$work/served" &
server=$!
for _ in $(seq 100); do
    grep -q "^http://127.0.0.1:$port/metrics" "$work/served" && break
    sleep 0.1
done
exec 3<>/dev/tcp/127.0.0.1/$port
printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
cat <&3 >"$work/metrics"
exec 3<&-
kill -INT $server
for metric in num_requests_running num_requests_waiting kv_cache_usage_perc prompt_tokens_total \
    generation_tokens_total time_per_output_token_seconds_sum time_to_first_token_seconds_count \
    e2e_request_latency_seconds_count; do
    grep -qE "^tailor:$metric\{model_name=\"Tailor demo\",pid=\"$first\"\} [0-9.]" "$work/metrics" ||
        fail "prometheus: no $metric: $(head -n 30 "$work/metrics")"
done
for metric in inter_token_latency_seconds time_per_output_token_seconds time_to_first_token_seconds \
    e2e_request_latency_seconds request_generation_tokens; do
    grep -qE "^# TYPE tailor:$metric histogram$" "$work/metrics" || fail "prometheus: $metric is no histogram"
    grep -qE "^tailor:${metric}_bucket\{model_name=\"Tailor demo\",pid=\"$first\",le=\"\+Inf\"\} [0-9]" \
        "$work/metrics" || fail "prometheus: $metric has no buckets"
done
grep -qE "^tailor:request_success_total\{.*pid=\"$first\",finished_reason=\"length\"\} 0$" "$work/metrics" ||
    fail "prometheus: request_success_total"
[ "$(sed -n "s/^tailor:inter_token_latency_seconds_count{.*pid=\"$first\"} //p" "$work/metrics")" -gt 0 ] ||
    fail "prometheus: no tokens were timed"
grep -qE "^tailor:kv_cache_bytes\{.*layer=\"5\",tier=\"hot\"\} [1-9]" "$work/metrics" || fail "prometheus: no tiers"
start "TERM=dumb $tailor top"
wait_for "$first chat .* tailor "
wait_for '^code 0'
start "$tailor top"
wait_for "$first chat"
keys Tab
for _ in 1 2 3 4 5; do # its layers come with its next step
    sleep 0.3
    keys 1
    keys Enter
    if (wait_for 'layer 0 of' 8) >/dev/null; then break; fi
done
wait_for 'layer 0 of'
keys Escape
resize 20 5
resize 80 24 # at once: no other size for the program, but the screen is lost
keys '?'
wait_for 'the next tailor'
keys x
kill -9 "$second"
wait_for "$second chat +ENDED"
kill -9 "$first"
wait_for "$first chat +ENDED"
keys Z
wait_for 'no such key'
keys q
wait_for '^code 0'
wait "$first" "$second" 2>/dev/null
"$tailor" top --once >/dev/null 2>&1 && fail "top sees the dead"
[ -z "$(ls "$work/run/tailor")" ] || fail "the dead left files: $(ls "$work/run/tailor")"
restored
echo "ok: $n_checks looks at the screen"
