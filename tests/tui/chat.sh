#!/usr/bin/env bash
# The full-screen chat as a user meets it: a conversation, a document, every command, editing, stopping,
# and whatever ends it. tests/tui/chat.sh TAILOR SOURCE_DIR
set -u
# shellcheck source=tests/tui/lib.sh
. "$(dirname "$0")/lib.sh"

open_terminal 80 24

# ---- a conversation ----
chat -n 80
wait_for 'tailor .*cache tailor'
wait_for 'say something'
line 'Hello, who are you?'
answered
wait_for '^> Hello, who are you\?'
screen | sed -n '/^> Hello/,$p' | sed '1,2d' | head -n 2 | grep -q '[a-z]' || fail "no answer"
line '/stats'
wait_for 'wrote [0-9]+ tokens'
line '/context'
wait_for '[0-9]+ of [0-9]+ tokens \('

# ---- a document, longer than a chunk ----
sed -n '1,60p' "$source_dir/README.md" >"$work/doc.md"
line "/read $work/doc.md"
wait_for 'bytes\) is part of your next message'
line 'What is this about?'
answered
line '/context'
wait_for '[0-9]{3,} of [0-9]+ tokens'

# ---- every command ----
line '/help'
keys PageUp
wait_for '/read FILE'
keys PageDown PageDown
line '/system Be brief.'
wait_for 'a new conversation under'
line 'Hi'
answered
line '/regen'
answered
line '/continue'
answered
line '/set temp 0.5'
wait_for 'temp 0.5, top-k 40'
line '/set parameter temperature 0'
wait_for 'temp 0, top-k 40'
line '/set n 6'
wait_for ', n 6'
line '/fork'
wait_for 'this is branch 2 now'
line 'More'
answered
line '/fork 1'
wait_for 'branch 1 of 2'
never '^> More'
line "/save $work/talk.json"
wait_for 'saved: [0-9]+ messages'
line "/export $work/talk.md"
wait_for 'written: '
grep -q '^## You' "$work/talk.md" || fail "the export has no headings"
line '/new'
wait_gone '^> Hi'
line "/load $work/talk.json"
wait_for '^> Hi'
line '/undo'
wait_gone '^> Hi$'
line "/load $work/talk.json"
wait_for '^> Hi'
line '/edit'
wait_gone '^  ?Hi there'
wait_for '^> Hi$'
keys -l ' there'
keys Enter
wait_for '^> Hi there'
answered
line '/copy'
wait_for 'copied, where the terminal allows'
line '/kv tailor'
wait_for 'the cache is tailor now'
line '/look'
wait_for 'nothing to tell|looked at'
line '/kv abacus'
wait_for "neither a preset"
line "/model $model"
wait_for 'the model is .* now'
line 'Hello again'
answered
line '/clear'
wait_gone 'Hello again'

# ---- what is wrong says so on the screen ----
line '/dance'
wait_for '! /dance: no such command'
line '/read /nonexistent'
wait_for '! /nonexistent: No such file'
line '/load /etc/passwd'
wait_for 'is no saved conversation'
line '/model /etc/passwd'
wait_for 'not a GGUF model file'
line '/load '"$model"
wait_for 'is a model, no saved conversation'
head -c 200000 "$model" >"$work/broken.gguf"
line "/model $work/broken.gguf"
wait_for '! .*broken.gguf'
wait_for 'the model is still'
printf '{"messages": [{"role": "user"' >"$work/broken.json"
line "/load $work/broken.json"
wait_for 'broken.json: is no saved conversation'
printf '{"messages": [{"role": "wizard", "content": 3}]}' >"$work/odd.json"
line "/load $work/odd.json"
wait_for 'message 1 is not'
line 'Still there?'
answered
wait_for '^> Still there'
# ---- what users of other programs try ----
line '/hlep'
wait_for 'is it /help\?'
line '/role pirate'
wait_for '/system TEXT'
line '.help'
wait_for 'begin with a slash'
line '/set verbose'
wait_for '/stats tells'
line '/set num_predict 7'
wait_for ', n 7'
line '/show'
wait_for 'feed forward .*iB'
line '/retry'
answered
line '"""one'
line 'two'
wait_for '^  two'
line '"""'
answered
wait_for '^> one'
never '^> """'
line "three \\"
wait_for '^> three *$'
line 'four'
answered
wait_for '^  four'
line '/set temp hot'
wait_for '/set: temp is a number'
line '/save'
line "/save $work/doc.md"
wait_for 'is there already'

# ---- the prompt ----
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
wait_for '^> (w|from|/|pasted|first|  )'
keys C-c
keys -l 'draft'
keys C-r
keys -l 'who are'
wait_for 'search: who are_'
wait_for '^> Hello, who are you'
keys C-r
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
    kill -s $signal "$(child 'tailor chat')"
    case $signal in TERM) code=143 ;; HUP) code=129 ;; SEGV) code=139 ;; ABRT) code=134 ;; esac
    wait_for "^code $code"
    restored
done

# ---- left with messages waiting: they are not begun ----
line "clear; $tailor chat -m $model --ignore-eos -c 100000; echo code \$?"
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
chat
keys -l 'half a'
keys C-z
wait_for 'Stopped'
line 'fg'
wait_for '^> half a'
keys -l ' message'
wait_for '^> half a message'
keys C-c
keys -l 'whole'
kill -STOP "$(child 'tailor chat')" # nobody can see this one coming
wait_for 'Stopped'
line 'fg'
wait_for '^> whole'
wait_for '^ ready'
keys C-c
line '/quit'
wait_gone 'say something'
restored

# ---- nothing to chat with, or with what is broken ----
echo 'no session' >"$work/broken.session"
line "clear; $tailor chat -m $model --session $work/broken.session; echo code \$?"
wait_for 'broken.session'
wait_for 'any key leaves'
keys x
wait_for '^code 1'
line "clear; $tailor chat -m /etc/passwd; echo code \$?"
wait_for 'not a GGUF model file'
wait_for 'any key leaves'
keys x
wait_for '^code 1'
echo "noise = #123456" >"$work/theme"
line "clear; $tailor chat -m $model --theme $work/theme; echo code \$?"
wait_for 'theme: line 1 is not'
wait_for '^code 1'

# ---- terminals that cannot, and pipes ----
for how in TERM=dumb TERM=nonsense; do
    line "clear; $how $tailor chat -m $model -n 3 --temp 0; echo code \$?"
    wait_for '^> $|^>$'
    line 'Hi'
    wait_for '^[A-Z]'
    line '/quit'
    wait_for '^code 0'
done
line "clear; echo Hi | $tailor chat -m $model -n 3 --temp 0 | cat; echo code \$?"
wait_for '^code 0'
line "clear; $tailor chat --plain -m $model -n 3 --temp 0; echo code \$?"
wait_for '^>'
line '/quit'
wait_for '^code 0'
echo "ok: $n_checks looks at the screen"
