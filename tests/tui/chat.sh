#!/usr/bin/env bash
# The prompt and the process of the full-screen chat: editing, searching, stopping, and whatever ends it.
# tests/tui/chat.sh TAILOR SOURCE_DIR
set -u
# shellcheck source=tests/tui/lib.sh
. "$(dirname "$0")/lib.sh"

open_terminal 80 24

# ---- the prompt ----
chat -n 80
line 'Hello, who are you?'
answered
keys -l 'first'
keys M-Enter
keys -l 'second'
keys C-j
keys -l 'third'
wait_for '^  third'
keys C-c # clears
wait_gone '^  third'
keys Up
wait_for '^  third'
keys C-c
printf 'pasted one\npasted two' >"$work/paste"
term load-buffer "$work/paste"
term paste-buffer -p -t t
wait_for '^> pasted one'
wait_for '^  pasted two'
keys C-c
echo document >"$work/doc.md"
keys -l '/mod'
keys Tab
wait_for '^> /model$'
keys -l "$work/do"
keys Tab
wait_for '^> /model .*/doc.md'
keys C-c
keys -l 'w'
keys C-w
keys -l "ünïcödé 中文 😀"
wait_for '^> ünïcödé 中文 😀'
keys BSpace BSpace
wait_for '^> ünïcödé 中文$'
keys C-c
# shellcheck disable=SC2016 # for the script
printf '#!/bin/sh\necho from the editor >"$1"\n' >"$work/editor"
chmod +x "$work/editor"
keys C-d
wait_for '^code 0'
line "export EDITOR=$work/editor"
chat -n 4000 --ignore-eos
keys -l 'x'
keys C-x C-e
wait_for '^> from the editor'
keys C-c
grep -q 'Hello, who are you' "$work/state/tailor/history" || fail "no history file"
keys Up Up
wait_for '^> Hello, who'
keys C-c
keys -l 'draft'
keys C-r
keys -l 'who are'
wait_for 'search: who are_'
wait_for '^> Hello, who are you'
keys C-r C-r C-r
wait_for 'no more'
keys C-g
wait_for '^> draft'
keys C-c C-r
keys -l 'Hello, who'
wait_for '^> Hello, who are you'
keys Enter
wait_for 'answering'
keys Escape
answered
keys C-o
wait_for '^> from the editor'
keys C-c
keys F11
wait_for 'no such key; F1 lists them'

# ---- to the beginning and the end ----
line '/help'
line '/help'
line '/help'
wait_for 'a second one leaves'
keys C-Home
wait_for '^· Type a message'
keys C-Down
wait_gone '^· Type a message'
keys C-Up
wait_for '^· Type a message'
keys C-End
wait_gone 'more below'
wait_for 'a second one leaves'
keys M-'<'
wait_for '^· Type a message'
keys M-'>'
wait_for 'a second one leaves'
keys -l 'some words'
keys C-Left Delete
wait_for '^> some ords'
keys C-c

# ---- stopping ----
line 'Tell me a long story'
wait_for 'answering'
keys C-c
wait_for '^· stopped'
answered
line 'Tell me another story'
wait_for 'answering'
keys Escape
wait_for '^ ready'
line 'And another'
wait_for 'answering'
line '/context'
wait_for '1 waiting'
keys C-c
wait_for 'of [0-9]+ tokens \('
answered
keys C-c # the second one in a row
wait_for '^code 0'
restored
chat
keys C-c
wait_for 'Ctrl\+C again or Ctrl\+D leaves'
keys Left
wait_gone 'Ctrl\+C again'
keys C-c
wait_for 'Ctrl\+C again or Ctrl\+D leaves'
keys C-c
wait_for '^code 0'

# ---- however it ends, the terminal is as it was ----
for signal in TERM HUP SEGV ABRT; do
    chat
    kill -s $signal "$(child)"
    case $signal in TERM) code=143 ;; HUP) code=129 ;; SEGV) code=139 ;; ABRT) code=134 ;; esac
    wait_for "^code $code"
    restored
done

# ---- a model that is cut short while it is used ----
cp "$model" "$work/cut.gguf"
start "$tailor chat -m $work/cut.gguf"
wait_for '^ ready'
: >"$work/cut.gguf"
line 'hello'
wait_for 'a file in use was cut short'
wait_for '^code 1'
restored

# ---- left with messages waiting: they are not begun ----
start "$tailor chat -m $model --ignore-eos -c 100000"
wait_for 'say something'
line 'first'
wait_for 'answering'
line 'second'
line 'third'
wait_for '2 waiting'
keys F10
wait_for '^code 0'
restored

# ---- Ctrl+Z and back ----
line "clear; $tailor chat -m $model --temp 0"
wait_for '^ ready'
keys -l 'half a'
keys C-z
wait_for 'Stopped'
line 'fg'
wait_for '^> half a'
keys -l ' message'
wait_for '^> half a message'
keys C-c
keys -l 'whole'
kill -STOP "$(child)" # nobody can see this one coming
wait_for 'Stopped'
line 'fg'
wait_for '^> whole'
wait_for '^ ready'
keys C-c
line '/quit'
wait_gone 'say something'
restored

# ---- Ctrl+Z in the editor: the shell has the terminal, and all goes on; Ctrl+C is the editor's alone ----
# shellcheck disable=SC2016 # for the script
printf '#!/bin/sh\necho editor runs; sleep 60 & wait $!; wait; echo after >"$1"\n' >"$work/editor"
line "clear; $tailor chat -m $model --temp 0"
wait_for '^ ready'
keys C-o
wait_for 'editor runs'
keys C-z
wait_for 'Stopped'
line 'fg'
wait_for '^.*chat -m.*$'
sleep 0.5
keys C-c
wait_for 'the editor failed; the text is as it was'
line '/quit'
wait_gone 'say something'
restored

# ---- a model from a slow disk: how far, how fast, how long ----
start "TAILOR_TEST_LOAD=2 $tailor chat -m $model --temp 0 -n 3"
wait_for '^ . loading [0-9.]+[KM] of [0-9.]+M, [0-9.]+[KM]/s, [0-9]+ s left'
wait_for 'you can write already'
keys F2
wait_for 'loading [0-9.]+[KM] of [0-9.]+M'
keys F2
line 'Hello'
resize 20 5
wait_for '^ . loading [0-9]+%'
resize 80 24
wait_for '^ ready' 60
wait_for '· length' # what was written meanwhile is answered
leave
start "TAILOR_TEST_LOAD=2 $tailor chat -m $model"
wait_for 'loading'
keys F10 # nobody waits for it
wait_for '^code 0' 3
restored
start "TAILOR_TEST_LOAD=2 $tailor run -m $model -n 3 --temp 0 -p Hi"
wait_for 'loading [0-9.]+ [KM]iB of [0-9.]+ MiB, [0-9.]+ [KM]iB/s, [0-9]+ s left'
wait_for '^code 0' 60

# ---- nothing to chat with, or with what is broken ----
echo 'no session' >"$work/broken.session"
start "$tailor chat -m $model --session $work/broken.session"
wait_for 'broken.session'
wait_for 'any key leaves'
keys x
wait_for '^code 1'
start "$tailor chat -m /etc/passwd"
wait_for 'not a GGUF model file'
wait_for 'any key leaves'
keys x
wait_for '^code 1'
echo "noise = #123456" >"$work/theme"
start "$tailor chat -m $model --theme $work/theme"
wait_for 'theme: line 1 is not'
wait_for '^code 1'

# ---- terminals that cannot, and pipes ----
for how in TERM=dumb TERM=nonsense; do
    start "$how $tailor chat -m $model -n 3 --temp 0"
    wait_for '^> $|^>$'
    line 'Hi'
    wait_for '^[A-Z]'
    line '/quit'
    wait_for '^code 0'
done
start "echo Hi | $tailor chat -m $model -n 3 --temp 0 | cat"
wait_for '^code 0'
start "$tailor chat --plain -m $model -n 3 --temp 0"
wait_for '^>'
line '/quit'
wait_for '^code 0'
echo "ok: $n_checks looks at the screen"
