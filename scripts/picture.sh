#!/usr/bin/env bash
# Makes the README's picture: a chat with the bundled model and the dashboard beside it, typed by this
# script into a terminal of tmux and captured.
#   scripts/picture.sh build/release/tailor > docs/chat.svg
set -eu
tailor=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
term() { tmux -S "$work/socket" -f /dev/null "$@"; }
trap 'term kill-server; sleep 0.3; rm -rf "$work"' EXIT
wait_for() {
    for _ in $(seq 600); do
        if term capture-pane -t t -p | grep -qE -- "$1"; then return 0; fi
        sleep 0.1
    done
    echo "scripts/picture.sh: never saw '$1'" >&2
    exit 1
}
say() {
    term send-keys -t t -l "$1"
    term send-keys -t t Enter
    wait_for 'say something'
    wait_for '^ ready'
}
term new-session -d -s t -x 150 -y 30 -c "$work" env LC_ALL=C.UTF-8 TERM=xterm-256color COLORTERM=truecolor \
    HOME="$work" XDG_STATE_HOME="$work" XDG_RUNTIME_DIR="$work" \
    "$tailor" chat -m "$PWD/models/demo.gguf" --temp 0 --repeat-penalty 1.2 -n 160 --kv tailor
wait_for '^ ready'
term send-keys -t t F2
say 'Hello, who are you?'
say 'Tell me a story.'
say '/stats'
sleep 2
term capture-pane -t t -p -e | scripts/screen_svg.py 'tailor chat --kv tailor'
