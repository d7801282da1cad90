#!/usr/bin/env bash
# A conversation with the bundled model, a document, every command, wrong words and broken files, at three
# sizes of the terminal. tests/tui/commands.sh TAILOR SOURCE_DIR
set -u
# shellcheck source=tests/tui/lib.sh
. "$(dirname "$0")/lib.sh"

talk_at() { # COLS ROWS
open_terminal "$1" "$2"
rm -f "$work"/*.json "$work"/*.md

# ---- a conversation ----
chat -n 80
wait_for 'tailor Tailor demo, cache t'
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
for _ in 1 2; do cat "$source_dir/README.md"; done >"$work/doc.md"
line "/read $work/doc.md"
wait_for 'bytes\) is part of your next message'
line 'What is this about?'
wait_for 'reading [0-9]+ of [0-9]+ tokens, [0-9]+/s, [0-9]+ s left|reading [0-9]+% [0-9]+ s'
answered
line '/context'
wait_for '[0-9]{3,} of [0-9]+ tokens'

# ---- every command ----
line '/help'
scroll_to '/read FILE'
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
scroll_to 'feed forward .*iB'
line '/list'
scroll_to 'MiB +.{1,90}gguf' # a long path is broken
line '/glob /nonexistent/*'
wait_for 'no file matches'
mkdir -p "$work/docs"
echo first >"$work/docs/one.md"
echo second >"$work/docs/two.md"
line "/glob $work/docs/*.md"
wait_for 'one.md \(6 bytes\)'
wait_for 'two.md \(7 bytes\)'
line '/read -'
wait_for 'no document waits'
line '/plan'
scroll_to 'feed forward .*iB'
line '/compact'
wait_for 'nothing is summarised'
line '/? shortcuts'
wait_for 'F1 lists the keys'
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
keys C-c
leave
restored
}

for size in '44 14' '80 24' '150 45'; do
    # shellcheck disable=SC2086 # two words
    talk_at $size
    echo "$size: $n_checks looks so far"
done
echo "ok: $n_checks looks at the screen"
